# SPDX-License-Identifier: Apache-2.0
"""Calls about guests that run in workers: D-Bus calls block, and reading a VF's state may."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.guests.board import firmware_of, keep_machine, machine_of
from vfagent.guests.credentials import store_credentials
from vfagent.guests.numa_nodes import nodes_of
from vfagent.guests.open_groups import open_groups
from vfagent.guests.root_folders import make_root_folder
from vfagent.guests.spec.boot import Boot, Images
from vfagent.guests.spec.files import unfit_file
from vfagent.guests.spec.firmware import why_none
from vfagent.guests.spec.kvm_probe import PROBE_S, kvm_probe
from vfagent.guests.spec.nics import nics_of
from vfagent.guests.spec.packages import FIRMWARE
from vfagent.guests.spec.qemu import TPMS, Guest, guest_uuid
from vfagent.guests.spec.unit import VF_KNOWN, rule_digest, unit_of
from vfagent.guests.taps import TapsReport, open_taps
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import QUEUE
from vfagent.kernel.vfio_group import node_exists, udev_has_come
from vfagent.model.evidence import is_vfio
from vfagent.model.guest_unit import FAILED_STATES, RUN_STATES, FoundUnit, GuestVf, unit_name
from vfagent.policy.types import DiskRule, GuestRule
from vfagent.process.worker import NoWorkerError
from vfagent.process.workers import Workers
from vfagent.reconcile.observe import observe_vf
from vfagent.store.guest_state import GuestFiles, close_folder
from vfagent.store.host_files import facts_in
from vfagent.systemd.log import for_guest
from vfagent.systemd.unit_log import last_line
from vfagent.systemd.units import UNITS, BusError, NoBusError, Systemd, device_unit

log = logging.getLogger(__name__)

START_S = 120.0  # early in the boot a guest's job waits for basic.target, and for a device up to 90 s
LIST_UNITS_S = 30.0
LOG_S = 10.0
ASK_S = 10.0  # for one guest
_MARGIN_S = 30.0


@frozen(slots=True)
class RunState:
    """What a guest's QEMU says of it; None: nothing. `ended`: it was killed, so that systemd restarts it."""

    guest: str
    state: str | None
    ended: bool = False


@frozen(slots=True)
class Outcome:
    """The result of a call: `units` of list_units, None without systemd; `kvm` of probe; `rom` is a file.

    Not `begun`: nothing was done, as no process, no descriptor or no bus was available.
    """

    error: str | None = None
    hint: str | None = None
    units: tuple[FoundUnit, ...] | None = None
    kvm: bool | None = None
    rom: str | None = None
    states: tuple[RunState, ...] = ()
    images: Images | None = None  # of iPXE
    taps: TapsReport = TapsReport()
    line: str | None = None  # QEMU's last message
    begun: bool = True
    absent: bool = False  # nothing was started, as a file or device that the guest needs cannot be opened yet

    def message(self) -> str:
        """The error with its hint."""
        return f"{self.error} ({self.hint})" if self.hint else f"{self.error}"


@frozen(slots=True)
class Order:
    """A guest that is to start. Its VFs are checked once more right before."""

    rule: GuestRule
    vfs: tuple[GuestVf, ...]
    boot: Boot
    kvm: bool
    machine_id: str
    root: Path
    rom: str = ""


def list_units(bus: str, to_register: frozenset[int], machine_id: str) -> Outcome:
    """List the guests' units, and register with machined those whose main process is in `to_register`."""
    with Systemd(bus) as systemd:
        units = systemd.guests()
        for unit in units:
            if unit.pid in to_register and unit.active == "active":
                with contextlib.suppress(BusError):  # it need not be installed
                    systemd.register_machine(unit.guest, guest_uuid(unit.guest, machine_id).bytes, unit.pid)
        return Outcome(units=units)


def start(bus: str, order: Order, host: Host) -> Outcome:
    disks = _checked_disks(order)
    for vf in order.vfs:
        _check_free(vf, host)
    if away := _device_away(bus, disks):
        raise _AbsentFileError(f"{away} (its disk) is not there", hint="what makes the device has to start it")
    uuid_text = str(guest_uuid(order.rule.name, order.machine_id))
    rule, nics = replace(order.rule, disk=disks), nics_of(order.rule, order.vfs, order.machine_id)
    digest = rule_digest(order.rule)
    guest = Guest(rule, order.vfs, order.boot, order.kvm, uuid_text, order.rom, nics=nics, digest=digest)
    guest = replace(_with_board(guest, order.root), nodes=nodes_of(order.vfs, host.sysfs))
    credentials = tuple(store_credentials(order.root, guest).items())
    make_root_folder(order.root, guest)
    open_groups(order.vfs, order.root)
    guest = replace(guest, credentials=credentials, beside_udev=_beside_udev(order, disks, host), python=_python())
    spec = unit_of(guest, tuple(device_unit(vf.address, order.root) for vf in order.vfs))
    if rule.tpm:
        _close_tpm_sockets(order.root)
    if nics:
        _check_ended(bus, order.rule.name)
    with open_taps((nic.tap for nic in nics), host) as taps, Systemd(bus, fds=bool(taps)) as systemd:
        result = systemd.start(spec, START_S, taps)
    if result == "done":
        _keep_machine(guest, order.root)
    failed = None if result == "done" else f"its unit's job ended as {result}"
    unit = guest.tpm_unit if rule.tpm and result == "dependency" else spec.unit
    return Outcome(failed, f"journalctl -u {unit}" if failed else None)


def _close_tpm_sockets(root: Path) -> None:
    folder = root / TPMS.lstrip("/")
    try:
        close_folder(folder)
    except OSError as error:
        raise VfagentError(f"{folder}: cannot make the folder of its TPM's socket: {error.strerror}") from error


def _check_ended(bus: str, guest: str) -> None:
    """While its unit is there, systemd has its taps open: they are in use."""
    with Systemd(bus) as systemd:
        active = next((unit.active for unit in systemd.guests(guest) if unit.running), None)
    if active:
        raise VfagentError(f"its unit is already {active}")


def _keep_machine(guest: Guest, root: Path) -> None:
    try:
        keep_machine(root, guest)
    except OSError as error:
        for_guest(log, guest.rule.name).warning("cannot keep its machine type: %s", error.strerror)


def _with_board(guest: Guest, root: Path) -> Guest:
    """With its machine type and firmware."""
    rule, machine = guest.rule, machine_of(root, guest.rule)
    if rule.firmware != "uefi":
        return replace(guest, machine=machine)
    firmware = firmware_of(root, rule, machine)
    if firmware is None:
        text = why_none(machine, secure_boot=rule.secure_boot)
        raise _AbsentFileError(f"cannot boot by UEFI: {text}", hint=FIRMWARE.hint)
    try:
        variables = GuestFiles(root, rule.name).variables(firmware.template)
    except OSError as error:
        text = f"{firmware.template}: cannot copy it to the guest's variables: {error.strerror}"
        raise VfagentError(text) from error
    return replace(guest, machine=machine, firmware=firmware, variables=variables)


class _AbsentFileError(VfagentError):
    """A file or device that the guest cannot start without, and that may come."""


def _checked_disks(order: Order) -> tuple[DiskRule, ...]:
    """The guest's disks: a link that leads to a device is that device.

    Without its files the unit would fail until systemd stops restarting it, and only QEMU's message would say why.
    """
    facts = facts_in(order.root)
    if unfit := unfit_file(order.rule, order.boot, facts):
        raise _AbsentFileError(unfit[0], hint=unfit[1])
    devices = {disk.path: known.device for disk in order.rule.disk if (known := facts(disk.path)) and known.device}
    return tuple(replace(disk, path=devices.get(disk.path) or disk.path) for disk in order.rule.disk)


def _device_away(bus: str, disks: tuple[DiskRule, ...]) -> str | None:
    """A device that udev has not handled, as systemd knows it: the service has no /dev."""
    paths = list(dict.fromkeys(disk.path for disk in disks if disk.is_device))
    if not paths:
        return None
    with Systemd(bus) as systemd:
        return next((path for path in paths if not systemd.device_is_there(path)), None)


def _check_free(vf: GuestVf, host: Host) -> None:
    now = observe_vf(host, vf.pf, vf.index)
    same = now is not None and (now.address, now.iommu_group) == (vf.address, vf.iommu_group)
    if now is None or not same or not is_vfio(now.driver, vfio_dev=now.vfio_dev) or now.enabled:
        raise VfagentError(f"{vf} is not free any more")


def _python() -> tuple[str, ...]:
    """Where its helpers' Python is: the service's, which pip may have put anywhere."""
    return tuple(
        path for path in sorted({sys.prefix, sys.base_prefix}) if Path("/usr") not in (Path(path), *Path(path).parents)
    )


def _beside_udev(order: Order, disks: tuple[DiskRule, ...], host: Host) -> bool:
    """Whether it starts although udev has not handled all of its groups: at a boot that is seconds later.

    Not where the guest has to wait for udev anyway, for the node of a disk.
    """
    targets = (f"{folder}/{VF_KNOWN}@.target" for folder in UNITS)
    if not (host.sysfs.exists(QUEUE) and any(host.sysfs.exists(unit) for unit in targets)):
        return False
    if any(disk.is_device for disk in disks):
        return False
    groups = {vf.iommu_group for vf in order.vfs if vf.iommu_group is not None}
    return any(node_exists(group, order.root) and not udev_has_come(group, order.root) for group in groups)


def stop(bus: str, guest: str, timeout_s: float) -> Outcome:
    with Systemd(bus) as systemd:
        systemd.stop(unit_name(guest), timeout_s)
        systemd.reset_failed(unit_name(guest))  # a unit that had to be killed has failed
    return Outcome()


def ask(bus: str, guests: tuple[str, ...]) -> Outcome:
    with Systemd(bus) as systemd:
        return Outcome(states=tuple(_ask(systemd, guest) for guest in guests))


def _ask(systemd: Systemd, guest: str) -> RunState:
    """A guest that QEMU paused after an error never goes on by itself: where its rule restarts it, QEMU is killed."""
    unit = unit_name(guest)
    try:
        status = systemd.reload(unit, ASK_S)
        state = next((state for state, number in RUN_STATES.items() if number == status), None)
        ended = state in FAILED_STATES and systemd.restarts_after_kill(unit)
        if ended:
            systemd.kill_main(unit)
    except BusError:  # it has ended meanwhile, or was started by a vfagent that did not ask
        return RunState(guest, None)
    return RunState(guest, state, ended)


def failure(guest: str) -> Outcome:
    """What its QEMU printed last."""
    return Outcome(line=last_line(guest))


def probe(bus: str) -> Outcome:
    """Whether KVM runs a guest: /dev/kvm may exist and open, and each guest hang."""
    spec = kvm_probe()
    with Systemd(bus) as systemd:
        systemd.stop(spec.unit, PROBE_S)
        return Outcome(kvm=systemd.start(spec, PROBE_S + _MARGIN_S) == "done")


class WorkerCalls:
    """Runs each call in a worker of its own, with a deadline, in the background."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._calls = set[asyncio.Task[None]]()
        self._stopped = False

    def run(self, function: Callable[[], Outcome], done: Callable[[Outcome], None], within_s: float) -> None:
        """`done` gets what `function` returned, or an Outcome with the error. After `stop` nothing begins."""
        if self._stopped:
            return

        async def call() -> None:
            done(await self._outcome(function, within_s))

        task = asyncio.create_task(call())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _outcome(self, function: Callable[[], Outcome], within_s: float) -> Outcome:
        try:
            return await self._workers.call(function, deadline_s=within_s + _MARGIN_S)
        except (NoBusError, NoWorkerError) as error:
            return Outcome(str(error), error.hint, begun=False)
        except VfagentError as error:
            return Outcome(str(error), error.hint, absent=isinstance(error, _AbsentFileError))

    async def stop(self) -> None:
        """Wait for no answer: systemd completes its jobs, and the next agent finds their results."""
        self._stopped = True
        for task in self._calls:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
