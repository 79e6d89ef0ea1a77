# SPDX-License-Identifier: Apache-2.0
"""vfio-pci and the PFs' drivers: whether they can be loaded, and which devices they are bound to."""

import re
from collections.abc import Iterable, Iterator

from vfagent.doctor.checks.facts import Facts, PfFacts, Source, error_if
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.model.desired import HOST_DRIVER, KEEP_DRIVER
from vfagent.model.evidence import VFIO_DRIVER, is_vfio

_BLOCKED = r"^\s*(?:blacklist\s+{0}(?:\s|$)|install\s+{0}\s+\S*(?:false|true)\b)"
# The VFs' module, where it is not the PF driver's own.
_VF_MODULES = {
    "igb": "igbvf",
    "ixgbe": "ixgbevf",
    "i40e": "iavf",
    "ice": "iavf",
    "cxgb4": "cxgb4vf",
    "nicpf": "nicvf",
    "rvu_nicpf": "rvu_nicvf",
    "octeon_ep": "octeon_ep_vf",
}
_IDS = re.compile(r"^\s*options\s+vfio[-_]pci\b.*?\bids=(\S+)", re.MULTILINE)


def vfio_absent(facts: Facts) -> Iterator[Finding]:
    if facts.kernel.has_vfio:
        return
    if not facts.kernel.can_load_vfio:
        cause = f"kernel {facts.kernel.release} has no module vfio-pci"
        advice = "boot a kernel that has it: Debian's linux-image-amd64 does, a cloud kernel may not"
    elif blocked := _blocked_by(facts, "vfio-pci"):
        cause, advice = f"is not loaded: {blocked} blocks it", "remove that entry, then: modprobe vfio-pci"
    else:
        cause = "is not loaded"
        advice = "modprobe vfio-pci; /usr/lib/modules-load.d/vfagent.conf loads it at boot"
    yield Finding(
        "vfio-absent",
        error_if(wanted=facts.wants_vfio),
        VFIO_DRIVER,
        cause,
        "no VF can be bound to it: binding a device does not load the driver",
        advice,
    )


def vfio_variant_absent(facts: Facts) -> Iterator[Finding]:
    """A VFIO driver of a card that a rule names; nothing loads those at boot."""
    wanted = {vf.driver for rule in facts.rules for vf in rule.vf if is_vfio(vf.driver) and vf.driver != VFIO_DRIVER}
    for driver in sorted(wanted - facts.kernel.drivers):
        blocked = _blocked_by(facts, driver)
        yield Finding(
            "vfio-variant-absent",
            Severity.ERROR,
            driver,
            f"is not loaded: {blocked} blocks it" if blocked else "is not loaded",
            "no VF can be bound to it: binding a device does not load the driver",
            f"{'remove that entry, then: ' if blocked else ''}modprobe {driver}; a line {driver} in"
            " /etc/modules-load.d/vfio-variants.conf loads it at boot",
        )


def _blocked_by(facts: Facts, module: str) -> str | None:
    """The file or the kernel parameter that keeps a module from being loaded."""
    name = "[-_]".join(re.escape(part) for part in re.split("[-_]", module))
    pattern = re.compile(_BLOCKED.format(name), re.MULTILINE)
    for file in facts.of(Source.MODPROBE):
        if pattern.search(file.text):
            return file.path
    for word in facts.kernel.cmdline.split():
        key, _, value = word.partition("=")
        if key in ("module_blacklist", "modprobe.blacklist") and re.search(rf"(?:^|,){name}(?:,|$)", value):
            return f"{word} on the kernel's command line"
    return None


def pf_driver_blocked(facts: Facts) -> Iterator[Finding]:
    """A PF driver that a rule names and that cannot be loaded."""
    rules = {rule.match.driver for rule in facts.rules if rule.match.driver}
    for driver in sorted(name for name in rules if re.fullmatch(r"[\w-]+", name)):
        if blocked := _blocked_by(facts, driver):
            yield Finding(
                "pf-driver-blocked",
                Severity.ERROR,
                f"driver {driver}",
                f"{blocked} blocks it from loading",
                "its cards have no driver, and a rule that matches that driver matches nothing",
                f"remove that entry, then: modprobe {driver}",
            )


def vf_driver_blocked(facts: Facts) -> Iterator[Finding]:
    """VFs that the kernel is to bind to their driver, whose module cannot be loaded: they stay without a driver."""
    for pf_facts, desired in facts.managed:
        module = _VF_MODULES.get(pf_facts.pf.driver or "")
        blocked = _blocked_by(facts, module) if module and module not in facts.kernel.drivers else None
        if module is None or blocked is None:
            continue
        bare = {vf.index for vf in pf_facts.pf.vfs if vf.driver is None}
        wanted = {vf.index: vf.driver for vf in desired.vfs if vf.driver in (HOST_DRIVER, module)}
        kept = {vf.index for vf in desired.vfs if vf.driver == KEEP_DRIVER} | (bare - {vf.index for vf in desired.vfs})
        if indices := sorted(wanted) or sorted(kept & bare):
            yield Finding(
                "vf-driver-blocked",
                _severity_of_absence(wanted.values()),
                pf_facts.pf.name,
                f"{blocked} blocks {module}, the driver of its VFs, from loading",
                f"VF {', '.join(map(str, indices))} stays without a driver: the host has no interface on it",
                f"remove that entry, then: modprobe {module}" if wanted else "none, if no VF is for the host itself",
            )


def _severity_of_absence(wanted: Iterable[str]) -> Severity:
    """A VF without a driver may be what the administrator wants, unless a rule names the driver."""
    words = set(wanted)
    if words - {HOST_DRIVER}:
        return Severity.ERROR
    return Severity.WARNING if words else Severity.NOTE


def pf_on_vfio(facts: Facts) -> Iterator[Finding]:
    ids = _vfio_ids(facts)
    for pf_facts in facts.pfs:
        if not is_vfio(pf_facts.pf.driver):
            continue
        by = ids.get(f"{pf_facts.pf.vendor}:{pf_facts.pf.device}".replace("0x", ""))
        yield Finding(
            "pf-on-vfio",
            Severity.ERROR if pf_facts.desired else Severity.NOTE,
            pf_facts.pf.name,
            f"the PF itself is bound to {pf_facts.pf.driver}{f', by {by}' if by else ''}",
            _why_no_vfs(facts, pf_facts),
            _other_driver(pf_facts, by),
        )


def _why_no_vfs(facts: Facts, pf_facts: PfFacts) -> str:
    """vfio_pci_sriov_configure() answers ENOENT unless enable_sriov is set; the VFIO variants have no such function."""
    if pf_facts.pf.driver != VFIO_DRIVER:
        return f"no VFs can be created on it: {pf_facts.pf.driver} creates none"
    if facts.kernel.vfio_sriov:
        return "vfagent creates no VFs on it; another program can, as vfio-pci's parameter enable_sriov is set"
    return "no VFs can be created on it: vfio-pci's parameter enable_sriov is not set, and vfagent creates none there"


def _other_driver(pf_facts: PfFacts, by: str | None) -> str:
    """A NIC is there by mistake or for a guest. An accelerator may be there on purpose: a process drives the PF."""
    if pf_facts.pf.is_nic:
        return (
            f"remove its ID from {by}, and reboot" if by else "bind it to its network driver, or leave it to the guest"
        )
    return (
        "where a process drives the PF on purpose (pf_bb_config): load vfio-pci with enable_sriov=1, let its "
        "tool create the VFs, and take the PF out of the policy; else bind it to its kernel driver or to pci-pf-stub"
    )


# The VFs of vfio_pci_dev_in_denylist(): those of QAT C3XXX, C62X and DH895XCC. What else it has is a PF or has no VFs.
_DENYLIST = frozenset(f"8086:{device}" for device in ("19e3", "37c9", "0443"))
_DENYLIST_OFF = re.compile(r"^\s*options\s+vfio[-_]pci\b.*?\bdisable_denylist(?:=[1Yy]|\s|$)", re.MULTILINE)


def vfio_denies(facts: Facts) -> Iterator[Finding]:
    """vfio_pci_probe() answers EINVAL for devices with known errata, unless disable_denylist is set."""
    for pf_facts, desired in facts.managed:
        wanted = any(vf.driver == VFIO_DRIVER for vf in desired.vfs)
        if wanted and _denylist_is_on(facts) and pf_facts.vf_hardware.lower() in _DENYLIST:
            yield Finding(
                "vfio-denylist",
                Severity.ERROR,
                pf_facts.pf.name,
                f"its VFs ({pf_facts.vf_hardware}) are in vfio-pci's own denylist: the kernel knows errata of them",
                "no VF can be bound to vfio-pci: EINVAL",
                "if no guest is untrusted: a line `options vfio-pci disable_denylist=1` in /etc/modprobe.d/vfio.conf, "
                "update-initramfs -u, and reboot (the parameter is read-only while the module is loaded)",
            )


def _denylist_is_on(facts: Facts) -> bool:
    """According to the loaded module, or else to the options that it will be loaded with."""
    if facts.kernel.has_vfio:
        return facts.kernel.vfio_denylist
    return not any(_DENYLIST_OFF.search(file.text) for file in facts.of(Source.MODPROBE))


def vfio_binds_ids(facts: Facts) -> Iterator[Finding]:
    ids = _vfio_ids(facts)
    for pf_facts, _ in facts.managed:
        if (by := ids.get(pf_facts.vf_hardware)) and pf_facts.vf_hardware:
            yield Finding(
                "vfio-ids",
                Severity.NOTE,
                pf_facts.pf.name,
                f"{by} binds vfio-pci to every device {pf_facts.vf_hardware}, and so to its VFs",
                "a VF that the policy leaves to the host is bound to vfio-pci first",
                f"remove that ID from {by}: vfagent binds each VF itself",
            )


def _vfio_ids(facts: Facts) -> dict[str, str]:
    """Each vendor:device that vfio-pci binds to, with the file or the command line that says so."""
    places = [(match[1], file.path) for file in facts.of(Source.MODPROBE) for match in _IDS.finditer(file.text)]
    for word in facts.kernel.cmdline.split():
        key, _, value = word.partition("=")
        if key in ("vfio-pci.ids", "vfio_pci.ids"):
            places.append((value, "the kernel's command line"))
    return {":".join(entry.split(":")[:2]).lower(): place for ids, place in places for entry in ids.split(",")}


def driver_overridden(facts: Facts) -> Iterator[Finding]:
    """driverctl applies its overrides at boot and whenever the device is added."""
    known = {
        vf.address: f"{pf_facts.pf.address}/vf{vf.index}" for pf_facts, _ in facts.managed for vf in pf_facts.pf.vfs
    }
    known |= {pf_facts.pf.address: pf_facts.pf.name for pf_facts, _ in facts.managed}
    for file in facts.of(Source.DRIVERCTL):
        address = file.path.rpartition("/")[2].removeprefix("pci-")
        if name := known.get(address):  # type: ignore[call-overload]
            yield Finding(
                "driverctl",
                Severity.WARNING,
                name,
                f"driverctl binds it to the driver {file.text.strip() or 'none'} ({file.path})",
                "two programs set its driver; with another VF count the address may belong to another VF",
                f"driverctl unset-override {address}",
            )
