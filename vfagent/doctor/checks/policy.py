# SPDX-License-Identifier: Apache-2.0
"""Whether there is a policy, whether it is valid, and whether its rules match a PF."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.doctor.checks.firmware import why_no_vfs
from vfagent.model.inventory import Pf
from vfagent.policy.match import matches
from vfagent.policy.types import PfRule
from vfagent.policy.unmet import unmet_key


def policy_invalid(facts: Facts) -> Iterator[Finding]:
    for problem in facts.policy_problems:
        place, _, text = problem.partition(": ")
        yield Finding(
            "policy-invalid",
            Severity.ERROR,
            place if text else "policy",
            text or problem,
            "the policy is rejected as a whole: the previous one stays active; after a restart no policy is active",
            "correct it, then: vfagent check && systemctl reload vfagent",
        )


def policy_untrusted(facts: Facts) -> Iterator[Finding]:
    for path, text in facts.untrusted:
        what, _, why = text.partition(": ")
        defect, _, remedy = why.partition("; ")
        yield Finding(
            "policy-untrusted",
            Severity.ERROR,
            path,
            f"{what}: {defect}",
            "who can write it decides what vfagent does as root, or what a guest runs; who can read a secret has it",
            remedy,
        )


def policy_absent(facts: Facts) -> Iterator[Finding]:
    if facts.policy is not None and not facts.policy.files:
        yield Finding(
            "policy-absent",
            Severity.NOTE,
            "/etc/vfagent/policy.toml",
            "no policy file",
            "vfagent changes nothing on this host; doctor assumes that VFs are for guests",
            "write one: vfagent.toml(5), and the examples in /usr/share/doc/vfagent",
        )


def no_pf(facts: Facts) -> Iterator[Finding]:
    hidden = facts.stuck or any(why_no_vfs(card) for card in facts.cards)
    if not facts.pfs and not hidden and not (facts.policy and facts.policy.pf):
        yield Finding(
            "no-pf",
            Severity.NOTE,
            "PCI",
            "no function has SR-IOV",
            "no VFs can be created",
            "plug in a card with SR-IOV; if it is plugged in, enable SR-IOV in its firmware and in the host's",
        )


def rule_matches_nothing(facts: Facts) -> Iterator[Finding]:
    """A rule for another host is skipped; a card whose SR-IOV is off has its own finding."""
    for rule in facts.rules:
        if any(matches(rule.match, pf_facts.pf, facts.identity) for pf_facts in facts.pfs):
            continue
        cards = [card for card in facts.cards if matches(rule.match, card.pf, facts.identity)]
        if not any(why_no_vfs(card) for card in cards):
            yield _unmatched(rule, [pf_facts.pf for pf_facts in facts.pfs], [card.pf for card in cards])


def rule_shadowed(facts: Facts) -> Iterator[Finding]:
    used = {desired.rule for _, desired in facts.managed}
    for rule in facts.rules:
        first = next(
            ((entry.pf, desired) for entry, desired in facts.managed if matches(rule.match, entry.pf, facts.identity)),
            None,
        )
        if rule.name not in used and first:
            pf, desired = first
            yield Finding(
                "rule-shadowed",
                Severity.WARNING,
                f"rule {rule.name!r}",
                f"rule {desired.rule!r} comes first and matches {pf.name} too",
                "the first matching rule wins: this one does nothing",
                "put the narrower rule first",
            )


def _unmatched(rule: PfRule, known: list[Pf], without_sriov: list[Pf]) -> Finding:
    unmet = unmet_key(rule.match, known, known)
    present = f"; this host has {_names(known)}" if known else "; this host has no PF"
    problem = (
        f"matches {_names(without_sriov)}, which has no SR-IOV"
        if without_sriov
        else f"matches no PF{f': {unmet.describe()}' if unmet else ''}"
    )
    return Finding(
        "rule-unmatched",
        Severity.WARNING,
        f"rule {rule.name!r}",
        f"{problem}{present}",
        "the rule does nothing until such a card is plugged in",
        "compare its match with `vfagent list --json`",
    )


def _names(pfs: list[Pf]) -> str:
    return ", ".join(pf.name for pf in pfs)
