# SPDX-License-Identifier: Apache-2.0
"""Kernel events mark PFs dirty: udev events, rtnetlink notifications, and closed VFIO groups."""

import logging
from collections.abc import Callable

from vfagent.kernel.inotify import FolderMonitor, vfio_monitor
from vfagent.kernel.link_monitor import LinkMonitor
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import UdevEvent, UdevMonitor
from vfagent.model.pci import PciAddress
from vfagent.reconcile.observe import DEVICES, pf_addresses
from vfagent.reconcile.scheduler import Scheduler
from vfagent.reconcile.throttle import ThrottledReader
from vfagent.service.fdb_events import FdbEvents

log = logging.getLogger(__name__)


def _vfio_monitor() -> FolderMonitor | None:
    """None where no inotify instance is left: each user's, root's too, are limited (fs.inotify.max_user_instances)."""
    try:
        return vfio_monitor()
    except OSError as error:
        log.warning("cannot watch /dev/vfio: %s; deferred changes wait for another event", error.strerror)
        return None


class KernelEvents:
    def __init__(self, host: Host, scheduler: Scheduler) -> None:
        self.host, self.scheduler = host, scheduler
        self.counters = scheduler.counters
        self.udev = UdevMonitor(lambda: self._lost("udev"))
        self.links = LinkMonitor()
        self.vfio = _vfio_monitor()
        self.fdb = FdbEvents(scheduler.pfs.values, scheduler.mark_dirty)
        turns = scheduler.turns
        self._readers = (
            ThrottledReader(self.udev.fileno, self._read_udev, turns),
            ThrottledReader(self.links.fileno, self._read_links, turns),
            ThrottledReader(self.fdb.fileno, self.fdb.read, turns),
            *([ThrottledReader(self.vfio.fileno, self._read_vfio, turns)] if self.vfio else []),
        )
        self.vf_pending: Callable[[], bool] = bool  # whether a guest waits for a VF
        self.on_vfio_remove: Callable[[], object] = bool  # called when a VF is being unbound from vfio-pci
        self.on_pci_event: Callable[[PciAddress], object] = bool
        self.links_changed: Callable[[set[int]], None] = lambda ifindexes: None
        self.on_reconcile_all: Callable[[], object] = bool

    def start(self) -> None:
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        for reader in self._readers:
            reader.stop()
        self.links.close()
        if self.vfio:
            self.vfio.close()
        self.fdb.close()

    def reconcile_all(self, *, now: bool = False) -> None:
        for address in {*pf_addresses(self.host), *self.scheduler.pfs}:
            self.scheduler.mark_dirty(address, now=now)
        self.on_reconcile_all()

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
            self.on_vfio_remove()
            return
        if event.subsystem == "pci":
            self.on_pci_event(event.address)
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
        for state in list(self.scheduler.pfs.values()):
            if state.plan.deferred or self.vf_pending():
                self.scheduler.mark_dirty(state.address)

    def _read_links(self) -> None:
        changed, lost = self.links.drain()
        self.counters.link_events += len(changed)
        if lost:
            self._lost("rtnetlink")
        self.links_changed(changed)
        for state in list(self.scheduler.pfs.values()):
            if state.ifindexes & changed or (changed and state.needs_links):
                self.scheduler.mark_dirty(state.address)
