# SPDX-License-Identifier: Apache-2.0
"""NICs that support SR-IOV and offer no VFs: it is off in the card's firmware, or the platform hides it."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Card, Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.model.inventory import Pf
from vfagent.model.vf_parameters import ALLOWED_BY, vfs_of
from vfagent.policy.match import matches
from vfagent.policy.types import Policy

# PFs whose cards have SR-IOV, by vendor; the IDs are those that the kernel's drivers list for such models.
_INTEL = """
10c9 10e6 10e7 10e8 150a 150d 1518 1526 1521 1522 1523 1524 1546
10b6 10c6 10c7 10c8 10f7 10f8 10f9 10fb 10fc 1507 1514 1517 151c 1529 152a 1528 1560 1563 15d1 154a 154d 1557 1558
15aa 15ab 15ac 15ad 15c2 15c3 15c4 15c6 15c7 15c8 15ce 15e4 15e5
1572 1574 1580 1581 1583 1584 1585 1586 1587 1588 1589 158a 158b 15ff 37ce 37cf 37d0 37d1 37d2 37d3
1591 1592 1593 1599 159a 159b 188a 188b 188c 1890 1891 1892 1893 1894 12d1 12d3
"""
_MELLANOX = "1003 1007 1011 1013 1015 1017 1019 101b 101d 101f 1021 1023 1025 a2d2 a2d6 a2dc"
_BROADCOM = "16c8 16c9 16ca 16ce 16cf 16d0 16d1 16d2 16d6 16d7 16d8 16d9 16da 16de 1750 1751 1752 1760"
CAPABLE = {
    **{f"8086:{device}": "intel" for device in _INTEL.split()},
    **{f"15b3:{device}": "mellanox" for device in _MELLANOX.split()},
    **{f"14e4:{device}": "broadcom" for device in _BROADCOM.split()},
}
_ENABLE = {
    "intel": "in the card's own setup (HII, at boot) or with Intel's BootUtil, and SR-IOV in the host's firmware setup",
    "mellanox": "mstconfig -d {address} set SRIOV_EN=1 NUM_OF_VFS=16, then a cold start (package mstflint)",
    "broadcom": "in the card's own setup at boot, or with Broadcom's niccli, and SR-IOV in the host's firmware setup",
    "": "in the card's own setup or its vendor's tool, and SR-IOV in the host's firmware setup",
}
# LOCKDOWN_PCI_ACCESS: pci_write_config() and pci_mmap_resource() answer EPERM, and mstconfig needs them.
_ENABLE_LOCKED = (
    "devlink dev param set pci/{address} name enable_sriov value true cmode permanent, then the same with "
    "name total_vfs value 16 (if `devlink dev param show` has them), then a cold start; mstconfig is refused while the "
    "kernel is locked down ({lockdown}): it needs a boot without Secure Boot"
)
_ENABLE_MLX4_LOCKED = (
    "mstconfig -d {address} set SRIOV_EN=1 NUM_OF_VFS=16, then a cold start; the kernel is locked down ({lockdown}) "
    "and refuses it: boot once without Secure Boot"
)
_MLX4 = ("0x1003", "0x1007")  # ConnectX-3 and ConnectX-3 Pro; mlx4's devlink has no total_vfs
_ENABLE_IN_KERNEL = (
    "enable SR-IOV and 'above 4G decoding' in the host's firmware setup; journalctl -k -b shows why the kernel "
    "refused it; a kernel without CONFIG_PCI_IOV has no SR-IOV"
)


def sriov_off(facts: Facts) -> Iterator[Finding]:
    """Cards without a rule are reported only while there is no policy."""
    policy = facts.policy or Policy()
    for card in facts.cards:
        problem = why_no_vfs(card)
        rule = next((rule for rule in facts.rules if matches(rule.match, card.pf, facts.identity)), None)
        if problem is None or (rule is None and policy.files) or (rule and rule.vfs and rule.vfs.number == 0):
            continue
        yield Finding(
            "sriov-off",
            Severity.ERROR if rule else Severity.NOTE,
            card.pf.name,
            problem,
            f"rule {rule.name!r} cannot create VFs on it" if rule else "no VFs can be created on it",
            _ENABLE_IN_KERNEL if card.offered else vfs_of(card.pf.address, card.pf.driver) or _enable(facts, card.pf),
        )


def why_no_vfs(card: Card) -> str | None:
    """Why a card that supports SR-IOV has no VFs; None for a card without SR-IOV."""
    if not card.offered and vfs_of(card.pf.address, card.pf.driver):
        return "has the card's netdevs, and no VFs"
    if card.offered == 0:
        return "its firmware offers 0 VFs"
    if card.offered:
        return f"offers {card.offered} VFs, but the kernel did not enable SR-IOV for it"
    if _maker(card.pf):
        unsure = "" if card.readable else " (its configuration space could not be read)"
        return f"is a model with SR-IOV, but has no SR-IOV capability{unsure}"
    return None


def _maker(pf: Pf) -> str:
    return CAPABLE.get(f"{pf.vendor}:{pf.device}".replace("0x", ""), "")


def _enable(facts: Facts, pf: Pf) -> str:
    text = _ENABLE[maker := _maker(pf)]
    if maker == "mellanox" and facts.kernel.lockdown:
        text = _ENABLE_MLX4_LOCKED if pf.device in _MLX4 else _ENABLE_LOCKED
    return f"enable SR-IOV: {text.format(address=pf.address, lockdown=facts.kernel.lockdown)}"


def no_vfs_offered(facts: Facts) -> Iterator[Finding]:
    """The card has the capability, but sriov_totalvfs is 0."""
    for pf_facts, desired in facts.managed:
        if pf_facts.pf.totalvfs == 0 and desired.problem:
            yield Finding(
                "sriov-off",
                Severity.ERROR,
                pf_facts.pf.name,
                "sriov_totalvfs is 0: its firmware or its driver allows no VFs",
                f"rule {desired.rule!r} cannot create VFs on it",
                _allow(facts, pf_facts.pf),
            )


def _allow(facts: Facts, pf: Pf) -> str:
    if options := ALLOWED_BY.get(pf.driver or ""):
        return f"set {options} on the kernel's command line (modinfo -p {pf.driver}), and reboot"
    return vfs_of(pf.address, pf.driver) or _enable(facts, pf)
