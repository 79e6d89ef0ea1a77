# SPDX-License-Identifier: Apache-2.0
"""The IOMMU, without which no VF can be given to a guest."""

import re
from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts, Kernel, PfFacts, needed
from vfagent.doctor.checks.finding import Finding, Severity

_FAULT = re.compile(
    r"DMAR: \[DMA (?:Read|Write).*?\] Request device \[([0-9a-f:.]+)\].*"
    r"|AMD-Vi: Event logged \[IO_PAGE_FAULT (?:device|domain)=(\S+).*"
    r"|([0-9a-f:.]+): AMD-Vi: Event logged \[IO_PAGE_FAULT.*"
)
_GRUB = "GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub"


def iommu_off(facts: Facts) -> Iterator[Finding]:
    if facts.iommu.on:
        return
    cause, advice = _why_off(facts.kernel, facts.iommu.table)
    yield Finding(
        "iommu-off",
        needed(wanted=facts.wants_vfio),
        "IOMMU",
        f"is off: there are no IOMMU groups; {cause}",
        "no VF can be bound to vfio-pci, so none can be given to a guest",
        advice,
    )


def _why_off(kernel: Kernel, table: str | None) -> tuple[str, str]:
    words = kernel.cmdline.split()
    options = {"DMAR": "intel_iommu", "IVRS": "amd_iommu", "GenuineIntel": "intel_iommu", "AuthenticAMD": "amd_iommu"}
    option = options.get(table or kernel.cpu, "iommu")
    if table == "" and kernel.virtual:
        return (
            "this host is a VM without one",
            "let its own host give it a virtual IOMMU (QEMU: intel-iommu,intremap=on)",
        )
    if table == "":
        firmware = "VT-d" if option == "intel_iommu" else "IOMMU (AMD-Vi)" if option == "amd_iommu" else "IOMMU"
        return "the firmware describes none", f"switch {firmware} on in the firmware's setup, and boot again"
    off = [word for word in words if word in (f"{option}=off", "iommu=off", "intremap=off")]
    if off:
        return (
            f"the kernel was told so: {' '.join(off)}",
            f"take {' '.join(off)} from the kernel's command line ({_GRUB}), and boot again",
        )
    if option == "intel_iommu" and "intel_iommu=on" not in words:
        return (
            "the kernel's command line has no intel_iommu=on",
            f"add intel_iommu=on iommu=pt to it ({_GRUB}), and boot again",
        )
    return "the kernel did not start it", "journalctl -k -b | grep -iE 'dmar|amd-vi|iommu' says why"


def interrupts_not_remapped(facts: Facts) -> Iterator[Finding]:
    if not facts.iommu.on or facts.iommu.remaps_interrupts is not False or facts.iommu.unsafe_interrupts:
        return
    yield Finding(
        "interrupts-not-remapped",
        needed(wanted=facts.wants_vfio),
        "IOMMU",
        "does not remap interrupts",
        "vfio refuses to give devices to guests: one could raise any interrupt of the host",
        "switch x2APIC or interrupt remapping on in the firmware's setup, and remove nointremap or intremap=off from "
        "the kernel's command line; only where guests are trusted: vfio_iommu_type1.allow_unsafe_interrupts=1",
    )


def interrupts_unsafe(facts: Facts) -> Iterator[Finding]:
    if facts.iommu.unsafe_interrupts and facts.iommu.remaps_interrupts is False:
        yield Finding(
            "interrupts-unsafe",
            Severity.WARNING,
            "vfio_iommu_type1",
            "allow_unsafe_interrupts is set, and interrupts are not remapped",
            "a guest with a VF can raise any interrupt of the host",
            "remove the option where the platform can remap interrupts, or trust the guests",
        )


def no_iommu_mode(facts: Facts) -> Iterator[Finding]:
    if facts.iommu.no_iommu:
        yield Finding(
            "no-iommu-mode",
            Severity.WARNING,
            "vfio",
            "enable_unsafe_noiommu_mode is set",
            "whoever holds such a VF can read and write all of the host's memory",
            "remove the option, and switch the IOMMU on",
        )


def group_shared(facts: Facts) -> Iterator[Finding]:
    """What the plan says of VFs that are there. Without an IOMMU that is said already."""
    for one, _ in facts.managed if facts.iommu.on else ():
        if problems := _problems(one, grouped=True):
            yield Finding(
                "group-shared",
                Severity.ERROR,
                one.pf.name,
                _shortened(problems),
                "vfio takes a group whole or not at all: these VFs cannot be given to guests",
                "put the card into a slot behind a port with ACS (lspci -vvv: ACSCtl: SrcValid+), or switch ACS on in "
                "the firmware's setup",
            )


def group_absent(facts: Facts) -> Iterator[Finding]:
    for one, _ in facts.managed if facts.iommu.on else ():
        if problems := _problems(one, grouped=False):
            yield Finding(
                "group-absent",
                Severity.ERROR,
                one.pf.name,
                _shortened(problems),
                "the card is not behind the IOMMU: these VFs cannot be given to guests",
                "put the card into another slot; journalctl -k -b | grep -iE 'dmar|amd-vi' tells what is",
            )


def _problems(one: PfFacts, *, grouped: bool) -> list[str]:
    """The plan's words on those of its VFs that have a group, or that have none."""
    indices = {vf.index for vf in one.pf.vfs if (vf.iommu_group is not None) is grouped}
    return [str(problem) for problem in one.plan.problems if problem.vf in indices]


def _shortened(problems: list[str]) -> str:
    more = f"; and {len(problems) - 2} VFs more" if len(problems) > 2 else ""
    return "; ".join(problems[:2]) + more


def group_will_be_shared(facts: Facts) -> Iterator[Finding]:
    """A port without ACS puts all that is behind it into one group, VFs to come included."""
    for one in facts.pfs:
        if one.companions and not one.pf.vfs and (one.desired or not facts.wants_vfio):
            wanted = bool(one.desired and any(vf.driver == "vfio-pci" for vf in one.desired.vfs))
            yield Finding(
                "group-shared-ahead",
                needed(wanted=wanted),
                one.pf.name,
                f"its IOMMU group holds other cards too: {', '.join(one.companions)}",
                "its VFs will be in that group, and vfio takes a group whole or not at all",
                "put the card into another slot, or switch ACS on in the firmware's setup",
            )


def iommu_faults(facts: Facts) -> Iterator[Finding]:
    found = [
        (next(group for group in match.groups() if group), match[0])
        for match in map(_FAULT.search, facts.kernel.log)
        if match
    ]
    for device in dict.fromkeys(device for device, _ in found):
        lines = [line for name, line in found if name == device]
        yield Finding(
            "iommu-fault",
            Severity.WARNING,
            device,
            f"the IOMMU refused its DMA {len(lines)} times, last: {lines[-1]}",
            "what it sent or received was lost",
            "look into the guest that has it: its driver asks for memory that it was not given",
        )
