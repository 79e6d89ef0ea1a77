# SPDX-License-Identifier: Apache-2.0
"""The agent's guests: started when their VFs are ready, recognised when they already run, otherwise left alone."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from vfagent.guests.credentials import forget_credentials
from vfagent.guests.failures import Failures
from vfagent.guests.ipxe_images import IpxeImages
from vfagent.guests.kvm import KvmTrial
from vfagent.guests.lost_vfs import LostVfs
from vfagent.guests.open_groups import close_groups
from vfagent.guests.pauses import PauseMonitor
from vfagent.guests.roms import Roms
from vfagent.guests.root_folders import forget_root_folders
from vfagent.guests.spec.boot import Boot, Images
from vfagent.guests.spec.placement import place
from vfagent.guests.spec.unit import STOP_S
from vfagent.guests.spec.unit_values import seconds
from vfagent.guests.state import GuestState, Job, boot_with, lost_vf, managed_pf, with_facts
from vfagent.guests.tap_monitor import TapMonitor
from vfagent.guests.unit_monitor import UnitMonitor
from vfagent.guests.worker_calls import START_S, Order, Outcome, WorkerCalls, start, stop
from vfagent.kernel.protocols import Host
from vfagent.model.guest_unit import FoundUnit
from vfagent.model.pci import PciAddress
from vfagent.model.status import GuestStatus
from vfagent.process.workers import Workers
from vfagent.reconcile.scheduler import Scheduler
from vfagent.store.guest_records import GuestRecords, Record, any_cgroup
from vfagent.systemd.log import for_guest
from vfagent.systemd.messages import Message

log = logging.getLogger(__name__)

MOST_STARTS = max(2, os.cpu_count() or 1)  # at the same time: with more, each takes longer than systemd allows
_SOON_S = 0.1  # changes of PFs come in a burst
_LONGEST_DELAY_S = 60.0
_LONGEST_STOP_S = 86400.0
_RECONCILE_S = 5.0


class Guests:
    """`on_change` is called after each change of what `status` returns."""

    def __init__(
        self,
        host: Host,
        root: Path,
        scheduler: Scheduler,
        workers: Workers,
        on_change: Callable[[], None],
        *,
        bus: str = "SYSTEM",
    ) -> None:
        self.host, self.root, self.scheduler, self.on_change, self.bus = host, root, scheduler, on_change, bus
        self.worker_calls = WorkerCalls(workers)
        self.guests: dict[str, GuestState] = {}
        self.records = GuestRecords(root)
        self.units = UnitMonitor(
            self.worker_calls,
            bus,
            self._take_units,
            lambda: not (self.records.all() or any_cgroup(host)),
            scheduler.identity.machine_id,
        )
        self.considered = True  # all guests, since the policy was loaded
        self._recognised = self._current = False  # `_current`: nothing was started or stopped since units were listed
        self.kvm = KvmTrial(host, self.records, self.worker_calls, bus, self.consider_soon)
        self.roms = Roms(root, self.worker_calls, bus, self.consider_soon)
        self.images = IpxeImages(root, self.worker_calls, self.consider_soon)
        self._timer: asyncio.TimerHandle | None = None
        self.lost_vfs = LostVfs(host, self.guests, self.consider_soon)
        self.taps = TapMonitor(host, self.worker_calls, self.guests, scheduler.identity.machine_id)
        self.failures = Failures(self.worker_calls, on_change)
        self.pauses = PauseMonitor(self.worker_calls, bus, self.guests, on_change)

    def status(self) -> tuple[GuestStatus, ...]:
        return tuple(guest.status() for _, guest in sorted(self.guests.items()))

    def consider_soon(self, delay_s: float = _SOON_S) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() > loop.time() + delay_s:
            if self._timer:
                self._timer.cancel()
            self._timer = loop.call_later(delay_s, self.consider)

    def consider(self) -> None:
        """Start and stop guests, until those run that are to run."""
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if not (self.scheduler.policy.guest or self.guests or any_cgroup(self.host)):
            close_groups((), self.host, self.root)
            self.considered = True
            self.on_change()
            return  # a host without guests does not ask systemd
        if not self._current:
            self.units.refresh_if_idle()
            return
        images = self.images.take(self.scheduler.policy.guest)
        if images is None:
            return
        self._place(images)
        for guest in list(self.guests.values()):
            self._decide(guest)
        close_groups(self.guests.values(), self.host, self.root)
        self._store_vf_users()
        self.lost_vfs.check_later()
        self.considered = True
        self.on_change()

    def check_vfs(self) -> None:
        self.lost_vfs.check()

    def links_changed(self, ifindexes: set[int]) -> None:
        if any(guest.placement and guest.placement.absent_bridge for guest in self.guests.values()):
            self.consider_soon()
        self.taps.links_changed(ifindexes)

    def vf_event(self, address: PciAddress) -> None:
        """The kernel reports an error of a VF, and QEMU may have paused its guest for it."""
        if any(address in guest.held for guest in self.guests.values()):
            self.pauses.ask_soon()

    def _place(self, images: Images) -> None:
        pfs = [managed for state in self.scheduler.pfs.values() if (managed := managed_pf(state))]
        held = {name: guest.held for name, guest in self.guests.items() if guest.held}
        idle = {name for name, guest in self.guests.items() if guest.stays_down}
        placements = {
            placement.rule.name: with_facts(placement, self.host)
            for placement in place(self.scheduler.policy.guest, pfs, held, idle)
        }
        for name in placements:
            self._state_of(name)
        for name, guest in list(self.guests.items()):
            placement = placements.get(name)
            guest.update(
                placement, boot_with(placement, images, self.scheduler.identity.machine_id) if placement else None
            )
            if placement is None and guest.unit is None and guest.job is None:
                del self.guests[name]
        self._forget_credentials()

    def _forget_credentials(self) -> None:
        """Secrets leave the host with their rule, once its guest has ended."""
        try:
            forget_credentials(self.root, self.guests)
            forget_root_folders(self.root, self.guests)
        except OSError as error:
            log.warning("guests: cannot remove the files of a guest that is gone: %s", error.strerror)

    def _state_of(self, name: str) -> GuestState:
        if name not in self.guests:
            self.guests[name] = GuestState(name, record=self.records.get(name))
        return self.guests[name]

    def _decide(self, guest: GuestState) -> None:
        active = guest.running and guest.unit is not None and guest.unit.active == "active"
        to_stop = active and lost_vf(guest.unit, self.host)
        to_start = not (guest.running or guest.stays_down or guest.blocker)
        guest.before = guest.first(self.guests) if to_start else None
        if guest.job is not None or guest.suspended or guest.before or not (to_stop or to_start):
            return
        if (wait := guest.not_before - time.monotonic()) > 0:
            self.consider_soon(wait)
        elif to_start:
            if sum(other.job is Job.START for other in self.guests.values()) < MOST_STARTS:
                self._start(guest)
            else:
                guest.pending = None  # its turn
        else:
            for_guest(log, guest.name).warning("one of its VFs is being removed: stopping the guest")
            guest.again = True  # the VF may be back before the guest's end is reported
            self._stop(guest)

    def _start(self, guest: GuestState) -> None:
        assert guest.placement is not None
        assert guest.boot is not None
        kvm, rom = self.kvm.answer(), self._rom(guest, guest.boot)
        if kvm is None and rom is not None:
            guest.pending = "whether KVM runs a guest is being tried"
        if kvm is None or rom is None:
            return
        machine_id = self.scheduler.identity.machine_id
        order = Order(guest.placement.rule, guest.placement.vfs, guest.boot, kvm, machine_id, self.root, rom)
        guest.job = Job.START
        self._store_vf_users()
        where = ", ".join((*map(str, order.vfs), *(f"bridge {nic.bridge}" for nic in order.rule.nic)))
        guest_log = for_guest(log, guest.name).of(Message.GUEST_STARTING)
        guest_log.info("starting on %s, boots by its %s", where, guest.boot.loader)
        bus, host = self.bus, self.host
        self.worker_calls.run(lambda: start(bus, order, host), lambda outcome: self._done(guest, outcome), START_S)

    def _rom(self, guest: GuestState, boot: Boot) -> str | None:
        """The file of its ROM, "" where it needs none; None while it waits for one."""
        path = self.roms.take(boot.rom, self.scheduler.policy.agent.ipxe_source) if boot.rom else ""
        guest.pending = self.roms.waits(boot.rom) if boot.rom and path is None else None
        return path

    def reload(self) -> None:
        """After another policy was loaded: what failed may be possible now."""
        self.roms.forget()
        self.images.refresh()
        self.considered = False
        self.consider_soon()

    def _stop(self, guest: GuestState) -> None:
        rule = guest.placement.rule if guest.placement else None
        wanted = (seconds(value) for name, value in (rule.unit if rule else ()) if name == "TimeoutStopSec")
        limit = min(2 * next(wanted, STOP_S), _LONGEST_STOP_S)
        guest.job, bus, name = Job.STOP, self.bus, guest.name
        self.worker_calls.run(lambda: stop(bus, name, limit), lambda outcome: self._done(guest, outcome), limit)

    def _done(self, guest: GuestState, outcome: Outcome) -> None:
        job = guest.job
        if outcome.absent:
            self._missing(guest, outcome.message())
            return
        guest.done(job, outcome.error)
        if outcome.error:
            for_guest(log, guest.name).of(Message.GUEST_NOT_STARTED).error("cannot %s: %s", job, outcome.message())
            self._back_off(guest)
        else:
            guest.attempts, guest.again = 0, guest.again and job is Job.STOP
        self._reconcile_pfs_of([vf.address for vf in guest.placement.vfs] if guest.placement else [])
        self._current = False
        self.units.refresh()

    def _missing(self, guest: GuestState, missing: str) -> None:
        if guest.missing != missing:
            for_guest(log, guest.name).of(Message.GUEST_NOT_STARTED).warning("waits: %s", missing)
        self.consider_soon(guest.found_missing(missing, time.monotonic()))
        self._store_vf_users()
        self.on_change()

    def _reconcile_pfs_of(self, vfs: Iterable[PciAddress]) -> None:
        """Whether these VFs are in use has changed, for which there is no event."""
        changed = set(vfs)
        for state in list(self.scheduler.pfs.values()):
            if state.pf and any(vf.address in changed for vf in state.pf.vfs):
                self.scheduler.mark_dirty(state.address)

    def waiting(self) -> bool:
        """Whether a guest waits for something that may be over when a VF is not in use any more."""
        return any(guest.blocker and not guest.running and not guest.stays_down for guest in self.guests.values())

    def _back_off(self, guest: GuestState) -> None:
        guest.attempts += 1
        delay_s = min(2.0 ** (guest.attempts - 1), _LONGEST_DELAY_S)
        guest.not_before, guest.retry_at = time.monotonic() + delay_s, float(round(time.time() + delay_s))
        if guest.suspended:
            text = "no more retries after %d attempts, until its rule changes"
            for_guest(log, guest.name).error(text, guest.attempts)

    def resync(self) -> None:
        self.pauses.ask()
        self.images.refresh()
        self.taps.attach_soon()

    def _recognise(self, units: tuple[FoundUnit, ...]) -> None:
        """What an earlier agent left: guests that run, and guests that ended since."""
        running = {unit.guest for unit in units}
        for name, record in self.records.all().items():
            if name not in running and record.stopped is None:
                record = replace(record, stopped="it ended while vfagent was not running")
                self._store(name, record)
            self.guests[name] = GuestState(name, record=record)
        for unit in units:
            if unit.active == "failed":
                self.failures.ask(self._state_of(unit.guest))
            for_guest(log, unit.guest).info("its unit is already %s, process %d", unit.active, unit.pid)

    def _take_units(self, units: tuple[FoundUnit, ...]) -> None:
        if not self._recognised:
            self._recognise(units)
            if units:
                self.pauses.ask_soon()
        self._recognised = self._current = True
        known = {unit.guest: unit for unit in units}
        for name in known:
            self._state_of(name)
        for name, guest in self.guests.items():
            before, guest.unit = guest.unit, known.get(name)
            self._follow(guest, before)
        self.taps.attach_soon()
        self.consider_soon(0.0)

    def _follow(self, guest: GuestState, before: FoundUnit | None) -> None:
        """Record how its unit has changed: a guest that ended stays so, unless its VFs were removed."""
        if guest.unit is not None and guest.running:
            guest.last_line = None
            stopping = guest.job is Job.STOP or guest.unit.active == "deactivating"
            guest.again = guest.again and stopping
            if not stopping and guest.record != Record(guest.unit.rule):
                self._record(guest, Record(guest.unit.rule))
            return
        if before is None or not before.running:
            return
        self._reconcile_pfs_of(before.vfs)
        guest_log = for_guest(log, guest.name)
        if guest.again or (lost_vf(before, self.host) and not guest.record_stopped):
            guest_log.warning("ended, because its VF was removed; it starts again when the VF is back")
            guest.again, guest.record = True, None
            self.records.forget(guest.name)
        elif guest.unit is None and (guest.record is None or guest.record.stopped is None):
            guest_log.of(Message.GUEST_ENDED).info("ended")
            self._record(guest, Record(before.rule, "it ended, or was stopped"))
        elif guest.unit is not None:
            text = "failed: %s (journalctl -u vfagent-guest-%s)"
            guest_log.of(Message.GUEST_FAILED).error(text, guest.unit.result, guest.name)
            self.failures.ask(guest)

    def _record(self, guest: GuestState, record: Record) -> None:
        guest.record = record
        self._store(guest.name, record)

    def _store(self, name: str, record: Record) -> None:
        try:
            self.records.keep(name, record)
        except OSError as error:
            for_guest(log, name).warning("cannot store whether it was stopped: %s", error.strerror)

    def _store_vf_users(self) -> None:
        try:
            self.records.set_vf_users({address: guest.name for guest in self.guests.values() for address in guest.held})
        except OSError as error:
            log.warning("guests: cannot store which guest uses which VF: %s", error.strerror)

    async def request(self, verb: str, name: str) -> str | None:
        """`vfagent guest start` and `stop`. Returns why it is not done; None where it is, or is under way."""
        guest = self.guests.get(name)
        if guest is None:
            return "there is no such guest"
        if verb == "start":
            await self._start_by_hand(guest)
            return guest.error or (None if guest.running else guest.status().detail)
        await self._stop_by_hand(guest)
        return guest.error

    async def _start_by_hand(self, guest: GuestState) -> None:
        await self._settled(guest)
        if guest.running:
            return
        guest.record, guest.error, guest.again, guest.missing = None, None, True, None
        guest.attempts, guest.not_before = 0, 0.0
        self.records.forget(guest.name)
        self.roms.forget()
        self._reconcile_pfs_of([vf.address for vf in guest.placement.vfs] if guest.placement else [])
        self.consider()
        # What blocks it may be over once its PF was reconciled.
        await self._wait_until(lambda: guest.known, lambda: _RECONCILE_S if guest.blocker or guest.pending else START_S)

    async def _stop_by_hand(self, guest: GuestState) -> None:
        await self._settled(guest)
        guest.again = False
        # With the digest of the active rule: a guest that runs by an older one would else be started by the new one.
        self._record(guest, Record(guest.digest or guest.unit_rule, "it was stopped by hand"))
        # One that has failed may have been restarted since it was listed, and one that was just started not listed yet.
        if guest.unit is not None or not self._current:
            self._stop(guest)
            await self._settled(guest)
        await self._wait_until(lambda: not guest.running or guest.error, lambda: _RECONCILE_S)
        self.on_change()

    async def _wait_until(self, done: Callable[[], object], within_s: Callable[[], float]) -> None:
        """The effect of a job is known when units have been listed after it."""
        begun = time.monotonic()
        while not done() and time.monotonic() - begun < within_s():
            await asyncio.sleep(_SOON_S)

    async def _settled(self, guest: GuestState) -> None:
        while guest.job is not None:
            await asyncio.sleep(_SOON_S)

    async def stop(self) -> None:
        """Guests keep running."""
        await self.worker_calls.stop()
        self.units.stop()
        self.pauses.stop()
        self.taps.stop()
        self.lost_vfs.stop()
        if self._timer:
            self._timer.cancel()
