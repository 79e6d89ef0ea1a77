# SPDX-License-Identifier: Apache-2.0
"""Any effect fails, once or each time."""

import errno

from hypothesis import given
from hypothesis import strategies as st

from tests.model import ledger
from tests.model.budget import examples
from tests.model.effects import Kind
from tests.model.facts import pf_facts, without_probe_window
from tests.model.hosts import Port, ports
from tests.model.policies import one_rule
from tests.model.process import Fault
from tests.model.test_kill import at_work, goal
from vfagent.model.status import MOST_ATTEMPTS
from vfagent.policy.types import Policy

ERRNOS = (
    errno.EBUSY,
    errno.EIO,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EAGAIN,
    errno.EINVAL,
    errno.EPERM,
    errno.ENODEV,
    errno.ERANGE,
    errno.ETIMEDOUT,
    errno.EROFS,
)
# The driver does not support the attribute: it is not tried again.
UNSUPPORTED = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
MOST_EFFECTS_A_PORT = 10
MOST_EFFECTS_A_VF = 14  # all attributes at once and one by one, a bind and an unbind


def once(number: int, failure: int) -> Fault:
    return lambda at, effect: failure if at == number else 0


def always(kind: Kind, failure: int) -> Fault:
    return lambda at, effect: failure if effect.kind is kind else 0


@given(port=ports(), policy=one_rule(), failure=st.sampled_from(ERRNOS), number=st.integers(0, 30))
@examples(150)
def test_after_a_single_failure_the_same_state_is_reached(
    *, port: Port, policy: Policy, failure: int, number: int
) -> None:
    ledger.counted["histories"] += 1
    wanted = goal(port, None, policy)
    agent, pf = at_work(port, None, policy)
    agent.converge(pf.address, fault=once(number, failure))
    run = agent.settle(pf.address)
    assert not run.failures
    assert not run.plan.steps
    assert without_probe_window(pf_facts(pf), wanted, policy) == wanted


@given(
    port=ports(),
    policy=one_rule(),
    kind=st.sampled_from([kind for kind in Kind if kind is not Kind.OTHER]),
    failure=st.sampled_from((*ERRNOS, *UNSUPPORTED)),
)
@examples(150)
def test_a_step_that_always_fails_ends_the_reconcile(*, port: Port, policy: Policy, kind: Kind, failure: int) -> None:
    ledger.counted["histories"] += 1
    agent, pf = at_work(port, None, policy)
    for _ in range(MOST_ATTEMPTS):
        run = agent.converge(pf.address, fault=always(kind, failure))
        tried = [effect for effect in run.done if effect.kind is kind]
        assert len(run.done) <= 10 + MOST_EFFECTS_A_VF * max(
            len(pf.vfs), len(run.observations[0].pf.vfs if run.observations[0].pf else ())
        )
        # Where net.ipv6.conf may not be written, the PF is made ready all the same.
        reported = run.failures or (kind is Kind.IPV6 and run.plan.problems)
        assert reported or not tried or kind is Kind.VF
