# SPDX-License-Identifier: Apache-2.0
"""A host with a card for each way in which drivers surprise: what is plugged, how it behaves, and its rule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from errno import EBUSY, EINVAL, ENODEV, ENOSPC, EPROTONOSUPPORT

from tests.lab.labcard import KNOBS

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
    "counted later": CardCase("labcard", GUEST + "vlan = 10\n"),
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
        "i40e", TWO + GUEST + MAC + "vlan = 10\ntrust = false\nmax_tx_rate = 500\n", {"vf_reset_ms": 1500}
    ),
    "foreign VLAN": CardCase(
        "labcard", TWO + GUEST, before="echo 2 >/sys/bus/pci/devices/PF/sriov_numvfs; ip link set NETDEV vf 1 vlan 77"
    ),
    "no 802.1ad": CardCase(
        "labcard", TWO + GUEST + 'vlan = 10\nvlan_protocol = "802.1ad"\n', {"refuse/vlan": EPROTONOSUPPORT}
    ),
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
CARDS = [case.card for case in CASES.values()]


# A card that is plugged later, in the first domain that is free.
MANY = f"{len(CASES) + 1:04x}:01:00.0"
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


def policy(changes: Mapping[str, tuple[str, str]] | None = None) -> str:
    """The rule of each card; `changes`: what to replace in it, by what."""
    rules = (_rule(name, *(changes or {}).get(name, ("", ""))) for name in CASES)
    return "\n".join((*rules, MANY_RULE, BRIDGES))


def _rule(name: str, old: str, new: str) -> str:
    text = CASES[name].rule.format(domain=DOMAINS[name])
    assert old in text
    match = f'match = {{ pci = "{DOMAINS[name]:04x}:*" }}'
    return f'[[pf]]\nname = "{name.replace(" ", "-")}"\n{match}\n{text.replace(old, new, 1) if old else text}'


def preparations() -> str:
    """A shell program for a host whose cards are plugged and whose service does not run."""
    lines = ["set -e"]
    for name, case in CASES.items():
        lines += [f"echo {value} >{KNOBS}/{PFS[name]}/{knob}" for knob, value in case.knobs.items()]
        before = case.before.replace("NETDEV", f"$(ls /sys/bus/pci/devices/{PFS[name]}/net)")
        lines += [before.replace("PF", PFS[name])] if before else []
    return "\n".join(lines)
