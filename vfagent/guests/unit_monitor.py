# SPDX-License-Identifier: Apache-2.0
"""The states of guests' units: listed at the start, when a QEMU exits, and while a unit is starting or stopping."""

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
_REGISTER_S = 5.0  # machined may have to be started for it, which at boot would delay the guest's own start
_BUS_S = 60.0
_NO_BUS_S = (0.2, 0.4, 0.8, 1.6, 2.0)  # early in the boot dbus.socket listens before the bus does


class BusMonitor:
    """Waits for the bus's socket: the service starts long before it, and each attempt to connect takes a worker."""

    def __init__(self, bus: str, on_change: Callable[[], None]) -> None:
        self._socket, self._on_change = bus_socket(bus), on_change
        self._watch: FolderMonitor | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self.waited = False  # the socket did not exist when it was first checked

    def available(self) -> bool:
        """If not, `on_change` is called when it may have been made."""
        # Checked once more after the watch has begun: it may have been made in between.
        if self._socket_exists() or not self._begin() or self._socket_exists():
            self.stop()
            return True  # also where inotify fails: then to connect fails, and is tried again
        self.waited = True
        return False

    def _socket_exists(self) -> bool:
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
            _BUS_S, log.warning, "guests: waiting for D-Bus: %s does not exist", self._socket
        )
        return self._watch.watches > 0

    def _changed(self, watch: FolderMonitor) -> None:
        watch.drain()
        self._on_change()

    def stop(self) -> None:
        if self._overdue:
            self._overdue.cancel()
        if self._watch:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
        self._watch = self._overdue = None


@dataclass(slots=True)
class _Qemu:
    """A guest's process. `since`: when it was first listed, in the loop's time; `registered`: with machined."""

    pidfd: int
    since: float
    registered: bool = False


class UnitMonitor:
    """`on_units` is called with the listed units. Each QEMU's exit is reported by its pidfd.

    `fresh`: whether, by records and cgroups, no guest was started since the host booted.
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
        self._bus = BusMonitor(bus, self.refresh_if_idle)
        self._listing = self._again = self._first_done = self._stopped = False
        self._failures = 0
        self._qemus: dict[int, _Qemu] = {}  # by process ID
        self._timer: asyncio.TimerHandle | None = None

    def refresh_if_idle(self) -> None:
        if not self._listing:
            self.refresh()

    def refresh(self) -> None:
        """List the units; once more where they are being listed now, which may not show the latest change."""
        self._cancel_timer()
        if self._listing:
            self._again = True
            return
        if self._stopped or not self._bus.available():
            return
        load_jeepney()
        if self._none_yet():
            self.on_units(())
            return
        self._listing, self._again = True, False
        bus, machine_id, now = self.bus, self._machine_id, asyncio.get_running_loop().time()
        due = frozenset(pid for pid, qemu in self._unregistered().items() if now - qemu.since >= _REGISTER_S)
        self.worker_calls.run(
            lambda: list_units(bus, due, machine_id), lambda outcome: self._listed(outcome, due), LIST_UNITS_S
        )

    def _none_yet(self) -> bool:
        """At a boot there are no units before the first guest is started. To list them would take 0.2 s of the boot."""
        first, self._first_done = not self._first_done, True
        return first and self._bus.waited and self._fresh()

    def _unregistered(self) -> dict[int, _Qemu]:
        return {pid: qemu for pid, qemu in self._qemus.items() if not qemu.registered}

    def _listed(self, outcome: Outcome, registered: frozenset[int]) -> None:
        self._listing = False
        for pid in registered & self._qemus.keys() if outcome.units is not None else ():
            self._qemus[pid].registered = True
        if self._again:
            self.refresh()
            return
        if outcome.units is None:
            if self._failures == len(_NO_BUS_S):
                log.warning("guests: cannot list their units yet: %s", outcome.error)
            self._refresh_after(_NO_BUS_S[min(self._failures, len(_NO_BUS_S) - 1)])
            self._failures += 1
            return
        self._failures = 0
        exited = self._follow({unit.pid for unit in outcome.units if unit.pid})
        if exited or any(unit.running and (unit.active != "active" or not unit.pid) for unit in outcome.units):
            self._refresh_after(_TRANSITION_S)
        elif unregistered := self._unregistered():
            oldest = min(qemu.since for qemu in unregistered.values())
            self._refresh_after(max(0.0, oldest + _REGISTER_S - asyncio.get_running_loop().time()))
        self.on_units(outcome.units)

    def _follow(self, pids: set[int]) -> bool:
        """Watch these processes, and no others, for their exit. Returns whether one has exited already."""
        for pid in self._qemus.keys() - pids:
            self._unwatch(pid)
        exited, loop = False, asyncio.get_running_loop()
        for pid in pids - self._qemus.keys():
            try:
                self._qemus[pid] = _Qemu(os.pidfd_open(pid), loop.time())
            except OSError:
                exited = True
                continue
            loop.add_reader(self._qemus[pid].pidfd, self._exited, pid)
        return exited

    def _exited(self, pid: int) -> None:
        self._unwatch(pid)
        self.refresh()

    def _unwatch(self, pid: int) -> None:
        pidfd = self._qemus.pop(pid).pidfd
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)

    def _refresh_after(self, delay_s: float) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.refresh)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def stop(self) -> None:
        self._stopped = True
        self._cancel_timer()
        self._bus.stop()
        self._follow(set())
