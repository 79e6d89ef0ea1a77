# SPDX-License-Identifier: Apache-2.0
"""Rules that apply to no PF of a host, and why each does not. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vfagent.frozen import frozen
from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Pf
from vfagent.model.printable import printable
from vfagent.policy.match import HostIdentity, rules_for
from vfagent.policy.types import PfRule, Policy
from vfagent.policy.unmet import UnmetKey, unmet_key


@frozen(slots=True)
class UnusedRule:
    """`shadowed_by`: the earlier rules that apply to the PFs it matches. `sriov_off`: a card that it matches, and why
    that is no PF."""

    rule: str
    shadowed_by: tuple[str, ...] = ()
    unmet: UnmetKey | None = None
    sriov_off: str | None = None

    @property
    def missed(self) -> bool:
        """Its card seems to be here: by another name, or with its SR-IOV off."""
        return self.sriov_off is not None or (self.unmet is not None and self.unmet.nearly)

    def describe(self, otherwise: str) -> str:
        if self.shadowed_by:
            text = f"its PFs are taken by earlier rules: {', '.join(map(repr, self.shadowed_by))}"
        elif self.sriov_off:
            text = f"{otherwise}, but a card without VFs: {self.sriov_off} (see vfagent doctor)"
        else:
            text = f"{otherwise}: {self.unmet.describe()}" if self.unmet else otherwise
        return printable(f"rule {self.rule!r}: {text}")


def unused_rules(
    rules: Iterable[PfRule], policy: Policy, identity: HostIdentity, pfs: Sequence[tuple[Pf, DesiredPf | None]]
) -> list[UnusedRule]:
    """Those of `rules` that apply to none of the PFs. A rule for another host has nothing to match here."""
    applied = {desired.rule for _, desired in pfs if desired}
    shadowing = [(desired.rule, desired.shadowed_rules) for _, desired in pfs if desired]
    known, free = [pf for pf, _ in pfs], [pf for pf, desired in pfs if desired is None]
    here = {rule.name for rule in rules_for(identity, policy)}
    unused = []
    for rule in (rule for rule in rules if rule.name not in applied):
        blank = UnusedRule(rule.name, tuple(dict.fromkeys(name for name, later in shadowing if rule.name in later)))
        explained = not blank.shadowed_by and rule.name in here
        unused.append(replace(blank, unmet=unmet_key(rule.match, known, free)) if explained else blank)
    return unused
