# SPDX-License-Identifier: Apache-2.0
"""What the kernel's log says of PFs and VFs, and what it means."""

import re
from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts, PfFacts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.frozen import frozen

_ADDRESS = r"(?P<address>[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_SPACE = (
    "switch 'above 4G decoding' and SR-IOV on in the firmware's setup; else boot with pci=realloc; "
    "or ask for fewer VFs where the card's setup limits their number"
)


@frozen(slots=True)
class Known:
    """A line that a PF's trouble leaves. The texts are those of drivers/pci/iov.c, setup-res.c and the drivers.

    `about_making`: it is about making VFs, and over once they are there.
    """

    check: str
    pattern: re.Pattern[str]
    follows: str
    advice: str
    severity: Severity = Severity.ERROR
    about_making: bool = True


def _line(text: str) -> re.Pattern[str]:
    return re.compile(rf"{_ADDRESS}:? (?:[\w.-]+: )?(?P<text>{text})")


KNOWN = (
    Known(
        "bar-space",
        _line(
            r"(?:not enough MMIO resources for SR-IOV|SR-IOV: IOV BARS not allocated"
            r"|VF BAR \d+ \[.*\]: (?:can't assign; no space|failed to assign).*"
            r"|BAR (?:[789]|1[0-2]):? (?:\[.*\]: )?(?:no space for|failed to assign|can't assign; no space).*)"
        ),
        "the VFs' registers find no room in the bridge's memory window: the kernel makes no VFs",
        _SPACE,
    ),
    Known(
        "bus-numbers",
        _line(r"(?:can't enable \d+ VFs \(bus .*|SR-IOV: bus number out of range)"),
        "the VFs need a bus number that the bridge does not have: the kernel makes no VFs",
        "boot with pci=assign-busses; switch ARI on in the firmware's setup; or ask for fewer VFs",
    ),
    Known(
        "no-vectors",
        _line(r"(?:.*(?i:only) \d+ MSI-X.*|.*(?i:not enough) (?:MSI-X|interrupt|device MSI-X).*)"),
        "the card has no interrupt vectors left for so many VFs",
        "ask for fewer VFs, or take vectors from the PF: ethtool -L, no RDMA, devlink resource",
    ),
    Known(
        "driver-limit",
        _line(
            r"(?:.*Limited to \d+ VFs due to device resource constraints.*"
            r"|.*Creating more than \d+ VFs is not allowed.*"
            r"|.*SR-IOV is not supported with XDP.*|.*Reject SRIOV config request since if is down.*)"
        ),
        "the driver makes no more VFs as the card is set up now",
        "ask for fewer VFs; or take from the PF what binds it: queues (ethtool -L), traffic classes, an XDP program",
    ),
    Known(
        "firmware-file",
        _line(r"(?:.*Direct firmware load for \S+ failed.*|.*failed to load firmware.*|firmware: failed to load.*)"),
        "the card may do less than it could, SR-IOV included",
        "install the package with its firmware: firmware-misc-nonfree, firmware-intel-misc, firmware-bnx2x …",
        Severity.WARNING,
        about_making=False,
    ),
    Known(
        "vf-registers",
        _line(r".*BAR \d: can't reserve .*"),
        "vfio-pci cannot give the device to a guest: something else holds its registers",
        "see what holds them in /proc/iomem; a console driver is booted away by video=efifb:off",
        about_making=False,
    ),
)


def known_lines(facts: Facts) -> Iterator[Finding]:
    """Each kind once for a device that the policy is about, with the last such line."""
    names = {str(address): one for one, _ in facts.managed for address in _addresses(one)}
    for kind in KNOWN:
        lines: dict[str, list[str]] = {}
        for line in facts.kernel.log:
            if (match := kind.pattern.search(line)) and match["address"] in names:
                lines.setdefault(match["address"], []).append(match["text"])
        for address, texts in lines.items():
            yield _finding(kind, names[address], address, texts)


def _addresses(one: PfFacts) -> list[str]:
    return [one.pf.address, *(vf.address for vf in one.pf.vfs)]


def _finding(kind: Known, one: PfFacts, address: str, texts: list[str]) -> Finding:
    """A PF that has all its VFs by now got over it."""
    over = kind.about_making and bool(
        one.desired and one.desired.numvfs is not None and len(one.pf.vfs) >= one.desired.numvfs > 0
    )
    ari = "; ARI is off on its bus" if kind.check == "bus-numbers" and one.ari is False else ""
    return Finding(
        kind.check,
        Severity.NOTE if over else kind.severity,
        one.pf.name if address == one.pf.address else address,
        f"the kernel's log: {texts[-1].strip()}{f' ({len(texts)} times)' if len(texts) > 1 else ''}{ari}",
        "the VFs are there all the same, by now" if over else kind.follows,
        kind.advice,
    )
