# SPDX-License-Identifier: Apache-2.0
"""One PF's plan: desired and observed in, steps out. Pure.

VFs that do not exist yet are planned by their index, all in one round; their PCI addresses and IOMMU groups are
beyond the plan's horizon. After a plan was executed, the PF is observed and planned again, until the plan is empty.
"""

from dataclasses import replace

from vfagent.frozen import frozen
from vfagent.model.desired import KEEP_DRIVER, NO_DRIVER, DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.evidence import UIO_DRIVERS, is_vfio
from vfagent.model.inventory import Pf
from vfagent.model.vf_settings import VfSettings
from vfagent.model.vf_use import pf_in_use
from vfagent.plan.autoconf import autoconf_notes, autoconf_problems, plan_pf_autoconf
from vfagent.plan.fdb import plan_fdb
from vfagent.plan.iommu_groups import not_assignable, sharing_ahead, will_share
from vfagent.plan.isolation import demanded, plan_isolation, plan_other_impossible
from vfagent.plan.network import plan_network
from vfagent.plan.network_steps import SetAutoconf, SetEswitch
from vfagent.plan.no_netdev import without_netdev
from vfagent.plan.notes import plan_notes, rate_problems, rates_waiting
from vfagent.plan.quirks import Quirks, quirks_of
from vfagent.plan.rebind import unbound_to_read
from vfagent.plan.steps import (
    BindDriver,
    ConfigureVf,
    SetAdminState,
    SetAutoprobe,
    SetMtu,
    SetNumvfs,
    Step,
    names,
)
from vfagent.plan.switch import (
    count_steps_with_mode,
    eswitch_problems,
    mode_change_in_place,
    plan_hwmode,
    plan_representors,
    wanted_eswitch,
)
from vfagent.plan.vf import (
    Deferred,
    ParallelGroup,
    Planned,
    Problem,
    plan_driver,
    plan_new_driver,
    plan_new_settings,
    plan_settings,
    split,
)
from vfagent.plan.vf_creation import gone_vfs, other_count

UDEV_NOT_DONE = "udev has not finished with the PF"


@frozen
class Plan:
    """`batches` follow one another; the groups of a batch take different kernel locks and run in parallel."""

    batches: tuple[tuple[ParallelGroup, ...], ...] = ()
    deferred: tuple[Deferred, ...] = ()
    waiting: tuple[str, ...] = ()  # what must come first; an event triggers the next reconcile
    problems: tuple[Problem, ...] = ()  # what the policy asks for and this host cannot provide
    notes: tuple[str, ...] = ()  # what is left out without being a problem
    horizon: bool = False  # VFs are created: the next round observes them
    # The host's network, after the batches: one group after the other, also when one fails.
    independent: tuple[ParallelGroup, ...] = ()
    lacking: tuple[str, ...] = ()  # of the card's switch and the host's network: guests wait for them

    @property
    def steps(self) -> tuple[Planned, ...]:
        batched = (planned for batch in self.batches for group in batch for planned in group)
        return (*batched, *(planned for group in self.independent for planned in group))

    @property
    def settled(self) -> bool:
        """Nothing is left that the policy asks for and this host can provide."""
        return not (self.steps or self.deferred or self.waiting or self.problems)


def plan_pf(desired: DesiredPf, pf: Pf, driver_state: DriverState, suspended: ParallelGroup = ()) -> Plan:
    """`suspended`: steps that failed too often. If the eswitch mode is among them, the rest is done without it."""
    if desired.eswitch and any(isinstance(planned.step, SetEswitch) for planned in suspended):
        plan = plan_pf(replace(desired, eswitch=None), pf, driver_state)
        return _without_mode(plan, Problem(f"eswitch {desired.eswitch} could not be set"))
    if pf.switch_users and (mode := wanted_eswitch(desired, pf, driver_state)):
        return _with_mode_later(plan_pf(replace(desired, eswitch=None), pf, driver_state), pf, mode)
    notes = plan_notes(desired, pf, driver_state)
    if waiting := _waiting(pf):
        return Plan(notes=notes) if _nothing_to_do(desired, pf) else Plan(waiting=(waiting,), notes=notes)
    if desired.problem:
        return with_network(Plan(problems=(Problem(desired.problem),), notes=notes), desired, pf, driver_state)
    plan = _plan_vfs(desired, pf, driver_state, notes)
    rates = rate_problems(desired, pf, quirks_of(pf.driver), driver_state)
    absent, isolation = without_netdev(desired, pf), plan_isolation(desired, pf, driver_state)
    problems = (*plan.problems, *absent, *isolation, *rates, *plan_other_impossible(desired, pf))
    plan = replace(plan, problems=problems)
    return _without_mode(plan, *eswitch_problems(desired, pf, driver_state))


def _without_mode(plan: Plan, *problems: Problem) -> Plan:
    """Guests do not start on VFs of the other eswitch mode."""
    lacking = (*map(str, problems), *plan.lacking)
    return replace(plan, problems=(*problems, *plan.problems), lacking=lacking) if problems else plan


def _with_mode_later(plan: Plan, pf: Pf, mode: str) -> Plan:
    """What else uses the card's switch would lose it with the mode. Guests do not start on VFs of the other mode."""
    blocker = f"{', '.join(pf.switch_users)} on its switch: a subfunction, or the PF of another host"
    late = Deferred(SetEswitch(pf.address, mode), f"found eswitch {pf.eswitch}", blocker)
    lacking = (*plan.lacking, f"{late.step.describe()} is deferred")
    return replace(plan, deferred=(late, *plan.deferred), lacking=lacking)


def _plan_vfs(desired: DesiredPf, pf: Pf, driver_state: DriverState, notes: tuple[str, ...]) -> Plan:
    """The number of VFs, what each is to have, and the host's network."""
    if other := other_count(desired, pf, driver_state):
        numvfs, problem = other
        possible = replace(desired, numvfs=numvfs, vfs=tuple(vf for vf in desired.vfs if vf.index < numvfs))
        plan = _plan_vfs(possible, pf, driver_state, notes)
        return replace(plan, problems=(problem, *plan.problems))
    mode = wanted_eswitch(desired, pf, driver_state)
    recreate = mode is not None and bool(pf.vfs) and not quirks_of(pf.driver).eswitch_with_vfs
    if not recreate and (desired.numvfs is None or desired.numvfs == len(pf.vfs)):
        return with_network(_plan_rest(desired, pf, driver_state, (), notes), desired, pf, driver_state)
    reason = f"found eswitch {pf.eswitch}" if recreate else f"found {len(pf.vfs)} VFs"
    if blocker := _blocker(desired, pf):
        step = SetEswitch(pf.address, mode or "") if recreate else SetNumvfs(pf.address, desired.numvfs or 0)
        deferred = Deferred(step, reason, blocker)
        return with_network(_plan_rest(desired, pf, driver_state, (deferred,), notes), desired, pf, driver_state)
    batches, ahead = _creation(desired, pf, driver_state, reason), sharing_ahead(desired, pf)
    plan = Plan(batches=batches, problems=ahead, notes=notes, horizon=True)
    # A change of the eswitch mode may replace the PF's netdev.
    return plan if mode else with_network(plan, desired, pf, driver_state)


def _nothing_to_do(desired: DesiredPf, pf: Pf) -> bool:
    """Whether `vfs = 0` is all that is asked of a PF without VFs whose driver is absent or vfio-pci, or whose netdev is
    elsewhere."""
    if desired.problem:
        return False
    asked = (desired.numvfs, desired.mtu, desired.hwmode, desired.eswitch, desired.vlan_interfaces)
    left_alone = pf.driver is None or is_vfio(pf.driver) or pf.netdev_away
    return left_alone and asked == (0, None, None, None, ()) and not pf.vfs


def with_network(plan: Plan, desired: DesiredPf, pf: Pf, driver_state: DriverState) -> Plan:
    """The plan, with the host's network on this PF, hwmode and FDB."""
    network, hwmode = plan_network(desired, pf), plan_hwmode(desired, pf, driver_state, _blocker(desired, pf))
    entries, fdb_notes = plan_fdb(desired, pf, driver_state, quirks_of(pf.driver))
    mode = (hwmode,) if isinstance(hwmode, Planned) else ()
    ports, unmoved = plan_representors(desired, pf)
    groups = (mode, *network.groups, ports, entries)
    deferred = network.deferred + ((hwmode,) if isinstance(hwmode, Deferred) else ())
    return replace(
        plan,
        independent=tuple(group for group in groups if group),
        deferred=plan.deferred + deferred,
        waiting=plan.waiting + network.waiting,
        problems=plan.problems + network.problems + unmoved + autoconf_problems(pf, driver_state),
        notes=plan.notes + fdb_notes + autoconf_notes(pf, driver_state),
        lacking=(
            *map(str, network.problems),
            *(f"{item.step.describe()} is deferred" for item in network.deferred),
        ),
    )


def plan_leftovers(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> Plan:
    """The plan for a PF without a rule: managed interfaces on it are removed; its VFs are not touched."""
    return Plan() if _waiting(pf) else with_network(Plan(), desired, pf, driver_state)


def _waiting(pf: Pf) -> str | None:
    if pf.unobserved:
        return pf.unobserved
    if is_vfio(pf.driver):
        return f"the PF itself is bound to {pf.driver}, where vfagent creates no VFs, with enable_sriov or without"
    if pf.driver is None:
        return "no driver is bound to the PF" if pf.initialized else UDEV_NOT_DONE
    if pf.driver in UIO_DRIVERS:
        return f"the PF itself is bound to {pf.driver}, which makes no VFs"
    if pf.netdev_away:
        return "its netdev is in another network namespace: vfagent leaves the PF alone until the netdev is back here"
    if pf.netdev_pending and not pf.is_infiniband:
        return f"driver {pf.driver} has made no netdev yet"
    if pf.netdev and not pf.netdev.initialized:
        return f"udev has not finished with {pf.netdev.name}"
    return None


def _creation(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, reason: str
) -> tuple[tuple[ParallelGroup, ...], ...]:
    """Remove the present VFs; create, configure and bind the wanted ones."""
    quirks = quirks_of(pf.driver)
    count = len(pf.vfs) if desired.numvfs is None else desired.numvfs
    steps = _count_steps(count, pf, quirks, wanted_eswitch(desired, pf, driver_state))
    # An interface asks for routers as soon as it is up. Some drivers bring it up to remove VFs, too.
    closed = plan_pf_autoconf(pf) if count or any(isinstance(step, SetAdminState) for step in steps) else ()
    create = (*closed, *(Planned(step, reason) for step in steps))
    if not count or (pf.netdev is None and pf.is_nic and not pf.is_infiniband):
        return ((create,),)  # a netdev may come with the VFs, or meanwhile: then they get their settings before drivers
    driver_state = driver_state.without_vfs()
    mtu, up = _new_port(desired, pf, quirks)
    settings = tuple(item for wanted in desired.vfs for item in plan_new_settings(pf, wanted, driver_state, quirks))
    loose = _not_to_be_bound(desired, replace(pf, vfs=()), driver_state)
    bound = [vf for vf in desired.vfs if vf.index not in loose and not will_share(pf, vf)]
    drivers = _isolated(tuple(item for wanted in bound for item in plan_new_driver(pf, wanted)), desired)
    return _not_empty(((*mtu, *create),), *_batches(up, settings, drivers, quirks))


def _new_port(desired: DesiredPf, pf: Pf, quirks: Quirks) -> tuple[ParallelGroup, ParallelGroup]:
    netdev = pf.netdev
    if netdev is None:
        return (), ()
    raised = desired.mtu is not None and netdev.mtu < desired.mtu
    mtu = (Planned(SetMtu(pf.address, netdev.ifindex, desired.mtu or 0), f"found {netdev.mtu}"),) if raised else ()
    if netdev.admin_up or quirks.up_before_vfs:
        return mtu, ()
    return mtu, (Planned(SetAdminState(pf.address, netdev.ifindex, up=True), "found down"),)


def _count_steps(wanted: int, pf: Pf, quirks: Quirks, mode: str | None) -> list[Step]:
    steps: list[Step] = []
    if wanted and pf.autoprobe:
        # The host driver must not probe VFs that go to vfio-pci: with 7 VFs that halves the time.
        steps.append(SetAutoprobe(pf.address, on=False))
    if quirks.up_before_vfs and pf.netdev and not pf.netdev.admin_up:
        steps.append(SetAdminState(pf.address, pf.netdev.ifindex, up=True))
    return [*steps, *count_steps_with_mode(wanted, pf, mode, quirks)]


def _blocker(desired: DesiredPf, pf: Pf) -> str | None:
    """What blocks re-creating this PF's VFs and resetting its port."""
    return "; ".join(pf_in_use(pf)) or _management_blocker(desired, pf)


def _management_blocker(desired: DesiredPf, pf: Pf) -> str | None:
    administer = next((netdev for netdev in pf.netdevs if netdev.management), None)
    if administer and not desired.allow_management:
        return f"{administer.name} {administer.management} (allow_management = true permits it)"
    return None


def _plan_rest(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, deferred: tuple[Deferred, ...], notes: tuple[str, ...]
) -> Plan:
    quirks = quirks_of(pf.driver)
    present = {vf.index: vf for vf in pf.vfs if not vf.gone}
    pairs = [
        (present[wanted.index], _with_own_driver(wanted, driver_state))
        for wanted in desired.vfs
        if wanted.index in present
    ]
    port = _port_items(desired, pf, quirks)
    settings = [item for vf, wanted in pairs for item in plan_settings(pf, vf, wanted, driver_state, quirks)]
    blocked = not_assignable(pairs, pf.shared_group)
    loose = _not_to_be_bound(desired, pf, driver_state)
    kept = {
        vf.index for vf, wanted in pairs if vf.index in blocked or (vf.index in loose and wanted.driver != NO_DRIVER)
    }
    drivers = [item for vf, wanted in pairs if vf.index not in kept and (item := plan_driver(pf, vf, wanted.driver))]
    mode = wanted_eswitch(desired, pf, driver_state)
    switch = mode_change_in_place(pf, mode, _blocker(desired, pf)) if mode and not deferred else ()
    if switch and all(isinstance(item, Planned) for item in switch):
        drivers, settings = [], []  # they follow in the next round
    first = _ready(list(switch)) or unbound_to_read(pf, pairs, _ready(settings), kept - blocked.keys())
    items = [*port, *switch, *settings, *drivers]
    if not (driver_state.changed or deferred) and all(_only_prepares(item) for item in items):
        port = items = []
    return Plan(
        batches=_not_empty((first,))
        + _batches(_ready(port), _ready(settings), _isolated(_ready(drivers), desired), quirks),
        deferred=(*deferred, *(item for item in items if isinstance(item, Deferred))),
        problems=(*gone_vfs(pf), *(Problem(text, index, by_group=True) for index, text in blocked.items())),
        notes=notes,
        waiting=rates_waiting(desired, pf, quirks, driver_state),
        horizon=False,
    )


def _only_prepares(item: Planned | Deferred) -> bool:
    """Whether it is for what vfagent does later. A PF that is as its rule says, made so by others, has no such step."""
    return isinstance(item.step, SetAutoprobe | SetAutoconf)


def _not_to_be_bound(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> set[int | None]:
    """Another program may open a VF as soon as it is bound: not without its isolation."""
    return {problem.vf for problem in plan_isolation(desired, pf, driver_state)} if pf.netdev else set()


def _with_own_driver(wanted: DesiredVf, driver_state: DriverState) -> DesiredVf:
    """With the driver that vfagent unbound, or has not bound yet, where the VF keeps its driver."""
    own = driver_state.unbound.get(wanted.index) if wanted.driver == KEEP_DRIVER else None
    return wanted if own is None else replace(wanted, driver=own)


def _ready(items: list[Planned | Deferred]) -> ParallelGroup:
    return tuple(item for item in items if isinstance(item, Planned))


def _batches(
    port: ParallelGroup, settings: ParallelGroup, drivers: ParallelGroup, quirks: Quirks
) -> tuple[tuple[ParallelGroup, ...], ...]:
    """What isolates a VF is set before its driver is bound, as another program may open it then. After that the port
    comes up and VFs get their other settings, under the rtnl lock; in parallel, VFs are bound through sysfs.

    Host drivers are bound last: igbvf waits 2.3 s on a PF that is down, and reads its MAC at probe.
    """
    late = tuple(item for item in drivers if isinstance(item.step, BindDriver) and item.step.driver is None)
    early = tuple(item for item in drivers if item not in late)
    if quirks.settings_before_bind:
        return _not_empty(((*port, *settings, *early, *late),))
    first, rest = _isolation_first(port, settings, drivers)
    return _not_empty((first,), ((*port, *rest, *late), early))


def _isolated(drivers: ParallelGroup, desired: DesiredPf) -> ParallelGroup:
    """With what each VF has to have before it is bound."""
    wanted = {vf.index: demanded(vf) for vf in desired.vfs}
    return tuple(
        replace(item, step=replace(item.step, isolation=wanted[item.step.index]))
        if isinstance(item.step, BindDriver)
        else item
        for item in drivers
    )


def _isolation_first(
    port: ParallelGroup, settings: ParallelGroup, drivers: ParallelGroup
) -> tuple[ParallelGroup, ParallelGroup]:
    """The settings before the VFs are bound, and those after the port is up.

    A port that comes up resets the rest in some drivers: igb_vmm_control turns the spoof check of all VFs on.
    """
    bound = {item.step.index: item.step.isolation for item in drivers if isinstance(item.step, BindDriver)}
    if all(needed.empty for needed in bound.values()):
        return (), settings
    if not any(isinstance(item.step, SetMtu | SetAdminState) for item in port):
        return settings, ()
    first, rest = list[Planned](), list[Planned]()
    for item in settings:
        if not isinstance(item.step, ConfigureVf):
            continue
        needed = names(bound.get(item.step.index, VfSettings()))
        for step, part in zip(split(item.step, needed), (first, rest), strict=True):
            part += [] if step.settings.empty else [replace(item, step=step)]
    return tuple(first), tuple(rest)


def _not_empty(*batches: tuple[ParallelGroup, ...]) -> tuple[tuple[ParallelGroup, ...], ...]:
    """Without empty groups, and without batches that have no group left."""
    filled = (tuple(group for group in batch if group) for batch in batches)
    return tuple(batch for batch in filled if batch)


def _port_items(desired: DesiredPf, pf: Pf, quirks: Quirks) -> list[Planned | Deferred]:
    items: list[Planned | Deferred] = []
    if desired.numvfs and pf.autoprobe:
        items.append(Planned(SetAutoprobe(pf.address, on=False), "found on"))
    netdev = pf.netdev
    if netdev is None:
        return items
    if desired.mtu is not None and netdev.mtu < desired.mtu:
        items.append(_mtu_item(desired, desired.mtu, pf, quirks))
    used = (pf.vfs and desired.numvfs != 0) or desired.vlan_interfaces
    if used:
        items += plan_pf_autoconf(pf)
    if used and not netdev.admin_up:
        items.append(Planned(SetAdminState(pf.address, netdev.ifindex, up=True), "found down"))
    return items


def _mtu_item(desired: DesiredPf, mtu: int, pf: Pf, quirks: Quirks) -> Planned | Deferred:
    assert pf.netdev is not None
    step, reason = SetMtu(pf.address, pf.netdev.ifindex, mtu), f"found {pf.netdev.mtu}"
    blocker = _blocker(desired, pf) if quirks.mtu_resets_vfs else _management_blocker(desired, pf)
    return Deferred(step, reason, blocker) if blocker else Planned(step, reason)
