# SPDX-License-Identifier: Apache-2.0
"""How long a reconcile that is asked for waits."""

import pytest

from vfagent.reconcile.requests import Request


def asked(*, urgent: bool = False, worked: tuple[float, float] | None = None) -> Request:
    """`worked`: when the reconcile before it began and ended."""
    request = Request()
    if worked:
        request.begin(worked[0])
        request.rest(worked[1])
    request.ask(urgent=urgent)
    return request


@pytest.mark.parametrize(
    ("request_", "known", "pending", "delay_s"),
    [
        (asked(), False, False, 1.0),  # a new device's events follow each other for a while
        (asked(urgent=True), False, False, 0.0),
        (asked(), True, False, 0.0),
        (asked(worked=(90.0, 98.9)), True, False, 0.0),
        (asked(worked=(99.8, 100.0)), True, False, 0.6),  # three times as long as that reconcile took
        (asked(worked=(99.0, 100.0)), True, False, 1.0),  # and at most this
        (asked(worked=(99.0, 100.0)), True, True, 0.1),  # the PF waits for something
        (asked(worked=(99.99, 100.0)), True, False, 0.1),  # a change's events come in a burst
        (asked(urgent=True, worked=(99.0, 100.0)), True, False, 0.0),
    ],
)
def test_a_reconcile_waits_for_the_events_that_follow(
    request_: Request, *, known: bool, pending: bool, delay_s: float
) -> None:
    assert request_.delay_s(100.0, known=known, pending=pending) == pytest.approx(delay_s)
