# SPDX-License-Identifier: Apache-2.0
"""What the guest's kernel holds of a PF and its VFs, asked without vfagent."""

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
    [found] = json.loads(vm.run(f"ip -j -d link show {netdev(vm, pf)}").stdout)
    assert isinstance(found, dict)
    return found


def hwmode(vm: VM, name: str) -> object:
    """Of the switch of a card, by the netdev of its PF; None where its driver says nothing of it."""
    found = json.loads(vm.run(f"bridge -j -d link show dev {name}", check=False).stdout or "[]")
    return found[0].get("hwmode") if found else None


def vfs(vm: VM, pf: str) -> list[VfFacts]:
    """Each VF by sysfs, and what its PF holds for it by netlink."""
    lines = vm.run(_LINKS.format(base=f"{SYSFS}/{pf}")).stdout.splitlines()
    if not lines:
        return []
    infos = _infos(vm, pf)
    # A VF that goes while it is read has an index and no more.
    return [_facts(words, infos) for line in lines if len(words := line.split()) > 1]


def _infos(vm: VM, pf: str) -> dict[int, dict[str, object]]:
    """By VF index; none of a PF that is no NIC."""
    found = link(vm, pf).get("vfinfo_list", []) if netdev(vm, pf) else []
    assert isinstance(found, list)
    return {info["vf"]: info for info in found}


def _facts(words: list[str], infos: dict[int, dict[str, object]]) -> VfFacts:
    index, driver = int(words[0]), words[2] if len(words) > 2 else ""
    info = infos.get(index, {})
    vlans = info.get("vlan_list", [])
    assert isinstance(vlans, list)
    return VfFacts(index, words[1], driver, str(info.get("address", "")), vlans[0].get("vlan", 0) if vlans else 0)


def journal(vm: VM, since: str = "") -> str:
    """The agent's own lines."""
    after = f"--since '{since}'" if since else ""
    return vm.run(f"journalctl --no-pager -o cat -u vfagent.service {after}").stdout


def now(vm: VM) -> str:
    return vm.run("date '+%Y-%m-%d %H:%M:%S.%6N'").stdout.strip()


def status(vm: VM) -> dict[str, dict[str, object]]:
    """Each PF's status by its address."""
    found = json.loads(vm.run("vfagent status --json", check=False).stdout)
    return {pf["address"]: pf for pf in found["pfs"]}
