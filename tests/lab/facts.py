# SPDX-License-Identifier: Apache-2.0
"""The state of a PF and its VFs in the VM's kernel, read without vfagent."""

import json
from dataclasses import dataclass

from tests.lab.vm import VM

SYSFS = "/sys/bus/pci/devices"
# Prints a line for each VF: index, address, driver. The count comes from the links; sriov_numvfs takes a lock.
_LINKS = (
    "cd {base} 2>/dev/null && for link in $(ls -d virtfn* 2>/dev/null | sort -V); do "
    'echo "${{link#virtfn}} $(basename $(readlink $link)) $(basename $(readlink $link/driver 2>/dev/null) '
    '2>/dev/null)"; done; true'
)


@dataclass(frozen=True, slots=True)
class VfFacts:
    index: int
    address: str
    driver: str
    mac: str
    vlan: int


def netdev(vm: VM, pf: str) -> str:
    return vm.run(f"ls {SYSFS}/{pf}/net {SYSFS}/{pf}/virtio*/net 2>/dev/null | grep -v : | head -1").stdout.strip()


def link(vm: VM, pf: str) -> dict[str, object]:
    [facts] = json.loads(vm.run(f"ip -j -d link show {netdev(vm, pf)}").stdout)
    assert isinstance(facts, dict)
    return facts


def hwmode(vm: VM, name: str) -> object:
    """The mode of a card's bridge, by the netdev of its PF; None if the driver does not report it."""
    links = json.loads(vm.run(f"bridge -j -d link show dev {name}", check=False).stdout or "[]")
    return links[0].get("hwmode") if links else None


def vfs(vm: VM, pf: str) -> list[VfFacts]:
    """Each VF by sysfs, with its attributes by netlink from the PF."""
    lines = vm.run(_LINKS.format(base=f"{SYSFS}/{pf}")).stdout.splitlines()
    if not lines:
        return []
    infos = _infos(vm, pf)
    # A VF that is removed while it is read has only an index.
    return [_facts(words, infos) for line in lines if len(words := line.split()) > 1]


def _infos(vm: VM, pf: str) -> dict[int, dict[str, object]]:
    """By VF index; empty for a PF that is no NIC."""
    infos = link(vm, pf).get("vfinfo_list", []) if netdev(vm, pf) else []
    assert isinstance(infos, list)
    return {info["vf"]: info for info in infos}


def _facts(words: list[str], infos: dict[int, dict[str, object]]) -> VfFacts:
    index, driver = int(words[0]), words[2] if len(words) > 2 else ""
    info = infos.get(index, {})
    vlans = info.get("vlan_list", [])
    assert isinstance(vlans, list)
    return VfFacts(index, words[1], driver, str(info.get("address", "")), vlans[0].get("vlan", 0) if vlans else 0)


def journal(vm: VM, since: str = "") -> str:
    """The messages of the service's unit."""
    after = f"--since '{since}'" if since else ""
    return vm.run(f"journalctl --no-pager -o cat -u vfagent.service {after}").stdout


def now(vm: VM) -> str:
    return vm.run("date '+%Y-%m-%d %H:%M:%S.%6N'").stdout.strip()


def status(vm: VM) -> dict[str, dict[str, object]]:
    """Each PF's status by its address."""
    answer = json.loads(vm.run("vfagent status --json", check=False).stdout)
    return {pf["address"]: pf for pf in answer["pfs"]}
