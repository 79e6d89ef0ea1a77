# SPDX-License-Identifier: Apache-2.0
"""Kernel events mark PFs dirty: udev events, rtnetlink notifications, and closed VFIO groups."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from vfagent.kernel.inotify import FolderMonitor, vfio_monitor
from vfagent.kernel.link_monitor import LinkMonitor
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import UdevEvent, UdevMonitor
from vfagent.model.pci import PciAddress
from vfagent.process.throttle import read_in_turn
from vfagent.reconcile.observe import DEVICES, pf_addresses
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.scheduler import Scheduler
from vfagent.service.fdb_events import FdbEvents

log = logging.getLogger(__name__)


def _vfio_monitor() -> FolderMonitor | None:
    """None where no inotify instance is left: each user's, root's too, are limited (fs.inotify.max_user_instances)."""
    try:
        return vfio_monitor()
    except OSError as error:
        log.warning("cannot watch /dev/vfio: %s; deferred changes wait for another event", error.strerror)
        return None


class LinkUsers(Protocol):
    def links_changed(self, ifindexes: set[int]) -> None: ...


class GuestEvents(LinkUsers, Protocol):
    """The guests, which want to know of their VFs at once."""

    def waiting(self) -> bool:
        """Whether a guest waits for a VF."""

    def check_vfs(self) -> None:
        """A VF is being unbound from vfio-pci."""

    def vf_event(self, address: PciAddress) -> None:
        """The kernel reports something about this device."""


class BridgeEvents(LinkUsers, Protocol):
    def reconcile_soon(self) -> None: ...


class KernelEvents:
    def __init__(
        self, host: Host, scheduler: Scheduler, guests: GuestEvents | None = None, bridges: BridgeEvents | None = None
    ) -> None:
        self.host, self.scheduler, self._guests, self._bridges = host, scheduler, guests, bridges
        self.counters = scheduler.counters
        self.udev = UdevMonitor(lambda: self._lost("udev"))
        self.links = LinkMonitor()
        self.vfio = _vfio_monitor()
        self.fdb = FdbEvents(scheduler.pfs.values, scheduler.mark_dirty)
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self) -> None:
        readers: list[tuple[Callable[[], int], Callable[[], None]]] = [
            (self.udev.fileno, self._read_udev),
            (self.links.fileno, self._read_links),
            (self.fdb.fileno, self.fdb.read),
        ]
        if self.vfio:
            readers.append((self.vfio.fileno, self._read_vfio))
        turns = self.scheduler.workers.turns
        self._tasks = tuple(asyncio.create_task(read_in_turn(fileno, read, turns)) for fileno, read in readers)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.links.close()
        if self.vfio:
            self.vfio.close()
        self.fdb.close()

    def reconcile_all(self, *, now: bool = False) -> None:
        for address in {*pf_addresses(self.host), *self.scheduler.pfs}:
            self.scheduler.mark_dirty(address, now=now)
        if self._bridges:
            self._bridges.reconcile_soon()

    def _lost(self, source: str) -> None:
        log.warning("%s events were lost: reconciling everything", source)
        self.counters.overflowed(source)
        self.reconcile_all()

    def _read_udev(self) -> None:
        try:
            for event in self.udev.drain():
                self._handle(event)
        except OSError:
            self.udev.restart()
        except ValueError:
            self._lost("udev")  # its device's name is not UTF-8

    def _handle(self, event: UdevEvent) -> None:
        self.counters.uevents += 1
        # vfio_unregister_group_dev() removes this device before it waits for the VF's user (since 6.6).
        if event.subsystem == "vfio-dev":
            if self._guests:
                self._guests.check_vfs()
            return
        if event.subsystem == "pci" and self._guests:
            self._guests.vf_event(event.address)
        address = self._pf_of(event)
        if address in self.scheduler.pfs or self.host.sysfs.exists(f"{DEVICES}/{address}/sriov_totalvfs"):
            self.scheduler.mark_dirty(address, now=self._completes(event, address))

    def _completes(self, event: UdevEvent, pf: PciAddress) -> bool:
        """Whether the event completes a new PF: a NIC has its netdev then, another device its driver."""
        if event.address != pf:
            return False
        nic = (self.host.sysfs.read(f"{DEVICES}/{pf}/class") or "").startswith("0x02")
        return (event.subsystem, event.action) == (("net", "add") if nic else ("pci", "bind"))

    def _pf_of(self, event: UdevEvent) -> PciAddress:
        """The PF that an event is about. A VF that is gone has no physfn link: its PF's last observation has it."""
        owner = self.host.sysfs.link(f"{DEVICES}/{event.address}/physfn")
        if owner:
            return PciAddress(owner)
        for state in self.scheduler.pfs.values():
            if state.pf and any(vf.address == event.address for vf in state.pf.vfs):
                return state.address
        return event.address

    def _read_vfio(self) -> None:
        """A process closed a VFIO group: deferred changes may be possible now."""
        if self.vfio:
            self.vfio.drain()
        waiting = self._guests is not None and self._guests.waiting()
        for state in list(self.scheduler.pfs.values()):
            if state.plan.deferred or waiting:
                self.scheduler.mark_dirty(state.address)

    def _read_links(self) -> None:
        changed, lost = self.links.drain()
        self.counters.link_events += len(changed)
        if lost:
            self._lost("rtnetlink")
        for user in (self._bridges, self._guests):
            if user:
                user.links_changed(changed)
        for state in list(self.scheduler.pfs.values()):
            if state.observed.ifindexes & changed or (changed and _needs_links(state)):
                self.scheduler.mark_dirty(state.address)


def _needs_links(state: PfState) -> bool:
    """Whether links that do not exist yet concern it: a foreign bridge, representors."""
    return state.pf is not None and state.pf.network is not None and bool(state.plan.waiting or state.plan.problems)
