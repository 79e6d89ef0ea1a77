# SPDX-License-Identifier: Apache-2.0
"""The agent's guests: started when their VFs are ready, recognised when they run, left alone otherwise."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from vfagent.guests.kvm import KvmTrial
from vfagent.guests.roms import Roms
from vfagent.guests.spec.boot import Boot, boot_of
from vfagent.guests.spec.placement import place
from vfagent.guests.spec.unit import STOP_S
from vfagent.guests.spec.unit_values import seconds
from vfagent.guests.state import GuestState, Job, lost_vf, managed_pf, with_hardware
from vfagent.guests.unit_monitor import UnitMonitor
from vfagent.guests.worker_calls import START_S, Order, Outcome, WorkerCalls, start, stop
from vfagent.kernel.protocols import Host
from vfagent.model.guest_unit import FoundUnit
from vfagent.model.pci import PciAddress
from vfagent.model.status import GuestStatus
from vfagent.reconcile.scheduler import Scheduler
from vfagent.store.guest_records import GuestRecords, Record, any_cgroup

log = logging.getLogger(__name__)

MOST_STARTS = max(2, os.cpu_count() or 1)  # at once: more would only make each other late
_SOON_S = 0.1  # changes of PFs come in a burst
_LONGEST_DELAY_S = 60.0
_LONGEST_STOP_S = 86400.0
_LOOK_S = 5.0


class Guests:
    """`on_change` is called after each change of what `status` tells."""

    def __init__(
        self, host: Host, root: Path, scheduler: Scheduler, on_change: Callable[[], None], *, bus: str = "SYSTEM"
    ) -> None:
        self.host, self.root, self.scheduler, self.on_change, self.bus = host, root, scheduler, on_change, bus
        self.worker_calls = WorkerCalls()
        self.guests: dict[str, GuestState] = {}
        self.records = GuestRecords(root)
        self.units = UnitMonitor(
            self.worker_calls,
            bus,
            self._take_units,
            lambda: not (self.records.all() or any_cgroup(host)),
            scheduler.identity.machine_id,
        )
        self._recognised = self._current = False  # `_current`: the units are known as they are now
        self.kvm = KvmTrial(host, self.records, self.worker_calls, bus, self.consider_soon)
        self.roms = Roms(root, self.worker_calls, bus, self.consider_soon)
        self._held: dict[PciAddress, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    def status(self) -> tuple[GuestStatus, ...]:
        return tuple(one.status() for _, one in sorted(self.guests.items()))

    def consider_soon(self, delay_s: float = _SOON_S) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() > loop.time() + delay_s:
            if self._timer:
                self._timer.cancel()
            self._timer = loop.call_later(delay_s, self.consider)

    def consider(self) -> None:
        """Bring what runs to what should."""
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if not self._needed():
            return
        if not self._current:
            self.units.look_once()
            return
        self._place()
        for one in list(self.guests.values()):
            self._decide(one)
        self._keep_vf_users()
        self.on_change()

    def _needed(self) -> bool:
        """Without guests nothing of this costs anything."""
        return bool(self.scheduler.policy.guest or self.guests) or any_cgroup(self.host)

    def check_vfs(self) -> None:
        """A VF whose removal waits for its guest has lost its driver. Kernels before 6.6 make no event of it."""
        if any(one.running and lost_vf(one.unit, self.host) for one in self.guests.values()):
            self.consider_soon(0.0)

    def _place(self) -> None:
        pfs = [managed for state in self.scheduler.pfs.values() if (managed := managed_pf(state))]
        held = {name: one.held for name, one in self.guests.items() if one.held}
        idle = {name for name, one in self.guests.items() if one.stays_down}
        found = place(self.scheduler.policy.guest, pfs, held, idle)
        placements = {one.rule.name: with_hardware(one, self.host) for one in found}
        for name in placements:
            if name not in self.guests:
                self.guests[name] = GuestState(name, record=self.records.get(name))
        for name, one in list(self.guests.items()):
            placement = placements.get(name)
            hardware = tuple(vf.hardware for vf in placement.vfs) if placement else ()
            bootable = placement is not None and bool(hardware)
            one.take(placement, boot_of(placement.rule, hardware) if placement and bootable else None)
            if placement is None and one.unit is None and one.job is None:
                del self.guests[name]

    def _decide(self, one: GuestState) -> None:
        to_stop = one.running and one.unit is not None and one.unit.active == "active" and lost_vf(one.unit, self.host)
        to_start = not (one.running or one.stays_down or one.blocker)
        if one.job is not None or one.gave_up or not (to_stop or to_start):
            return
        if (wait := one.not_before - time.monotonic()) > 0:
            self.consider_soon(wait)
        elif to_start:
            if sum(other.job is Job.START for other in self.guests.values()) < MOST_STARTS:
                self._start(one)
        else:
            log.warning("guest %s: a VF is being taken from it: stopping it", one.name)
            one.again = True  # its VF may be back before its end is heard of
            self._stop(one)

    def _start(self, one: GuestState) -> None:
        assert one.placement is not None
        assert one.boot is not None
        kvm, rom = self.kvm.answer(), self._rom(one, one.boot)
        if kvm is None or rom is None:
            return
        machine_id = self.scheduler.identity.machine_id
        order = Order(one.placement.rule, one.placement.vfs, one.boot, kvm, machine_id, self.root, rom)
        one.job = Job.START
        self._keep_vf_users()
        log.info("guest %s: starting on %s by its %s", one.name, ", ".join(map(str, order.vfs)), one.boot.loader)
        bus, host = self.bus, self.host
        self.worker_calls.run(lambda: start(bus, order, host), lambda found: self._done(one, found), START_S)

    def _rom(self, one: GuestState, boot: Boot) -> str | None:
        """The file of its ROM, "" where it needs none; None while it waits for one."""
        path = self.roms.take(boot.rom, self.scheduler.policy.agent.ipxe_source) if boot.rom else ""
        one.pending = self.roms.waits(boot.rom) if boot.rom and path is None else None
        return path

    def reload(self) -> None:
        """Another policy: what could not be done may be possible now."""
        self.roms.forget()
        self.consider_soon()

    def _stop(self, one: GuestState) -> None:
        rule = one.placement.rule if one.placement else None
        asked = (seconds(value) for name, value in (rule.unit if rule else ()) if name == "TimeoutStopSec")
        limit = min(2 * next(asked, STOP_S), _LONGEST_STOP_S)
        one.job, bus, name = Job.STOP, self.bus, one.name
        self.worker_calls.run(lambda: stop(bus, name, limit), lambda found: self._done(one, found), limit)

    def _done(self, one: GuestState, found: Outcome) -> None:
        job = one.job
        one.done(job, found.error)
        if found.error:
            hint = f" ({found.hint})" if found.hint else ""
            log.error("guest %s: %s%s", one.name, found.error, hint)
        if found.error:
            self._back_off(one)
        else:
            one.attempts, one.again = 0, one.again and job is Job.STOP
        self._look_at([vf.address for vf in one.placement.vfs] if one.placement else [])
        self._current = False
        self.units.look()

    def _look_at(self, vfs: Iterable[PciAddress]) -> None:
        """They are in use now, or are not any more; no event tells of it."""
        wanted = set(vfs)
        for state in list(self.scheduler.pfs.values()):
            if state.pf and any(vf.address in wanted for vf in state.pf.vfs):
                self.scheduler.mark_dirty(state.address)

    def waiting(self) -> bool:
        """Whether there is a guest that a VF's end of use may help."""
        return any(one.blocker and not one.running and not one.stays_down for one in self.guests.values())

    def _back_off(self, one: GuestState) -> None:
        one.attempts += 1
        one.not_before = time.monotonic() + min(2.0 ** (one.attempts - 1), _LONGEST_DELAY_S)
        if one.gave_up:
            log.error("guest %s: given up after %d attempts, until its rule changes", one.name, one.attempts)

    def _recognise(self, units: tuple[FoundUnit, ...]) -> None:
        """What an earlier agent left: guests that run, and guests that ended while nobody looked."""
        running = {unit.guest for unit in units}
        for name, record in self.records.all().items():
            if name not in running and record.stopped is None:
                record = replace(record, stopped="it ended while vfagent was not running")
                self._keep(name, record)
            self.guests[name] = GuestState(name, record=record)
        for unit in units:
            log.info("guest %s: found %s, process %d", unit.guest, unit.active, unit.pid)

    def _take_units(self, units: tuple[FoundUnit, ...]) -> None:
        if not self._recognised:
            self._recognise(units)
        self._recognised = self._current = True
        known = {unit.guest: unit for unit in units}
        for name in known:
            if name not in self.guests:
                self.guests[name] = GuestState(name, record=self.records.get(name))
        for name, one in self.guests.items():
            before, one.unit = one.unit, known.get(name)
            self._follow(one, before)
        self.consider_soon(0.0)

    def _follow(self, one: GuestState, before: FoundUnit | None) -> None:
        """Remember how it came to be as it is: what ended stays so, unless its VFs were taken from it."""
        if one.unit is not None and one.running:
            on_its_way_out = one.job is Job.STOP or one.unit.active == "deactivating"
            one.again = one.again and on_its_way_out
            if not on_its_way_out and one.record != Record(one.unit.rule):
                self._remember(one, Record(one.unit.rule))
            return
        if before is None or not before.running:
            return
        self._look_at(before.vfs)
        if one.again or lost_vf(before, self.host):
            log.warning("guest %s: ended with its VF; it starts again when that is back", one.name)
            one.again, one.record = True, None
            self.records.forget(one.name)
        elif one.unit is None and (one.record is None or one.record.stopped is None):
            log.info("guest %s: ended", one.name)
            self._remember(one, Record(before.rule, "it ended, or was stopped"))
        elif one.unit is not None:
            log.error("guest %s: failed: %s (journalctl -u vfagent-guest-%s)", one.name, one.unit.result, one.name)

    def _remember(self, one: GuestState, record: Record) -> None:
        one.record = record
        self._keep(one.name, record)

    def _keep(self, name: str, record: Record) -> None:
        try:
            self.records.keep(name, record)
        except OSError as error:
            log.warning("guest %s: cannot store what was done with it: %s", name, error.strerror)

    def _keep_vf_users(self) -> None:
        held = {address: one.name for one in self.guests.values() for address in one.held}
        if held != self._held:
            try:
                self.records.set_vf_users(held)
                self._held = held
            except OSError as error:
                log.warning("guests: cannot store which VF is whose: %s", error.strerror)

    async def request(self, verb: str, name: str) -> str | None:
        """What somebody asked for by hand. Gives what is in the way, None where it is done, or under way."""
        one = self.guests.get(name)
        if one is None:
            return "there is no such guest"
        if verb == "start":
            await self._start_by_hand(one)
        else:
            await self._stop_by_hand(one)
        return one.error or ((one.blocker or one.pending) if verb == "start" and not one.running else None)

    async def _start_by_hand(self, one: GuestState) -> None:
        await self._settled(one)
        if one.running:
            return
        one.record, one.error, one.again = None, None, True
        one.attempts, one.not_before = 0, 0.0
        self.records.forget(one.name)
        self.roms.forget()
        self._look_at([vf.address for vf in one.placement.vfs] if one.placement else [])
        self.consider()
        # What hinders it may be over with the next look at its PF.
        await self._seen(lambda: one.running or one.error, lambda: _LOOK_S if one.blocker or one.pending else START_S)

    async def _stop_by_hand(self, one: GuestState) -> None:
        await self._settled(one)
        # By the rule that is in force, which one that runs by an older one would else start again by.
        self._remember(one, Record(one.digest or one.unit_rule, "it was stopped by hand"))
        if one.running:
            self._stop(one)
            await self._settled(one)
        await self._seen(lambda: not one.running or one.error, lambda: _LOOK_S)
        self.on_change()

    async def _seen(self, done: Callable[[], object], within_s: Callable[[], float]) -> None:
        """What a job has done is known with the survey of units that follows it."""
        begun = time.monotonic()
        while not done() and time.monotonic() - begun < within_s():
            await asyncio.sleep(_SOON_S)

    async def _settled(self, one: GuestState) -> None:
        while one.job is not None:
            await asyncio.sleep(_SOON_S)

    def stop(self) -> None:
        """Guests go on."""
        self.worker_calls.stop()
        self.units.stop()
        if self._timer:
            self._timer.cancel()
