# SPDX-License-Identifier: Apache-2.0
"""What ends the phase that a PF is in."""

from typing import assert_never

from vfagent.model.ends_by import EndsBy
from vfagent.model.evidence import UIO_DRIVERS, is_vfio
from vfagent.model.inventory import Pf
from vfagent.model.status import Phase
from vfagent.reconcile.pf_state import PfState


def ends_by(state: PfState) -> EndsBy | None:
    """None where nothing is left to come: the PF is as the policy wants it, or no rule is for it."""
    match state.phase:
        case Phase.CONVERGED | Phase.UNMANAGED:
            return None
        case Phase.UNKNOWN:
            return EndsBy.OBSERVED
        case Phase.WAITING:
            return _waits(state)
        case Phase.CONVERGING:
            return EndsBy.RETRY if state.retries.failures and not state.progress.running else EndsBy.STEPS
        case Phase.DEFERRED:
            return EndsBy.USER
        case Phase.FAILED:
            return EndsBy.REFUSED if state.refused and not state.retries.suspended else EndsBy.CHANGE
        case Phase.STUCK:
            return EndsBy.KERNEL
        case Phase.RELEASED:
            return EndsBy.GIVEN
    assert_never(state.phase)


def _waits(state: PfState) -> EndsBy:
    """In the order of the planner."""
    if state.kernel_busy:
        return EndsBy.TURN
    return EndsBy.UDEV if state.pf is None else _pf_waits(state.pf)


def _pf_waits(pf: Pf) -> EndsBy:
    if pf.unobserved:
        return EndsBy.READABLE
    if pf.driver is None:
        return EndsBy.DRIVER if pf.initialized else EndsBy.UDEV
    if is_vfio(pf.driver) or pf.driver in UIO_DRIVERS:
        return EndsBy.OTHER_DRIVER
    if pf.netdev_away:
        return EndsBy.NETDEV_BACK
    if pf.netdev_pending and pf.netdev is None:
        return EndsBy.NETDEV
    return EndsBy.UDEV if pf.netdev and not pf.netdev.initialized else EndsBy.LINK
