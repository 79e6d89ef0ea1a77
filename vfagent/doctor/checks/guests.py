# SPDX-License-Identifier: Apache-2.0
"""What guests need: QEMU, KVM, memory, their files, and a loader that boots through their VF."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import ARM, Facts, Kernel, error_if, managed_pfs
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.frozen import frozen
from vfagent.guests.spec.boot import Boot, Loader, boot_of
from vfagent.guests.spec.files import files_of, what_to_do
from vfagent.guests.spec.firmware import chosen, why_none
from vfagent.guests.spec.packages import EMULATOR, FIRMWARE
from vfagent.guests.spec.placement import expand
from vfagent.guests.spec.qemu import MACHINE, QEMU
from vfagent.policy.iscsi import iscsi_url, iscsi_urls, variable
from vfagent.policy.references import vf_reference
from vfagent.policy.types import GuestRule

# -device accepts JSON since 6.2; -blockdev and memfd are older.
_OLDEST_QEMU = (6, 2)
# iPXE's UEFI driver for it gets no DHCP answer while the spoof check is on (ipxe#646).
_SPOOF_CHECK_STOPS_UEFI = "8086:10ed"


@frozen(slots=True)
class WantedGuest:
    """A guest, the hardware of its VFs ("" if the PF is absent), and how it boots."""

    rule: GuestRule
    hardware: tuple[str, ...]
    boot: Boot | None


def wanted_guests(facts: Facts) -> tuple[WantedGuest, ...]:
    hardware = {desired.rule: pf_facts.vf_hardware for pf_facts, desired in facts.managed}
    guests = []
    for rule in expand(facts.guests, managed_pfs(facts)):
        vfs = tuple(hardware.get(vf_reference(text).label, "") for text in rule.vfs)
        guests.append(WantedGuest(rule, vfs, boot_of(rule, vfs, facts.programs.images) if all(vfs) else None))
    return tuple(guests)


def qemu_absent(facts: Facts) -> Iterator[Finding]:
    if QEMU in facts.programs.absent:
        yield Finding(
            "qemu-absent",
            Severity.ERROR if facts.wants_guests else Severity.NOTE,
            QEMU,
            "is missing",
            "no guest can start" if facts.wants_guests else "the policy has no guests; VFs are not affected",
            EMULATOR.hint,
        )


def qemu_too_old(facts: Facts) -> Iterator[Finding]:
    version = facts.programs.qemu
    if version and version < _OLDEST_QEMU:
        yield Finding(
            "qemu-old",
            error_if(wanted=facts.wants_guests),
            QEMU,
            f"is version {'.'.join(map(str, version))}",
            "it does not accept devices as JSON: no guest can start",
            "install QEMU 6.2 or later; Debian 12 has 7.2",
        )


def kvm_absent(facts: Facts) -> Iterator[Finding]:
    if not facts.kvm.device and (facts.wants_guests or not (facts.policy and facts.policy.files)):
        cause, advice = _why_no_kvm(facts.kernel)
        yield Finding(
            "kvm-absent",
            Severity.WARNING,
            "/dev/kvm",
            f"is missing: {cause}",
            "guests are emulated and at least ten times slower",
            advice,
        )


def _why_no_kvm(kernel: Kernel) -> tuple[str, str]:
    if any("disabled by bios" in line.lower() for line in kernel.log if "kvm" in line.lower()):
        return "the firmware disabled it", "enable VT-x or SVM in the firmware setup"
    if not kernel.virtualizes:
        return (
            "the CPU does not offer it",
            "this host is a VM: enable nested virtualization for it"
            if kernel.virtual
            else "enable VT-x or SVM in the firmware setup",
        )
    if kernel.cpu == ARM:
        return (
            "the kernel has started none (KVM: EL2, which its firmware must leave to it)",
            "journalctl -k -b | grep -iE 'kvm|hyp' shows why; boot a kernel with CONFIG_KVM",
        )
    module = "kvm_amd" if kernel.cpu == "AuthenticAMD" else "kvm_intel"
    return f"module {module} is not loaded", f"modprobe {module}; journalctl -k -b | grep kvm shows why it fails"


def kvm_unusable(facts: Facts) -> Iterator[Finding]:
    """The service probes KVM before its first guest: some KVMs hang."""
    kvm = facts.kvm
    if not kvm.device or not facts.wants_guests or (kvm.permitted and kvm.works is not False):
        return
    denied = not kvm.permitted
    yield Finding(
        "kvm-denied" if denied else "kvm-broken",
        Severity.WARNING,
        "/dev/kvm",
        "the group kvm cannot open it" if denied else "does not run a guest of 512 bytes",
        "guests are emulated and at least ten times slower",
        "udev's 50-udev-default.rules sets GROUP=kvm MODE=0660: find the rule that overrides it; then udevadm trigger "
        "/dev/kvm"
        if denied
        else "journalctl -u vfagent-kvm-probe shows QEMU's messages; nested KVM may be broken on this host. KVM is "
        "probed once per boot: rm /run/vfagent/kvm.json and restart vfagent to repeat it",
    )


def kvm_group_absent(facts: Facts) -> Iterator[Finding]:
    if not facts.kvm.group and facts.wants_guests:
        yield Finding(
            "kvm-group-absent",
            Severity.ERROR,
            "group kvm",
            "does not exist",
            "no guest's unit can start: it needs that group to open VFs and KVM",
            "groupadd --system kvm, then: udevadm control --reload && udevadm trigger",
        )


def cannot_boot(facts: Facts) -> Iterator[Finding]:
    for guest in wanted_guests(facts):
        if guest.boot and guest.boot.problem:
            yield Finding(
                "guest-cannot-boot",
                Severity.ERROR,
                f"guest {guest.rule.name}",
                guest.boot.problem,
                "the guest is not started",
                "vfagent.toml(5) describes [guest.kernel], [[guest.disk]] and the loaders",
            )


def firmware_absent(facts: Facts) -> Iterator[Finding]:
    for guest in wanted_guests(facts):
        rule, machine = guest.rule, guest.rule.machine or MACHINE
        if rule.firmware == "uefi" and not chosen(facts.programs.firmware, machine, secure_boot=rule.secure_boot):
            yield Finding(
                "guest-firmware-absent",
                Severity.ERROR,
                f"guest {rule.name}",
                why_none(machine, secure_boot=rule.secure_boot),
                "the guest cannot start",
                FIRMWARE.hint,
            )


def files_absent(facts: Facts) -> Iterator[Finding]:
    """One finding for a file, however many guests need it."""
    users: dict[tuple[str, str], list[str]] = {}
    for guest in wanted_guests(facts):
        for path, what in files_of(guest.rule, guest.boot):
            if path in facts.programs.absent:
                users.setdefault((path, what), []).append(guest.rule.name)
    for (path, what), names in users.items():
        yield Finding(
            "guest-file-absent",
            Severity.ERROR,
            path,
            f"{what} is missing",
            f"cannot start: {', '.join(names[:4])}{' …' if len(names) > 4 else ''}",
            what_to_do(path),
        )


def rom_unfit(facts: Facts) -> Iterator[Finding]:
    """The firmware runs a ROM only on the device that the ROM names."""
    roms = dict(facts.programs.roms)
    for guest in wanted_guests(facts):
        ipxe, firmware = guest.rule.ipxe, guest.rule.firmware
        path = ipxe.rom if ipxe and ipxe.loader == "rom" else None
        if path is None or path not in roms or not guest.hardware:
            continue
        images, wanted = roms[path], guest.hardware[0]
        if not images:
            problem = "is not a PCI ROM"
        elif wanted and not any(image.hardware == wanted for image in images):
            problem = f"is for {', '.join(sorted({image.hardware for image in images}))}; the VF is {wanted}"
        elif not any(image.runs_under(firmware) for image in images):
            problem = f"has no image that runs under {firmware}"
        else:
            continue
        yield Finding(
            "rom-unfit",
            Severity.ERROR,
            path,
            problem,
            f"guest {guest.rule.name} has nothing to boot from",
            f"build it for the VF, not the PF: make bin{'-x86_64-efi' if firmware == 'uefi' else ''}/"
            f"{wanted.replace(':', '') or 'VENDORDEVICE'}.{'efirom' if firmware == 'uefi' else 'rom'} in iPXE's src",
        )


def spoof_check_stops_rom(facts: Facts) -> Iterator[Finding]:
    checked = {
        desired.rule for _, desired in facts.managed if any(vf.settings.spoof_check is not False for vf in desired.vfs)
    }
    for guest in wanted_guests(facts):
        label = vf_reference(guest.rule.vfs[0]).label if guest.rule.vfs else ""
        by_rom = guest.boot is not None and guest.boot.loader is Loader.ROM and guest.rule.firmware == "uefi"
        if by_rom and guest.hardware[:1] == (_SPOOF_CHECK_STOPS_UEFI,) and label in checked:
            yield Finding(
                "spoof-check-uefi",
                Severity.WARNING,
                f"guest {guest.rule.name}",
                "boots from an 82599 VF with a UEFI ROM and the spoof check on",
                "iPXE was seen to get no DHCP answer in this case (ipxe#646)",
                'spoof_check = false for that VF, or firmware = "bios"',
            )


def target_silent(facts: Facts) -> Iterator[Finding]:
    """Only if the iSCSI server is this host; no packet is sent."""
    for guest in wanted_guests(facts):
        booted = guest.rule.ipxe.sanboot if guest.rule.ipxe else None
        known = (iscsi_url(url) for url in iscsi_urls((booted,)) if not variable(url))
        for disk in known:
            if disk.server in facts.programs.addresses and disk.port not in facts.programs.listening:
                yield Finding(
                    "target-silent",
                    Severity.WARNING,
                    f"guest {guest.rule.name}",
                    f"its iSCSI server {disk.server} is this host, where nothing listens on port {disk.port}",
                    "the guest's iPXE retries until the target is up",
                    "start the target (targetcli or tgt), and enable it at boot",
                )
