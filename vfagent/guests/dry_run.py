# SPDX-License-Identifier: Apache-2.0
"""For `vfagent plan`: which guests would be started. Neither the service nor systemd is asked."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.guests.board import firmware_of, machine_of
from vfagent.guests.ipxe_images import images_for
from vfagent.guests.rom_build import known
from vfagent.guests.spec.boot import Boot
from vfagent.guests.spec.files import unfit_file
from vfagent.guests.spec.firmware import why_none
from vfagent.guests.spec.nics import nics_of
from vfagent.guests.spec.packages import FIRMWARE
from vfagent.guests.spec.placement import ManagedPf, place
from vfagent.guests.spec.qemu import Guest, argv
from vfagent.guests.state import GuestState, boot_with, with_facts
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress
from vfagent.plan.vlan_conflicts import without_conflicts
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import pf_addresses
from vfagent.reconcile.reports import Observed
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.store.guest_records import VF_USERS, GuestRecords, guest_cgroup
from vfagent.store.host_files import facts_in
from vfagent.store.identity import read_identity
from vfagent.store.state import State


@frozen(slots=True)
class PlannedGuest:
    """`to_do`: it would be started, or it waits for something."""

    name: str
    text: str
    to_do: bool
    vfs: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"guest {self.name}: {self.text}"


def dry_runs(policy: Policy, host: Host, root: Path) -> list[Observed]:
    """Each PF as observed, with its plan."""
    state, identity = State(root), read_identity(root)
    tasks = (
        Task(address, policy, identity, state.driver_state(address), dry=True, grace_over=True)
        for address in pf_addresses(host)
    )
    observations = [observe_and_plan(task, host, state, task.driver_state) for task in tasks]
    plans = without_conflicts(observed.plan for observed in observations)
    return [replace(observed, plan=plan) for observed, plan in zip(observations, plans, strict=True)]


def plan_guests(policy: Policy, observations: Iterable[Observed], host: Host, root: Path) -> Iterator[PlannedGuest]:
    pfs = [
        ManagedPf(observed.pf, observed.desired, observed.plan)
        for observed in observations
        if observed.pf and observed.desired
    ]
    held, records, machine_id = _held(host), GuestRecords(root).all(), read_identity(root).machine_id
    images = images_for(policy.guest, root)
    states = {name: GuestState(name, record=record) for name, record in records.items()}
    for placement in place(policy.guest, pfs, held, {name for name, state in states.items() if state.record_stopped}):
        name = placement.rule.name
        state = states.get(name) or GuestState(name)
        placement = with_facts(placement, host)
        if placement.absent_bridge in {bridge.name for bridge in policy.bridge}:
            placement = replace(placement, absent_bridge=None)  # it is made first
        state.update(placement, boot_with(placement, images, machine_id))
        runs = name in held or host.sysfs.exists(guest_cgroup(name))
        yield _planned(state, policy.agent.ipxe_source, root, runs=runs)


def _held(host: Host) -> dict[str, tuple[PciAddress, ...]]:
    """The VFs of running guests, which have a cgroup."""
    held: dict[str, tuple[PciAddress, ...]] = {}
    for address in host.sysfs.names(VF_USERS):
        name = (host.sysfs.read(f"{VF_USERS}/{address}") or "").strip('"')
        if name and host.sysfs.exists(guest_cgroup(name)):
            held[name] = (*held.get(name, ()), PciAddress(address))
    return held


def _planned(state: GuestState, source: str | None, root: Path, *, runs: bool) -> PlannedGuest:
    assert state.placement is not None
    vfs = tuple(f"{vf} ({vf.address})" for vf in state.placement.vfs)
    where = ", ".join((*vfs, *(f"bridge {nic.bridge}" for nic in state.placement.rule.nic)))
    if runs:
        return PlannedGuest(state.name, f"runs on {where}", to_do=False, vfs=vfs)
    if why := state.stays_down:
        return PlannedGuest(state.name, f"is not started: {why}", to_do=False)
    if state.blocker or state.boot is None:
        return PlannedGuest(state.name, f"waits: {state.blocker}", to_do=True)
    if unfit := unfit_file(state.placement.rule, state.boot, facts_in(root)):
        return PlannedGuest(state.name, f"waits: {unfit[0]} ({unfit[1]})", to_do=True)
    rule, machine = state.placement.rule, machine_of(root, state.placement.rule)
    firmware = firmware_of(root, rule, machine)
    if rule.firmware == "uefi" and firmware is None and (root / "usr/bin").exists():
        text = why_none(machine, secure_boot=rule.secure_boot)
        return PlannedGuest(state.name, f"waits: {text} ({FIRMWARE.hint})", to_do=True)
    # Placeholders: only the service tries KVM, and the UUID differs by host.
    try:
        nics = nics_of(rule, state.placement.vfs, read_identity(root).machine_id)
    except VfagentError as error:
        return PlannedGuest(state.name, f"waits: {error} ({error.hint})", to_do=True)
    guest = Guest(
        rule, state.placement.vfs, state.boot, kvm=True, uuid="UUID", machine=machine, firmware=firmware, nics=nics
    )
    text = f"start on {where} by its {state.boot.loader}{_rom(state.boot, source, root)}"
    return PlannedGuest(state.name, text, to_do=True, vfs=vfs, argv=tuple(argv(guest)))


def _rom(boot: Boot, source: str | None, root: Path) -> str:
    if boot.rom is None:
        return ""
    if boot.rom.file:
        return f" {boot.rom.file}"
    if known(boot.rom, source, root):
        return f" {boot.rom.target}, which is built"
    if source is None:
        return f" {boot.rom.target}, which cannot be built: agent.ipxe_source names no source tree"
    return f" {boot.rom.target}, once that is built from {source}"
