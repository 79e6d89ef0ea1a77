# SPDX-License-Identifier: Apache-2.0
"""When what is not done is only deferred: exit status 5 of `apply`, which a rollout may accept."""

import pytest

from vfagent.model.ends_by import GuestEndsBy
from vfagent.model.status import GuestPhase, GuestStatus, PfStatus, Phase, PolicyStatus, Status


def status(*phases: Phase, guests: tuple[GuestStatus, ...] = (), bridges: tuple[str, ...] = ()) -> Status:
    pfs = tuple(PfStatus(str(number), None, None, None, None, phase, 1, 1, 8) for number, phase in enumerate(phases))
    policy = PolicyStatus((), "digest", 0.0)
    return Status(1, "0", 1, 0.0, ready=True, policy=policy, pfs=pfs, guests=guests, bridges=bridges)


def guest(phase: GuestPhase, until: GuestEndsBy | None) -> tuple[GuestStatus]:
    return (GuestStatus("web", phase, "unit", until=until),)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (status(Phase.CONVERGED), False),
        (status(Phase.CONVERGED, Phase.DEFERRED), True),
        (status(Phase.DEFERRED, Phase.FAILED), False),
        (status(Phase.DEFERRED, Phase.WAITING), False),
        (status(Phase.DEFERRED, bridges=("br0: no",)), False),
        (status(Phase.DEFERRED, guests=guest(GuestPhase.WAITING, GuestEndsBy.VF)), True),
        (status(Phase.DEFERRED, guests=guest(GuestPhase.WAITING, GuestEndsBy.FILE)), False),
        (status(Phase.DEFERRED, guests=guest(GuestPhase.FAILED, GuestEndsBy.BY_HAND)), False),
        (status(Phase.CONVERGED, guests=guest(GuestPhase.WAITING, GuestEndsBy.VF)), False),
    ],
)
def test_only_what_waits_for_users_is_deferred(*, reported: Status, expected: bool) -> None:
    assert reported.only_deferred is expected
