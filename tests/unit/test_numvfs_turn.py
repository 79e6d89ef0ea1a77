# SPDX-License-Identifier: Apache-2.0
"""What a PF that has the turn writes of itself, for those that wait."""

import time

from vfagent.model.numvfs_lock import NumvfsOwner
from vfagent.model.pci import PciAddress
from vfagent.plan.steps import SetAutoprobe, SetNumvfs
from vfagent.reconcile.numvfs_turn import NumvfsTurn
from vfagent.reconcile.reports import Report, StepEnded, StepStarted

PF = PciAddress("0000:01:00.0")
REMOVAL, CREATION = SetNumvfs(PF, 0), SetNumvfs(PF, 64)


class Token:
    def __init__(self) -> None:
        self.owners, self.taken = list[NumvfsOwner](), False

    def take(self, within_s: float) -> bool:
        self.taken = True
        return True

    def owner(self) -> NumvfsOwner | None:
        return self.owners[-1] if self.owners else None

    def write(self, owner: NumvfsOwner) -> None:
        self.owners.append(owner)

    def free(self) -> None:
        self.taken = False


def test_a_write_hangs_for_others_only_after_the_time_that_it_may_take() -> None:
    """A creation of many VFs comes after a removal, and may take longer."""
    token, reports = Token(), list[Report]()
    turn = NumvfsTurn(token, (REMOVAL, CREATION), reports.append)
    assert turn.begin()
    begun = time.monotonic()
    for step, after_s in ((REMOVAL, 10), (SetAutoprobe(PF, on=False), 70), (CREATION, 100)):
        at = begun + after_s
        turn.emit(StepStarted(step, "", at))
        assert token.owners[-1].until > at + step.deadline_s
        assert token.owners[-1].since == token.owners[0].since
        assert token.taken
        turn.emit(StepEnded(step, at + 1))
    assert not token.taken
    assert len(reports) == 6
