# SPDX-License-Identifier: Apache-2.0
"""Changes of bridges' FDBs mark the PFs below these bridges dirty: a guest joined or left one."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from vfagent.frozen import frozen
from vfagent.kernel.fdb_monitor import FdbChange, FdbMonitor
from vfagent.model.pci import PciAddress
from vfagent.plan.fdb import bridges_above
from vfagent.reconcile.pf_state import PfState

_CHURN, _MINUTE_S = 10, 60.0


@frozen(slots=True)
class FdbLimits:
    """`delay_s`: until a reconcile, because a guest that starts makes several changes. `churn_delay_s`: the same after
    ten reconciles within a minute, so that a guest that changes its MAC all the time does not keep the service busy.
    `most_changes`: kept until then; after more, each PF below a bridge is reconciled."""

    delay_s: float = 1.0
    churn_delay_s: float = 15.0
    most_changes: int = 4096


LIMITS = FdbLimits()


class FdbEvents:
    def __init__(
        self,
        states: Callable[[], Iterable[PfState]],
        mark_dirty: Callable[[PciAddress], None],
        limits: FdbLimits = LIMITS,
    ) -> None:
        self._states, self._mark_dirty, self._limits = states, mark_dirty, limits
        self._monitor = FdbMonitor()
        self._changes, self._lost = set[FdbChange](), False
        self._timer: asyncio.TimerHandle | None = None
        self._times: deque[float] = deque(maxlen=_CHURN)

    def fileno(self) -> int:
        return self._monitor.fileno()

    def read(self) -> None:
        changes, lost = self._monitor.drain()
        self._changes |= changes
        self._lost = self._lost or lost or len(self._changes) > self._limits.most_changes
        if self._lost:
            self._changes.clear()
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._delay_s(loop.time()), self._handle)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._monitor.close()

    def _delay_s(self, now: float) -> float:
        churn = len(self._times) == _CHURN and now - self._times[0] < _MINUTE_S
        return self._limits.churn_delay_s if churn else self._limits.delay_s

    def _handle(self) -> None:
        changes, lost = self._changes, self._lost
        self._timer, self._changes, self._lost = None, set(), False
        concerned = [state.address for state in self._states() if _concerns(state, changes, lost=lost)]
        if concerned:
            self._times.append(asyncio.get_running_loop().time())
        for address in concerned:
            self._mark_dirty(address)


def _concerns(state: PfState, changes: set[FdbChange], *, lost: bool) -> bool:
    bridged = state.pf is not None and bool(bridges_above(state.pf))
    return (lost and bridged) or any(_follows(state, change) for change in changes)


def _follows(state: PfState, change: FdbChange) -> bool:
    """What an uplink brings does not concern the PF, unless it had been a guest's."""
    network = state.pf.network if state.pf and state.desired and state.desired.fdb else None
    if state.pf is None or network is None:
        return False
    if change.bridge is None:
        return change.ifindex in state.observed.ifindexes and change.mac in state.driver_state.fdb
    if all(bridge.ifindex != change.bridge for bridge in bridges_above(state.pf)):
        return False
    return change.ifindex not in network.uplinks or change.mac in state.driver_state.fdb
