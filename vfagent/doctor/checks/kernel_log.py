# SPDX-License-Identifier: Apache-2.0
"""Known kernel log lines about PFs and VFs, with their consequence."""

import re
from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts, PfFacts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.frozen import frozen

_ADDRESS = r"(?P<address>[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_SPACE = (
    "enable 'above 4G decoding' and SR-IOV in the firmware setup; else boot with pci=realloc; "
    "or limit the card's VFs in its own setup, and set fewer in the policy"
)


@frozen(slots=True)
class KnownLine:
    """A kernel log line that reports a problem. The texts are from drivers/pci/iov.c, setup-res.c and the drivers.

    `creation`: VFs could not be created; solved once they exist.
    """

    check: str
    pattern: re.Pattern[str]
    consequence: str
    advice: str
    severity: Severity = Severity.ERROR
    creation: bool = True


def _line(text: str) -> re.Pattern[str]:
    return re.compile(rf"{_ADDRESS}:? (?:[\w.-]+: )?(?P<text>{text})")


KNOWN_LINES = (
    KnownLine(
        "bar-space",
        _line(
            r"(?:not enough MMIO resources for SR-IOV|SR-IOV: IOV BARS not allocated"
            r"|VF BAR \d+ \[.*\]: (?:can't assign; no space|failed to assign).*"
            r"|BAR (?:[789]|1[0-2]):? (?:\[.*\]: )?(?:no space for|failed to assign|can't assign; no space).*)"
        ),
        "the VFs' BARs do not fit into the bridge's memory window: the kernel creates no VFs",
        _SPACE,
    ),
    KnownLine(
        "bus-numbers",
        _line(r"(?:can't enable \d+ VFs \(bus .*|SR-IOV: bus number out of range)"),
        "the VFs need a bus number that the bridge does not have: the kernel creates no VFs",
        "boot with pci=assign-busses; enable ARI in the firmware setup; or set fewer VFs",
    ),
    KnownLine(
        "no-vectors",
        _line(r"(?:.*(?i:only) \d+ MSI-X.*|.*(?i:not enough) (?:MSI-X|interrupt|device MSI-X).*)"),
        "the card has no interrupt vectors left for so many VFs",
        "set fewer VFs, or free vectors of the PF: ethtool -L, no RDMA, devlink resource",
    ),
    KnownLine(
        "driver-limit",
        _line(
            r"(?:.*Limited to \d+ VFs due to device resource constraints.*"
            r"|.*Creating more than \d+ VFs is not allowed.*"
            r"|.*SR-IOV is not supported with XDP.*|.*Reject SRIOV config request since if is down.*)"
        ),
        "the driver creates no more VFs with the card's present configuration",
        "set fewer VFs; or free the PF's resources: queues (ethtool -L), traffic classes, an XDP program",
    ),
    KnownLine(
        "ice-safe-mode",
        _line(r".*(?:(?i:entering safe mode)|Device is in Safe Mode).*"),  # ice_log_pkg_init, ice_check_sriov_allowed
        "ice runs without its DDP package, in safe mode: it creates no VFs (EOPNOTSUPP)",
        "install the package with intel/ice/ddp/ice.pkg (firmware-intel-misc or firmware-misc-nonfree), "
        "update-initramfs -u, and load ice again or reboot; `devlink dev info` then shows fw.app",
    ),
    KnownLine(
        "reset-failed",
        _line(r"not ready \d+ms after .*; giving up"),  # pci_dev_wait
        "the device did not come back from a reset (FLR, bus reset): no guest can use it",
        "power the host off and on: a reboot may not be enough; update the card's firmware if it happens again",
        creation=False,
    ),
    KnownLine(
        "pcie-errors",
        _line(r"(?:PCIe Bus Error: severity=(?:Uncorrected|Uncorrectable).*|can't recover .*)"),  # drivers/pci/pcie
        "PCIe transactions of the device were lost: its driver resets it, or it stays unusable",
        "read the lines before and after it (journalctl -k); reseat the card, update its firmware and the host's",
        Severity.WARNING,
        creation=False,
    ),
    KnownLine(
        "pcie-corrected",
        _line(r"PCIe Bus Error: severity=Correct.*"),
        "the hardware repeated a PCIe transfer; many of them are a sign of a bad slot, riser or card",
        "reseat the card if their number grows",
        Severity.NOTE,
        creation=False,
    ),
    KnownLine(
        "firmware-file",
        _line(r"(?:.*Direct firmware load for \S+ failed.*|.*failed to load firmware.*|firmware: failed to load.*)"),
        "the card may lack features, SR-IOV included",
        "install the firmware package: firmware-misc-nonfree, firmware-intel-misc, firmware-bnx2x …",
        Severity.WARNING,
        creation=False,
    ),
    KnownLine(
        "vf-registers",
        _line(r".*BAR \d: can't reserve .*"),
        "vfio-pci cannot assign the device to a guest: something else uses its BARs",
        "find it in /proc/iomem; boot with video=efifb:off if it is a console driver",
        creation=False,
    ),
)


def known_lines(facts: Facts) -> Iterator[Finding]:
    """Each kind once for each managed device, with the last such line."""
    names = {str(address): pf_facts for pf_facts, _ in facts.managed for address in _addresses(pf_facts)}
    for kind in KNOWN_LINES:
        lines: dict[str, list[str]] = {}
        for line in facts.kernel.log:
            if (match := kind.pattern.search(line)) and match["address"] in names:
                lines.setdefault(match["address"], []).append(match["text"])
        for address, texts in lines.items():
            yield _finding(kind, names[address], address, texts)


def _addresses(pf_facts: PfFacts) -> list[str]:
    return [pf_facts.pf.address, *(vf.address for vf in pf_facts.pf.vfs)]


def _finding(kind: KnownLine, pf_facts: PfFacts, address: str, texts: list[str]) -> Finding:
    """A failed creation is only a note once the PF has all its VFs."""
    solved = kind.creation and bool(
        pf_facts.desired and pf_facts.desired.numvfs is not None and len(pf_facts.pf.vfs) >= pf_facts.desired.numvfs > 0
    )
    ari = "; ARI is disabled on its bus" if kind.check == "bus-numbers" and pf_facts.ari is False else ""
    return Finding(
        kind.check,
        Severity.NOTE if solved else kind.severity,
        pf_facts.pf.name if address == pf_facts.pf.address else address,
        f"kernel log: {texts[-1].strip()}{f' ({len(texts)} times)' if len(texts) > 1 else ''}{ari}",
        "none now: all VFs were created later" if solved else kind.consequence,
        kind.advice,
    )
