# SPDX-License-Identifier: Apache-2.0
"""What would be done about guests, without the service and without asking systemd: for `plan`."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vfagent.frozen import frozen
from vfagent.guests.rom_build import known
from vfagent.guests.spec.boot import Boot, boot_of
from vfagent.guests.spec.files import absent_file
from vfagent.guests.spec.placement import ManagedPf, place
from vfagent.guests.spec.qemu import Guest, argv
from vfagent.guests.state import GuestState, with_hardware
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress
from vfagent.plan.vlan_conflicts import without_conflicts
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import pf_addresses
from vfagent.reconcile.reports import Observed
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.store.guest_records import VF_USERS, GuestRecords, guest_cgroup
from vfagent.store.host_files import seen_in
from vfagent.store.identity import read_identity
from vfagent.store.state import State


@frozen(slots=True)
class PlannedGuest:
    """`to_do` tells whether it would be started, or waits for something that is still to come."""

    name: str
    text: str
    to_do: bool
    vfs: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"guest {self.name}: {self.text}"


def dry_runs(policy: Policy, host: Host, root: Path) -> list[Observed]:
    """Each PF as it is, and what would be done to it."""
    state, identity = State(root), read_identity(root)
    tasks = (Task(address, policy, identity, state.driver_state(address), dry=True) for address in pf_addresses(host))
    looks = [observe_and_plan(task, host, task.driver_state) for task in tasks]
    plans = without_conflicts(one.plan for one in looks)
    return [replace(one, plan=plan) for one, plan in zip(looks, plans, strict=True)]


def plan_guests(policy: Policy, looks: Iterable[Observed], host: Host, root: Path) -> Iterator[PlannedGuest]:
    pfs = [ManagedPf(one.pf, one.desired, one.plan) for one in looks if one.pf and one.desired]
    held, records = _held(host), GuestRecords(root).all()
    states = {name: GuestState(name, record=record) for name, record in records.items()}
    for placement in place(policy.guest, pfs, held, {name for name, one in states.items() if one.record_stopped}):
        name = placement.rule.name
        state = states.get(name) or GuestState(name)
        placement = with_hardware(placement, host)
        hardware = tuple(vf.hardware for vf in placement.vfs)
        state.take(placement, boot_of(placement.rule, hardware) if hardware else None)
        yield _planned(state, policy.agent.ipxe_source, root, runs=name in held)


def _held(host: Host) -> dict[str, tuple[PciAddress, ...]]:
    """The VFs of guests that run: they have a cgroup."""
    held: dict[str, tuple[PciAddress, ...]] = {}
    for address in host.sysfs.names(VF_USERS):
        name = (host.sysfs.read(f"{VF_USERS}/{address}") or "").strip('"')
        if name and host.sysfs.exists(guest_cgroup(name)):
            held[name] = (*held.get(name, ()), PciAddress(address))
    return held


def _planned(state: GuestState, source: str | None, root: Path, *, runs: bool) -> PlannedGuest:
    assert state.placement is not None
    vfs = tuple(f"{vf} ({vf.address})" for vf in state.placement.vfs)
    if runs:
        return PlannedGuest(state.name, f"runs on {', '.join(vfs)}", to_do=False, vfs=vfs)
    if why := state.stays_down:
        return PlannedGuest(state.name, f"stays as it is: {why}", to_do=False)
    if state.blocker or state.boot is None:
        return PlannedGuest(state.name, f"waits: {state.blocker}", to_do=True)
    if found := absent_file(state.placement.rule, state.boot, seen_in(root)):
        return PlannedGuest(state.name, f"waits: {found[0]} ({found[1]})", to_do=True)
    # Whether KVM works is tried by the service, and a UUID needs the host's identity: both stand as they would be.
    guest = Guest(state.placement.rule, state.placement.vfs, state.boot, kvm=True, uuid="UUID")
    text = f"start on {', '.join(vfs)} by its {state.boot.loader}{_rom(state.boot, source, root)}"
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
