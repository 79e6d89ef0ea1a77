# SPDX-License-Identifier: Apache-2.0
"""Others who were told to make VFs, or to set them: two owners of one card undo each other's work."""

from collections.abc import Callable, Iterator

from vfagent.diagnosis import networks, scripts
from vfagent.diagnosis.claim import Claim
from vfagent.diagnosis.facts import ExaminedPf, Facts, Source, TextFile
from vfagent.diagnosis.finding import Finding, Severity

READERS: dict[Source, Callable[[TextFile, ExaminedPf], Iterator[Claim]]] = {
    Source.LINK: networks.by_systemd,
    Source.NETWORK: networks.by_systemd,
    Source.NETPLAN: networks.by_netplan,
    Source.NM_PROFILE: networks.by_nm_profile,
    Source.NM_STATE: networks.by_nm_state,
    Source.UDEV: scripts.by_udev,
    Source.SCRIPT: scripts.by_script,
    Source.MODPROBE: scripts.by_option,
    Source.LIBVIRT: scripts.by_libvirt,
    Source.OPERATOR: scripts.by_operator,
}


def second_owner(facts: Facts) -> Iterator[Finding]:
    for one, desired in facts.managed:
        for claim in _claims(facts, one):
            yield Finding(
                "second-owner",
                Severity.ERROR if claim.writes else Severity.WARNING,
                one.pf.name,
                f"{claim.who} {claim.what} ({claim.path})",
                f"rule {desired.rule!r} says what its VFs are: each of the two undoes what the other does"
                if claim.writes
                else f"rule {desired.rule!r} says what its VFs are: two have a hand in it",
                claim.advice,
            )


def _claims(facts: Facts, one: ExaminedPf) -> Iterator[Claim]:
    for source, read in READERS.items():
        for file in facts.of(source):
            yield from read(file, one)
