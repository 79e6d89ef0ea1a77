# SPDX-License-Identifier: Apache-2.0
"""A host with a card for each way in which drivers surprise: what is plugged, how it behaves, and its rule."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from errno import EBUSY, EINVAL, ENODEV, ENOSPC

from tests.lab.facts import SYSFS
from tests.lab.labcard import KNOBS, PfFacts, facts, set_knob
from tests.lab.vm import VM

GUEST = '[[pf.vf]]\ndriver = "vfio-pci"\n'
HOST = '[[pf.vf]]\ndriver = "host"\n'
MAC = 'mac = "52:54:00:00:{domain:02x}:{{index:02x}}"\n'
TWO = "vfs = 2\n"


@dataclass(frozen=True, slots=True)
class CardCase:
    """A card, in the words of tests/lab/card/main.c, and the rule of its PFs after name and match."""

    card: str
    rule: str
    knobs: Mapping[str, int] = field(default_factory=dict)
    before: str = ""  # run before the service, with PF for the address and NETDEV for its first netdev


CASES = {
    # How many VFs
    "stale": CardCase("labcard", TWO + GUEST, before="echo 4 >/sys/bus/pci/devices/PF/sriov_numvfs"),
    "steady": CardCase("ixgbe", TWO + 'hwmode = "vepa"\n' + GUEST + MAC + "vlan = 10\n"),
    "zero": CardCase("igb,vfs=0", "vfs = 0\n"),
    "impossible": CardCase("ice,vfs=0", TWO + GUEST),
    "no vectors": CardCase("ice", TWO + GUEST, {"refuse/numvfs": ENOSPC}),
    "xdp": CardCase("ixgbe", TWO + GUEST, {"refuse/numvfs": EINVAL}),
    "pair": CardCase("i40e,pfs=2", TWO + GUEST),
    "moving": CardCase("labcard,shift=1", TWO + GUEST + MAC + "vlan = 10\n"),
    "no cable": CardCase("bnxt_en,carrier=100000000", TWO + GUEST + "vlan = 10\n"),
    "counted later": CardCase("labcard", 'hwmode = "vepa"\n' + GUEST + "vlan = 10\n"),
    # Drivers of VFs
    "late netdev": CardCase("i40e", TWO + HOST + MAC, {"vf_netdev_ms": 4000}),
    "no VF driver": CardCase("mlx5_core", TWO + HOST, {"refuse/vf_probe": ENODEV}),
    "no IOMMU": CardCase("ice,iommu=0", TWO + GUEST),
    "one group": CardCase("labcard,acs=0", TWO + GUEST),
    "plain": CardCase("labcard", TWO + GUEST),
    "sibling": CardCase("labcard", TWO + HOST + MAC),
    "GPU": CardCase("xe", TWO + HOST),
    "host": CardCase("mlx5_core", TWO + HOST + MAC + "vlan = 10\n"),
    # Settings
    "resetting": CardCase(
        "i40e", TWO + GUEST + MAC + "vlan = 10\ntrust = false\nmax_tx_rate = 500\n", {"vf_reset_ms": 4000}
    ),
    "foreign VLAN": CardCase(
        "labcard", TWO + GUEST, before="echo 2 >/sys/bus/pci/devices/PF/sriov_numvfs; ip link set NETDEV vf 1 vlan 77"
    ),
    "no 802.1ad": CardCase("ixgbe", TWO + GUEST + 'vlan = 10\nvlan_protocol = "802.1ad"\n'),
    "busy": CardCase("labcard", TWO + GUEST + MAC, {"refuse/mac": EBUSY}),
    "jumbo": CardCase("ice", TWO + "mtu = 3000\n" + GUEST, before="ip link set NETDEV mtu 9000"),
    "small": CardCase("mlx5_core", TWO + "mtu = 3000\n" + GUEST),
    "guids": CardCase("ipoib", TWO + HOST + 'node_guid = "02:00:00:03:00:00:41:{{index:02x}}"\n'),
    "trusted": CardCase("mlx5_core", TWO + GUEST + "trust = true\n"),
    # Switch
    "vepa": CardCase("i40e", TWO + 'hwmode = "vepa"\n' + GUEST + MAC + "vlan = 10\n"),
    "switchdev": CardCase("mlx5_core", TWO + 'eswitch = "switchdev"\n' + GUEST + 'bridge = "br0"\n'),
    "switchdev ice": CardCase("ice", TWO + 'eswitch = "switchdev"\n' + GUEST + 'bridge = "br0"\n'),
    "small FDB": CardCase(
        "ixgbe",
        TWO + GUEST + '[[pf.vlan]]\nid = 30\nname = "v30"\nbridge = "br1"\n',
        {"fdb_limit": 2},
    ),
}
DOMAINS = {name: number for number, name in enumerate(CASES, 1)}
PFS = {name: f"{number:04x}:01:00.0" for name, number in DOMAINS.items()}
BRIDGES = '[[bridge]]\nname = "br0"\n\n[[bridge]]\nname = "br1"\n'
CARDS = {PFS[name]: case.card for name, case in CASES.items()}


# A card that is plugged later.
MANY_DOMAIN = len(CASES) + 1
MANY = f"{MANY_DOMAIN:04x}:01:00.0"
MANY_RULE = f'''
[[pf]]
name = "many"
match = {{ pci = "{MANY}", driver = "labcard" }}
vfs = 230

[[pf.vf]]
driver = "none"
mac = "52:54:00:01:00:{{index:02x}}"
vlan = 10
'''


def policy(changes: Mapping[str, tuple[str, str]] | None = None, names: Iterable[str] = tuple(CASES)) -> str:
    """The rule of each card; `changes`: what to replace in it, by what."""
    rules = (_rule(name, *(changes or {}).get(name, ("", ""))) for name in names)
    return "\n".join((*rules, MANY_RULE, BRIDGES))


def _rule(name: str, old: str, new: str) -> str:
    text = CASES[name].rule.format(domain=DOMAINS[name])
    assert old in text
    match = f'match = {{ pci = "{DOMAINS[name]:04x}:*" }}'
    return f'[[pf]]\nname = "{name.replace(" ", "-")}"\n{match}\n{text.replace(old, new, 1) if old else text}'


def preparations(names: Iterable[str] = tuple(CASES)) -> str:
    """A shell program for a host whose cards are plugged and whose service does not run."""
    lines = ["set -e"]
    for name, case in ((name, CASES[name]) for name in names):
        lines += [f"echo {value} >{KNOBS}/{PFS[name]}/{knob}" for knob, value in case.knobs.items()]
        before = case.before.replace("NETDEV", f"$(ls /sys/bus/pci/devices/{PFS[name]}/net)")
        lines += [before.replace("PF", PFS[name])] if before else []
    return "\n".join(lines)


def started(vm: VM, names: Collection[str]) -> dict[str, PfFacts]:
    """Of each PF, once the late netdevs are there. After that, no MAC is refused any more."""
    slow = [name for name in ("late netdev", "resetting") if name in names]
    vm.wait_for(lambda: all(one(vm, name).phase == "converged" for name in slow), 60)
    before = facts(vm)
    if "busy" in names:
        set_knob(vm, PFS["busy"], "refuse/mac", 0)
    return before


def one(vm: VM, name: str) -> PfFacts:
    return facts(vm)[PFS[name]]


def await_pf(vm: VM, name: str, holds: Callable[[PfFacts], bool], timeout: float = 60) -> PfFacts:
    """As it is after this holds and nothing is left to do: read anew, as it may change while it is read."""

    def there() -> bool:
        pf = one(vm, name)
        return pf.phase == "converged" and holds(pf)

    vm.wait_for(there, timeout)
    return one(vm, name)


def reload_with(vm: VM, changes: dict[str, tuple[str, str]]) -> None:
    vm.put("/etc/vfagent/policy.toml", policy(changes).encode())
    vm.run("systemctl reload vfagent.service", timeout=120)


def macs(name: str, count: int) -> list[str]:
    return [f"52:54:00:00:{DOMAINS[name]:02x}:{index:02x}" for index in range(count)]


# A new policy, and what it may not change while somebody uses the VF.
CHANGES = {
    "moving": ("vfs = 2", "vfs = 4"),
    "sibling": ('driver = "host"', 'driver = "vfio-pci"'),
    "GPU": ('driver = "host"', 'driver = "vfio-pci"'),
    "guids": ("41:{index:02x}", "42:{index:02x}"),
    "vepa": ('"vepa"', '"veb"'),
    "resetting": ("trust = false", "trust = true"),
    "trusted": ("trust = true", "trust = false"),
}


def change_in_use(vm: VM) -> dict[str, PfFacts]:
    """Before the new policy: a process has vf0 of some PFs, and the default route is by one on the host's driver."""
    before = facts(vm)
    users = [PFS[name] for name in ("vepa", "resetting", "trusted") if PFS[name] in before]
    for number, vf in enumerate(before[pf].vfs[0]["address"] for pf in users):
        vm.run(f"systemd-run --quiet --unit hold-{number} hold-vf {vf}")
        vm.wait_for(f"grep -q 1 {SYSFS}/{vf}/enable", 30)
    if sibling := before.get(PFS["sibling"]):
        name = f"$(ls {SYSFS}/{sibling.vfs[0]['address']}/net)"
        address, route = "ip address add 192.0.2.2/24 dev", "ip route add default via 192.0.2.1 metric 9"
        vm.run(f"{address} {name}; ip link set {name} up; {route}")
        set_knob(vm, PFS["sibling"], "vf_unbind_ms", 2000)
    reload_with(vm, CHANGES)
    return before


def change_back(vm: VM, before: Mapping[str, PfFacts]) -> None:
    """The old policy again, but for the GPU, once the VF with the default route is idle and on vfio-pci."""
    if sibling := before.get(PFS["sibling"]):
        name = f"$(ls {SYSFS}/{sibling.vfs[0]['address']}/net)"
        vm.run(f"ip address flush dev {name}; ip link set {name} down")
        await_pf(vm, "sibling", lambda pf: pf.drivers == ["vfio-pci"] * 2)
    reload_with(vm, {"GPU": (TWO + HOST, TWO + "assume_idle = true\n" + GUEST)})
