# SPDX-License-Identifier: Apache-2.0
"""Whether there is a policy, and whether what it names is there."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.doctor.checks.firmware import why_dark
from vfagent.model.inventory import Pf
from vfagent.policy.match import matches
from vfagent.policy.spelling import nearest
from vfagent.policy.types import PfMatch, PfRule


def policy_invalid(facts: Facts) -> Iterator[Finding]:
    for problem in facts.policy_problems:
        place, _, text = problem.partition(": ")
        yield Finding(
            "policy-invalid",
            Severity.ERROR,
            place if text else "policy",
            text or problem,
            "the whole policy is refused: what was in force before stays in force, after a restart nothing is",
            "mend it, then: vfagent check && systemctl reload vfagent",
        )


def policy_absent(facts: Facts) -> Iterator[Finding]:
    if facts.policy is not None and not facts.policy.files:
        yield Finding(
            "policy-absent",
            Severity.NOTE,
            "/etc/vfagent/policy.toml",
            "no policy file",
            "vfagent changes nothing on this host; what is found here is judged as if VFs were for guests",
            "write one: vfagent.toml(5), and the examples in /usr/share/doc/vfagent",
        )


def no_pf(facts: Facts) -> Iterator[Finding]:
    hidden = facts.stuck or any(why_dark(card) for card in facts.cards)
    if not facts.pfs and not hidden and not (facts.policy and facts.policy.pf):
        yield Finding(
            "no-pf",
            Severity.NOTE,
            "PCI",
            "no function with SR-IOV found",
            "there is nothing here to make VFs on",
            "plug a card in; where one is in, switch SR-IOV on in its firmware and in the host's",
        )


def rule_matches_nothing(facts: Facts) -> Iterator[Finding]:
    """A rule for another host is not meant for this one; a card whose SR-IOV is off has its own finding."""
    for rule in facts.rules:
        if any(matches(rule.match, one.pf, facts.identity) for one in facts.pfs):
            continue
        dark = [card for card in facts.cards if matches(rule.match, card.pf, facts.identity)]
        if not any(why_dark(card) for card in dark):
            yield _nothing(rule, [one.pf for one in facts.pfs], [card.pf for card in dark])


def rule_shadowed(facts: Facts) -> Iterator[Finding]:
    taken = {desired.rule for _, desired in facts.managed}
    for rule in facts.rules:
        theirs = [(one, want) for one, want in facts.managed if matches(rule.match, one.pf, facts.identity)]
        if rule.name not in taken and theirs:
            yield Finding(
                "rule-shadowed",
                Severity.WARNING,
                f"rule {rule.name!r}",
                f"rule {theirs[0][1].rule!r} comes first and matches {theirs[0][0].pf.name} as well",
                "the first rule that matches wins: this one does nothing",
                "put the narrower rule first",
            )


def _nothing(rule: PfRule, known: list[Pf], dark: list[Pf]) -> Finding:
    here = f"; here are: {_names(known)}" if known else "; there is no PF at all"
    found = (
        f"matches {_names(dark)}, which has no SR-IOV" if dark else f"no PF here matches{_culprit(rule.match, known)}"
    )
    return Finding(
        "rule-unmatched",
        Severity.WARNING,
        f"rule {rule.name!r}",
        f"{found}{here}",
        "the rule does nothing until such a card is plugged in",
        "compare it with `vfagent list --json`",
    )


def _names(pfs: list[Pf]) -> str:
    return ", ".join(pf.name for pf in pfs)


def _culprit(match: PfMatch, known: list[Pf]) -> str:
    """The key that no PF meets, and what it may have been meant to be."""
    values: dict[str, list[str | None]] = {
        "driver": [pf.driver for pf in known],
        "path": [pf.path for pf in known],
        "pci": [str(pf.address) for pf in known],
        "vendor": [pf.vendor.removeprefix("0x") for pf in known],
        "device": [pf.device.removeprefix("0x") for pf in known],
        "mac": [(pf.netdev.permanent_mac or pf.netdev.mac) if pf.netdev else None for pf in known],
        "interface": [pf.netdev.name if pf.netdev else None for pf in known],
    }
    for key, found in values.items():
        pattern, there = getattr(match, key), sorted({one for one in found if one})
        if pattern is not None and there and not any(fnmatchcase(one, pattern) for one in there):
            meant = nearest(pattern, there)
            return f" {key} = {pattern!r}" + (f" (did you mean {meant!r}?)" if meant else "")
    return ""
