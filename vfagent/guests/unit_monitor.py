# SPDX-License-Identifier: Apache-2.0
"""Looks at guests' units: at the start, when a QEMU ends, and while one is on its way."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from vfagent.guests.worker_calls import LIST_UNITS_S, Outcome, WorkerCalls, list_units
from vfagent.kernel.inotify import MADE, FolderMonitor
from vfagent.model.guest_unit import FoundUnit
from vfagent.systemd.units import bus_socket, load_jeepney

log = logging.getLogger(__name__)

_TRANSITION_S = 1.0
_REGISTER_S = 5.0  # machined may have to be started for it, and at boot that is time which the guest's own start lacks
_BUS_S = 60.0  # a boot takes its time
_NO_BUS_S = (0.2, 0.4, 0.8, 1.6, 2.0)  # early in the boot the bus's socket is there before the bus


class BusMonitor:
    """Waits for the bus's socket: the service starts long before it, and each try would take a worker."""

    def __init__(self, bus: str, on_came: Callable[[], None]) -> None:
        self._socket, self._on_came = bus_socket(bus), on_came
        self._watch: FolderMonitor | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self.waited = False  # it was not there once

    def there(self) -> bool:
        """If not, `on_came` is called when something has changed."""
        # Once more after the watch has begun, as it may have come before.
        if self._come() or not self._begin() or self._come():
            self.stop()
            return True  # where it cannot be waited for, it is tried, and tried again
        self.waited = True
        return False

    def _come(self) -> bool:
        return self._socket is None or self._socket.exists()

    def _begin(self) -> bool:
        if self._watch or self._socket is None:
            return True
        folder, loop = self._socket.parent, asyncio.get_running_loop()
        try:
            self._watch = FolderMonitor((folder.parent, folder), MADE)
        except OSError:
            return False
        loop.add_reader(self._watch.fileno(), self._changed, self._watch)
        self._overdue = loop.call_later(
            _BUS_S, log.warning, "guests: they wait for D-Bus: there is no %s", self._socket
        )
        return self._watch.watches > 0

    def _changed(self, watch: FolderMonitor) -> None:
        watch.drain()
        self._on_came()

    def stop(self) -> None:
        if self._overdue:
            self._overdue.cancel()
        if self._watch:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
        self._watch = self._overdue = None


@dataclass(slots=True)
class _Qemu:
    """A guest's process. `since` when it is known, in the loop's time; `registered`: machined was told of it."""

    pidfd: int
    since: float
    registered: bool = False


class UnitMonitor:
    """`on_units` is called with what was found; the kernel tells of each QEMU's end by its pidfd.

    `fresh`: whether no guest was started since the host booted, as far as is to be seen.
    """

    def __init__(
        self,
        worker_calls: WorkerCalls,
        bus: str,
        on_units: Callable[[tuple[FoundUnit, ...]], None],
        fresh: Callable[[], bool],
        machine_id: str,
    ) -> None:
        self.worker_calls, self.bus, self.on_units, self._fresh = worker_calls, bus, on_units, fresh
        self._machine_id = machine_id
        self._bus = BusMonitor(bus, self.look_once)
        self._looking = self._again = self._asked = self._stopped = False
        self._failures = 0
        self._qemus: dict[int, _Qemu] = {}  # by process ID
        self._timer: asyncio.TimerHandle | None = None

    def look_once(self) -> None:
        """Unless a look is under way."""
        if not self._looking:
            self.look()

    def look(self) -> None:
        self._cancel_timer()
        if self._looking:
            self._again = True
            return
        if self._stopped or not self._bus.there():
            return
        load_jeepney()
        if self._none_yet():
            self.on_units(())
            return
        self._looking, self._again = True, False
        bus, machine_id, now = self.bus, self._machine_id, asyncio.get_running_loop().time()
        news = frozenset(pid for pid, one in self._unregistered().items() if now - one.since >= _REGISTER_S)
        self.worker_calls.run(
            lambda: list_units(bus, news, machine_id), lambda found: self._looked(found, news), LIST_UNITS_S
        )

    def _none_yet(self) -> bool:
        """At a boot, where guests are started once there is a bus. To ask would take 0.2 s of it."""
        first, self._asked = not self._asked, True
        return first and self._bus.waited and self._fresh()

    def _unregistered(self) -> dict[int, _Qemu]:
        return {pid: one for pid, one in self._qemus.items() if not one.registered}

    def _looked(self, found: Outcome, registered: frozenset[int]) -> None:
        self._looking = False
        for pid in registered & self._qemus.keys() if found.units is not None else ():
            self._qemus[pid].registered = True
        if self._again:
            self.look()  # something was done meanwhile, which this may not show
            return
        if found.units is None:
            if self._failures == len(_NO_BUS_S):
                log.warning("guests: cannot look at their units yet: %s", found.error)
            self._reconcile_after(_NO_BUS_S[min(self._failures, len(_NO_BUS_S) - 1)])
            self._failures += 1
            return
        self._failures = 0
        gone = self._follow({unit.pid for unit in found.units if unit.pid})
        if gone or any(unit.running and (unit.active != "active" or not unit.pid) for unit in found.units):
            self._reconcile_after(_TRANSITION_S)
        elif left := self._unregistered():
            oldest = min(one.since for one in left.values())
            self._reconcile_after(max(0.0, oldest + _REGISTER_S - asyncio.get_running_loop().time()))
        self.on_units(found.units)

    def _follow(self, pids: set[int]) -> bool:
        """Hear of these processes' ends, and of no others'; tells whether one has ended meanwhile."""
        for pid in self._qemus.keys() - pids:
            self._leave(pid)
        gone, loop = False, asyncio.get_running_loop()
        for pid in pids - self._qemus.keys():
            try:
                self._qemus[pid] = _Qemu(os.pidfd_open(pid), loop.time())
            except OSError:
                gone = True
                continue
            loop.add_reader(self._qemus[pid].pidfd, self._ended, pid)
        return gone

    def _ended(self, pid: int) -> None:
        self._leave(pid)
        self.look()

    def _leave(self, pid: int) -> None:
        pidfd = self._qemus.pop(pid).pidfd
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)

    def _reconcile_after(self, delay_s: float) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def stop(self) -> None:
        self._stopped = True
        self._cancel_timer()
        self._bus.stop()
        self._follow(set())
