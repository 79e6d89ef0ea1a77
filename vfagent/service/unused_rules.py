# SPDX-License-Identifier: Apache-2.0
"""Why a rule applies to no PF: for the status, and once in the journal."""

import logging
from collections.abc import Iterable

from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Pf
from vfagent.policy.match import HostIdentity, rules_for
from vfagent.policy.types import Policy
from vfagent.policy.unused import unused_rules
from vfagent.reconcile.pf_state import PfState

log = logging.getLogger(__name__)


class UnusedRules:
    def __init__(self, identity: HostIdentity) -> None:
        self.identity = identity
        self._texts: dict[str, str] = {}  # what was logged, by rule
        self._applied: set[str] = set()  # the rules that had a PF
        self._seen: tuple[Policy, list[tuple[Pf, DesiredPf | None]]] | None = None  # what the texts were made of

    def texts(self, policy: Policy, states: Iterable[PfState]) -> tuple[str, ...]:
        """A warning is logged for a rule that had a PF, or whose PF seems to be here by another name."""
        pfs = [(state.pf, state.desired) for state in states if state.pf]
        if self._seen and self._seen[0] is policy and self._seen[1] == pfs:
            return tuple(self._texts.values())  # each scrape asks, and each change of the status
        self._seen = policy, pfs
        rules = rules_for(self.identity, policy)
        self._applied |= {desired.rule for _, desired in pfs if desired}
        unused = unused_rules(rules, policy, self.identity, pfs)
        texts = {rule.rule: rule.describe("waits for a PF that it matches") for rule in unused}
        for rule in unused:
            if self._texts.get(rule.rule) != (text := texts[rule.rule]):
                level = logging.WARNING if rule.missed or rule.rule in self._applied else logging.INFO
                log.log(level, "policy: %s", text)
        self._texts = texts
        return tuple(texts.values())
