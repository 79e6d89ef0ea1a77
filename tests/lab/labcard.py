# SPDX-License-Identifier: Apache-2.0
"""The cards of tests/lab/card: a module that makes PFs of any driver's name, without hardware."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.lab.module import kernel_module
from tests.lab.payload import Entry
from tests.lab.vm import VM

MODULE = "/usr/lib/labcard.ko"
KNOBS = "/sys/kernel/debug/labcard"
FACTS = "/usr/lib/card-facts.py"
# All in one command: where the host is emulated and busy, a command takes seconds.
_FACTS = """
import json, subprocess
from pathlib import Path

KNOBS, STATUS = Path("/sys/kernel/debug/labcard"), Path("/run/vfagent/status.json")

def name(link):
    return link.resolve().name if link.exists() else ""

def answer(*argv):
    return json.loads(subprocess.run(argv, check=False, capture_output=True).stdout or "[]")

def vf(link):
    if not link.exists():  # its device is gone
        return {"address": "", "override": "", "driver": "", "group": "", "macs": []}
    macs = [path.read_text().strip() for path in link.glob("net/*/address")]
    names = {"address": link.resolve().name, "override": (link / "driver_override").read_text().strip()}
    return {**names, "driver": name(link / "driver"), "group": name(link / "iommu_group"), "macs": macs}

# First: what it says holds when the kernel is read.
pfs = json.loads(STATUS.read_text())["pfs"] if STATUS.exists() else []
status = {pf["address"]: pf for pf in pfs}
# By number: udev may rename a new netdev meanwhile.
links = {link["ifindex"]: link for link in answer("ip", "-j", "-d", "link")}
modes = {link["ifindex"]: link["hwmode"] for link in answer("bridge", "-j", "-d", "link") if "hwmode" in link}
facts = {}
for pf in Path("/sys/bus/pci/devices").glob("*:01:*"):
    if not (KNOBS / pf.name).exists():
        continue
    virtfns = sorted(pf.glob("virtfn*"), key=lambda path: int(path.name[6:]))
    ports = sorted(index for index, link in links.items() if link.get("parentdev") == pf.name)
    vfs, links_of = [vf(link) for link in virtfns], [links[port] for port in ports]
    counts = {path.name: int(path.read_text()) for path in (KNOBS / pf.name / "counts").iterdir()}
    hwmode = modes.get(ports[0]) if ports else None
    fields = {"vfs": vfs, "links": links_of, "status": status.get(pf.name), "counts": counts, "hwmode": hwmode}
    facts[pf.name] = fields
print(json.dumps(facts))
"""


@dataclass(frozen=True, slots=True)
class PfFacts:
    """A PF as the kernel has it, read without vfagent, and vfagent's status of it."""

    vfs: list[dict[str, Any]]
    links: list[dict[str, Any]]
    status: dict[str, Any] | None
    counts: dict[str, int]
    hwmode: str | None

    @property
    def drivers(self) -> list[str]:
        return [vf["driver"] for vf in self.vfs]

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Of each VF, as the PF's first netdev reports them."""
        infos: list[dict[str, Any]] = self.links[0]["vfinfo_list"]
        return infos

    @property
    def macs(self) -> list[str]:
        return [vf["address"] for vf in self.settings]

    @property
    def vlans(self) -> list[int]:
        return [vf["vlan_list"][0].get("vlan", 0) for vf in self.settings]

    @property
    def phase(self) -> str | None:
        return self.status["phase"] if self.status else None


def labcard_tree(suite: str = "trixie") -> dict[str, Entry]:
    return {MODULE: Entry(kernel_module("labcard", "card", suite)), FACTS: Entry(_FACTS.encode())}


def facts(vm: VM) -> dict[str, PfFacts]:
    """By the PF's address."""
    answer = json.loads(vm.run(f"python3 {FACTS}", timeout=120).stdout)
    return {pf: PfFacts(**fields) for pf, fields in answer.items()}


def load(vm: VM, *cards: str) -> None:
    """With these cards, in the PCI domains 0001:, 0002: and so on; the head of main.c says how a card is written."""
    # The cards have no interrupts to remap, which VFIO asks for.
    unsafe = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    vm.run(f"modprobe -a vfio_iommu_type1 drm vdpa; echo 1 >{unsafe}")
    vm.run(f'insmod {MODULE} cards="{" ".join(cards)}"; udevadm settle', timeout=180)


def plug(vm: VM, card: str) -> None:
    """Into the first domain that is free."""
    vm.run(f"echo {card} >{KNOBS}/add; udevadm settle", timeout=180)


def complaints(vm: VM) -> list[str]:
    """What the kernel has to say of the cards, and whatever it warns of with a trace."""
    lines = vm.run("dmesg --level=emerg,alert,crit,err,warn").stdout.splitlines()
    return [line for line in lines if re.search(r"\bpci|labcard |WARNING|BUG|Call Trace|circular|hung task", line)]


def set_knob(vm: VM, pf: str, knob: str, value: int) -> None:
    vm.run(f"echo {value} >{KNOBS}/{pf}/{knob}")
