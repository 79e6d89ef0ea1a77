# SPDX-License-Identifier: Apache-2.0
"""vfio-pci: there, free to be loaded, and not grabbing what it should not."""

import re
from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts, Source, needed
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.model.inventory import VFIO_DRIVER

_BLOCKED = r"^\s*(?:blacklist\s+{0}\s*$|install\s+{0}\s+\S*(?:false|true)\b)"
_IDS = re.compile(r"^\s*options\s+vfio[-_]pci\b.*?\bids=(\S+)", re.MULTILINE)


def vfio_absent(facts: Facts) -> Iterator[Finding]:
    if facts.kernel.has_vfio:
        return
    if not facts.kernel.can_load_vfio:
        cause = f"kernel {facts.kernel.release} has no module vfio-pci"
        advice = "boot a kernel that has it: Debian's linux-image-amd64 does, a cloud kernel may not"
    elif blocked := _blocked_by(facts, "vfio-pci"):
        cause, advice = f"is not loaded: {blocked} forbids it", "remove that, then: modprobe vfio-pci"
    else:
        cause = "is not loaded"
        advice = "modprobe vfio-pci; at boot /usr/lib/modules-load.d/vfagent.conf does it"
    yield Finding(
        "vfio-absent",
        needed(wanted=facts.wants_vfio),
        VFIO_DRIVER,
        cause,
        "no VF can be bound to it: binding a driver does not load it",
        advice,
    )


def _blocked_by(facts: Facts, module: str) -> str | None:
    """The file, or the word on the kernel's command line, that keeps a module from being loaded."""
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
    """A PF whose driver somebody forbade, by the name that the policy gives it."""
    rules = {rule.match.driver for rule in facts.rules if rule.match.driver}
    for driver in sorted(name for name in rules if re.fullmatch(r"[\w-]+", name)):
        if blocked := _blocked_by(facts, driver):
            yield Finding(
                "pf-driver-blocked",
                Severity.ERROR,
                f"driver {driver}",
                f"{blocked} forbids to load it",
                "its cards have no driver, and a rule that asks for that driver matches nothing",
                f"remove that, then: modprobe {driver}",
            )


def pf_on_vfio(facts: Facts) -> Iterator[Finding]:
    ids = _vfio_ids(facts)
    for one in facts.pfs:
        if one.pf.driver != VFIO_DRIVER:
            continue
        by = ids.get(f"{one.pf.vendor}:{one.pf.device}".replace("0x", ""))
        yield Finding(
            "pf-on-vfio",
            Severity.ERROR if one.desired else Severity.NOTE,
            one.pf.name,
            f"the PF itself is bound to vfio-pci{f', by {by}' if by else ''}",
            "no VFs can be made on it: that takes the card's own driver",
            f"take its ID from {by}, and boot again"
            if by
            else "give it its own driver again, or leave it to the guest",
        )


def vfio_grabs_ids(facts: Facts) -> Iterator[Finding]:
    ids = _vfio_ids(facts)
    for one, _ in facts.managed:
        if (by := ids.get(one.vf_hardware)) and one.vf_hardware:
            yield Finding(
                "vfio-ids",
                Severity.NOTE,
                one.pf.name,
                f"{by} gives vfio-pci every device {one.vf_hardware}, which its VFs are",
                "a VF that the policy leaves to the host is bound to vfio-pci first",
                f"take that ID from {by}: vfagent binds each VF by itself",
            )


def _vfio_ids(facts: Facts) -> dict[str, str]:
    """vendor:device, each with the place that hands it to vfio-pci."""
    places = [(match[1], file.path) for file in facts.of(Source.MODPROBE) for match in _IDS.finditer(file.text)]
    for word in facts.kernel.cmdline.split():
        key, _, value = word.partition("=")
        if key in ("vfio-pci.ids", "vfio_pci.ids"):
            places.append((value, "the kernel's command line"))
    return {":".join(one.split(":")[:2]).lower(): where for ids, where in places for one in ids.split(",")}


def driver_overridden(facts: Facts) -> Iterator[Finding]:
    """driverctl replays these at boot and at each appearance of the device."""
    known = {vf.address: f"{one.pf.address}/vf{vf.index}" for one, _ in facts.managed for vf in one.pf.vfs}
    known |= {one.pf.address: one.pf.name for one, _ in facts.managed}
    for file in facts.of(Source.DRIVERCTL):
        address = file.path.rpartition("/")[2].removeprefix("pci-")
        if name := known.get(address):  # type: ignore[call-overload]
            yield Finding(
                "driverctl",
                Severity.WARNING,
                name,
                f"driverctl gives it the driver {file.text.strip() or 'none'} ({file.path})",
                "two programs choose its driver; with another count of VFs the address may be another VF's",
                f"driverctl unset-override {address}",
            )
