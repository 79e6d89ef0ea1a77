# SPDX-License-Identifier: Apache-2.0
"""The IOMMU, without which no VF can be assigned to a guest."""

import re
from collections.abc import Iterator

from vfagent.doctor.checks.facts import ARM, Facts, Kernel, PfFacts, error_if
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.model.evidence import is_vfio

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
        error_if(wanted=facts.wants_vfio),
        "IOMMU",
        f"is off: there are no IOMMU groups; {cause}",
        "in no-IOMMU mode vfio-pci can be bound, but QEMU gives no guest such a VF"
        if facts.iommu.no_iommu
        else "no VF can be bound to vfio-pci or assigned to a guest",
        advice,
    )


def _why_off(kernel: Kernel, table: str | None) -> tuple[str, str]:
    words = kernel.cmdline.split()
    if kernel.cpu == ARM and not kernel.virtual:
        return _why_no_smmu(table)
    options = {"DMAR": "intel_iommu", "IVRS": "amd_iommu", "GenuineIntel": "intel_iommu", "AuthenticAMD": "amd_iommu"}
    option = options.get(table or kernel.cpu, "iommu")
    if table == "" and kernel.virtual:
        return (
            "this host is a VM without an IOMMU",
            "give this VM a virtual IOMMU (QEMU: intel-iommu,intremap=on)",
        )
    if table == "":
        firmware = "VT-d" if option == "intel_iommu" else "IOMMU (AMD-Vi)" if option == "amd_iommu" else "IOMMU"
        return "the firmware describes none", f"enable {firmware} in the firmware setup, and reboot"
    off = [word for word in words if word in (f"{option}=off", "iommu=off", "intremap=off")]
    if off:
        return (
            f"the kernel's command line has {' '.join(off)}",
            f"remove {' '.join(off)} from it ({_GRUB}), and reboot",
        )
    if option == "intel_iommu" and "intel_iommu=on" not in words:
        return (
            "the kernel's command line has no intel_iommu=on",
            f"add intel_iommu=on iommu=pt to it ({_GRUB}), and reboot",
        )
    return "the kernel did not start it", "journalctl -k -b | grep -iE 'dmar|amd-vi|iommu' shows why"


def _why_no_smmu(table: str | None) -> tuple[str, str]:
    """ARM's IOMMU is described by IORT, of ACPI, or by the device tree."""
    log = "journalctl -k -b | grep -iE 'smmu|iort' shows what the kernel found"
    if table == "":
        return "the firmware describes no SMMU (IORT)", f"enable the SMMU in the firmware setup, and reboot; {log}"
    return (
        "the kernel did not start an SMMU",
        f"{log}; enable it in the firmware setup or the device tree; a board without one can give no VF to a guest",
    )


def interrupts_not_remapped(facts: Facts) -> Iterator[Finding]:
    if not facts.iommu.on or facts.iommu.remaps_interrupts is not False or facts.iommu.unsafe_interrupts:
        return
    yield Finding(
        "interrupts-not-remapped",
        error_if(wanted=facts.wants_vfio),
        "IOMMU",
        "does not remap interrupts",
        "vfio refuses to assign devices: a guest could inject any interrupt into the host",
        "enable x2APIC or interrupt remapping in the firmware setup, and remove nointremap or intremap=off from "
        "the kernel's command line; only with trusted guests: vfio_iommu_type1.allow_unsafe_interrupts=1",
    )


def interrupts_unsafe(facts: Facts) -> Iterator[Finding]:
    if facts.iommu.unsafe_interrupts and facts.iommu.remaps_interrupts is False:
        yield Finding(
            "interrupts-unsafe",
            Severity.WARNING,
            "vfio_iommu_type1",
            "allow_unsafe_interrupts is set, and interrupts are not remapped",
            "a guest with a VF can inject any interrupt into the host",
            "remove the option if the platform can remap interrupts; keep it only with trusted guests",
        )


def no_iommu_mode(facts: Facts) -> Iterator[Finding]:
    if facts.iommu.no_iommu:
        yield Finding(
            "no-iommu-mode",
            Severity.WARNING,
            "vfio",
            "enable_unsafe_noiommu_mode is set",
            "a process with such a VF can read and write all of the host's memory",
            "remove the option, and enable the IOMMU",
        )


def group_shared(facts: Facts) -> Iterator[Finding]:
    """The plan's problems with existing VFs. Without an IOMMU, iommu_off reports it."""
    for pf_facts, _ in facts.managed if facts.iommu.on else ():
        if problems := _problems(pf_facts, grouped=True):
            yield Finding(
                "group-shared",
                Severity.ERROR,
                pf_facts.pf.name,
                _shortened(problems),
                "vfio assigns only whole groups: these VFs cannot be assigned to guests",
                "put the card into a slot behind a port with ACS (lspci -vvv: ACSCtl: SrcValid+), or enable ACS in "
                "the firmware setup",
            )


def group_absent(facts: Facts) -> Iterator[Finding]:
    for pf_facts, _ in facts.managed if facts.iommu.on else ():
        if problems := _problems(pf_facts, grouped=False):
            yield Finding(
                "group-absent",
                Severity.ERROR,
                pf_facts.pf.name,
                _shortened(problems),
                "the card is not behind the IOMMU: these VFs cannot be assigned to guests",
                "put the card into another slot; journalctl -k -b | grep -iE 'dmar|amd-vi' lists devices behind it",
            )


def _problems(pf_facts: PfFacts, *, grouped: bool) -> list[str]:
    """The plan's problems with those of its VFs that have a group, or that have none."""
    indices = {vf.index for vf in pf_facts.pf.vfs if (vf.iommu_group is not None) is grouped}
    return [str(problem) for problem in pf_facts.plan.problems if problem.by_group and problem.vf in indices]


def _shortened(problems: list[str]) -> str:
    more = f"; and {len(problems) - 2} more VFs" if len(problems) > 2 else ""
    return "; ".join(problems[:2]) + more


def group_will_be_shared(facts: Facts) -> Iterator[Finding]:
    """A port without ACS puts all devices behind it into one group, future VFs included."""
    for pf_facts in facts.pfs:
        cause = _shared_by(pf_facts)
        if cause and not pf_facts.pf.vfs and (pf_facts.desired or not facts.wants_vfio):
            wanted = bool(pf_facts.desired and any(is_vfio(vf.driver) for vf in pf_facts.desired.vfs))
            yield Finding(
                "group-shared-ahead",
                error_if(wanted=wanted),
                pf_facts.pf.name,
                cause,
                "its VFs will be in that group, and vfio assigns only whole groups",
                "put the card into another slot, or enable ACS in the firmware setup",
            )


def _shared_by(pf_facts: PfFacts) -> str | None:
    if shared := pf_facts.pf.shared_group:
        users = ", ".join(shared.users)
        return f"{shared.port}, the port above it, has no ACS: IOMMU group {shared.number} has the port and {users}"
    others = ", ".join(pf_facts.companions)
    return f"its IOMMU group contains other cards too: {others}" if others else None


def iommu_faults(facts: Facts) -> Iterator[Finding]:
    faults = [
        (next(group for group in match.groups() if group), match[0])
        for match in map(_FAULT.search, facts.kernel.log)
        if match
    ]
    for device in dict.fromkeys(device for device, _ in faults):
        lines = [line for name, line in faults if name == device]
        yield Finding(
            "iommu-fault",
            Severity.WARNING,
            device,
            f"the IOMMU refused its DMA {len(lines)} times, last: {lines[-1]}",
            "that data was lost",
            "check the guest that has the device: its driver uses memory that is not mapped for it",
        )
