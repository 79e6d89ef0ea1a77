# SPDX-License-Identifier: Apache-2.0
"""One PF's plan: desired and observed in, steps out. Pure.

VFs that do not exist yet are planned by their index, all in one round; their addresses and IOMMU groups are
beyond the plan's horizon. After it has been executed the PF is observed and planned again, until the plan is empty.
"""

from dataclasses import replace

from vfagent.frozen import frozen
from vfagent.model.desired import HOST_DRIVER, NO_DRIVER, DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import VFIO_DRIVER, Pf, Vf, pf_in_use
from vfagent.model.pci import PciAddress
from vfagent.plan.fdb import plan_fdb
from vfagent.plan.network import plan_network
from vfagent.plan.notes import plan_notes, rates_waiting
from vfagent.plan.quirks import Quirks, quirks_of
from vfagent.plan.steps import (
    BindDriver,
    ConfigureVf,
    SetAdminState,
    SetAutoprobe,
    SetEswitch,
    SetMtu,
    SetNumvfs,
    Step,
    UnbindDriver,
)
from vfagent.plan.switch import (
    count_steps_with_mode,
    mode_change_in_place,
    plan_hwmode,
    plan_representors,
    wanted_eswitch,
)
from vfagent.plan.vf import Deferred, Planned, Problem, plan_driver, plan_new_driver, plan_new_settings, plan_settings

ParallelGroup = tuple[Planned, ...]
UDEV_NOT_DONE = "udev has not finished with the PF"

_Groups = dict[int | None, dict[PciAddress, str]]  # of each IOMMU group, which driver each of its VFs is to have


@frozen
class Plan:
    """Stages follow one another; the chains of one stage touch different kernel locks and run at once."""

    batches: tuple[tuple[ParallelGroup, ...], ...] = ()
    deferred: tuple[Deferred, ...] = ()
    waiting: tuple[str, ...] = ()  # what must arrive first; an event will tell
    problems: tuple[Problem, ...] = ()  # what the policy asks for and cannot be had here
    notes: tuple[str, ...] = ()  # what is left out, and why that is in order
    horizon: bool = False  # VFs are made anew: what they will be like is seen in the next round
    independent: tuple[
        ParallelGroup, ...
    ] = ()  # the host's own network: after the stages, each chain whatever became of the others
    lacking: tuple[str, ...] = ()  # what of that network cannot be had now; guests wait for it

    @property
    def steps(self) -> tuple[Planned, ...]:
        staged = (planned for batch in self.batches for group in batch for planned in group)
        return (*staged, *(planned for group in self.independent for planned in group))

    @property
    def settled(self) -> bool:
        """Nothing left that the policy wants and this PF could have."""
        return not (self.steps or self.deferred or self.waiting or self.problems)


def plan_pf(desired: DesiredPf, pf: Pf, driver_state: DriverState, suspended: ParallelGroup = ()) -> Plan:
    """`suspended`: steps that failed too often; without the card's other mode the rest is done all the same."""
    if desired.eswitch and any(isinstance(one.step, SetEswitch) for one in suspended):
        plan = plan_pf(replace(desired, eswitch=None), pf, driver_state)
        return replace(plan, problems=(Problem(f"eswitch {desired.eswitch} could not be set"), *plan.problems))
    notes = plan_notes(desired, pf, driver_state)
    if waiting := _waiting(pf):
        return Plan(waiting=(waiting,), notes=notes)
    if desired.problem:
        return with_network(Plan(problems=(Problem(desired.problem),), notes=notes), desired, pf, driver_state)
    if fewer := _fewer(desired, driver_state):
        plan = plan_pf(fewer, pf, driver_state)
        short = f"the driver makes only {fewer.numvfs} of the {desired.numvfs} VFs that rule {desired.rule!r} asks for"
        return replace(plan, problems=(Problem(short), *plan.problems))
    mode = wanted_eswitch(desired, pf, driver_state)
    anew = mode is not None and bool(pf.vfs) and not quirks_of(pf.driver).eswitch_with_vfs
    if not anew and (desired.numvfs is None or desired.numvfs == len(pf.vfs)):
        return with_network(_plan_rest(desired, pf, driver_state, (), notes), desired, pf, driver_state)
    reason = f"found eswitch {pf.eswitch}" if anew else f"found {len(pf.vfs)} VFs"
    if blocker := _forbidden(desired, pf):
        step = SetEswitch(pf.address, mode or "") if anew else SetNumvfs(pf.address, desired.numvfs or 0)
        late = Deferred(step, reason, blocker)
        return with_network(_plan_rest(desired, pf, driver_state, (late,), notes), desired, pf, driver_state)
    plan = Plan(batches=_creation(desired, pf, driver_state, reason), notes=notes, horizon=True)
    # A change of the mode may make the PF's netdev anew.
    return plan if mode else with_network(plan, desired, pf, driver_state)


def _fewer(desired: DesiredPf, driver_state: DriverState) -> DesiredPf | None:
    """What is left to wish for, where the driver was seen to make no more VFs: those it makes are set and bound."""
    most = driver_state.most_vfs
    if most is None or desired.numvfs is None or desired.numvfs <= most:
        return None
    return replace(desired, numvfs=most, vfs=tuple(vf for vf in desired.vfs if vf.index < most))


def with_network(plan: Plan, desired: DesiredPf, pf: Pf, driver_state: DriverState) -> Plan:
    """What the host's own network on this PF lacks, and the mode of the card's switch."""
    network, hwmode = plan_network(desired, pf), plan_hwmode(desired, pf, driver_state, _forbidden(desired, pf))
    entries, note = plan_fdb(desired, pf, driver_state, quirks_of(pf.driver))
    mode = (hwmode,) if isinstance(hwmode, Planned) else ()
    groups = (mode, *network.groups, plan_representors(desired, pf), entries)
    late = network.deferred + ((hwmode,) if isinstance(hwmode, Deferred) else ())
    return replace(
        plan,
        independent=tuple(group for group in groups if group),
        deferred=plan.deferred + late,
        waiting=plan.waiting + network.waiting,
        problems=plan.problems + network.problems,
        notes=plan.notes + ((note,) if note else ()),
        lacking=(
            *map(str, network.problems),
            *(f"{deferred.step.describe()} is deferred" for deferred in network.deferred),
        ),
    )


def plan_leftovers(nothing: DesiredPf, pf: Pf, driver_state: DriverState) -> Plan:
    """Of a PF without a rule: the host's network that was made on it goes; its VFs stay as they are."""
    return Plan() if _waiting(pf) else with_network(Plan(), nothing, pf, driver_state)


def _waiting(pf: Pf) -> str | None:
    if pf.unobserved:
        return pf.unobserved
    if pf.driver == VFIO_DRIVER:
        return "the PF itself is on vfio-pci, for a guest"
    if pf.driver is None:
        return "no driver is bound to the PF" if pf.initialized else UDEV_NOT_DONE
    if pf.is_nic and pf.netdev is None:
        return f"driver {pf.driver} shows no netdev here yet"
    if pf.netdev and not pf.netdev.initialized:
        return f"udev has not finished with {pf.netdev.name}"
    return None


def _creation(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, reason: str
) -> tuple[tuple[ParallelGroup, ...], ...]:
    """All VFs anew: those that are there go, the wanted ones are made, set and bound."""
    quirks = quirks_of(pf.driver)
    count = len(pf.vfs) if desired.numvfs is None else desired.numvfs
    steps = _count_steps(count, pf, quirks, wanted_eswitch(desired, pf, driver_state))
    make = tuple(Planned(step, reason) for step in steps)
    if not count:
        return ((make,),)
    driver_state = driver_state.without_vfs()
    mtu, up = _new_port(desired, pf, quirks)
    settings = tuple(item for want in desired.vfs for item in plan_new_settings(pf, want, driver_state, quirks))
    drivers = tuple(item for want in desired.vfs for item in plan_new_driver(pf, want))
    return _used(((*mtu, *make),), *_batches(up, settings, drivers, quirks))


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
        # The VF driver must not probe what goes to vfio-pci; with 7 VFs that alone halves the time.
        steps.append(SetAutoprobe(pf.address, on=False))
    if quirks.up_before_vfs and pf.netdev and not pf.netdev.admin_up:
        steps.append(SetAdminState(pf.address, pf.netdev.ifindex, up=True))
    return [*steps, *count_steps_with_mode(wanted, pf, mode, quirks)]


def _forbidden(desired: DesiredPf, pf: Pf) -> str | None:
    """Why this PF's VFs must not be re-created, nor its port be reset, now."""
    return "; ".join(pf_in_use(pf)) or _administers(desired, pf)


def _administers(desired: DesiredPf, pf: Pf) -> str | None:
    netdev = pf.netdev
    if netdev and netdev.management and not desired.allow_management:
        return f"{netdev.name} {netdev.management} (allow_management = true permits it)"
    return None


def _plan_rest(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, deferred: tuple[Deferred, ...], notes: tuple[str, ...]
) -> Plan:
    quirks = quirks_of(pf.driver)
    present = {vf.index: vf for vf in pf.vfs}
    pairs = [(present[want.index], want) for want in desired.vfs if want.index in present]
    port = _port_items(desired, pf, quirks)
    settings = [item for vf, want in pairs for item in plan_settings(pf, vf, want, driver_state, quirks)]
    groups = _wishes_by_group(pairs)
    blocked = {vf.index: why for vf, want in pairs if (why := _not_assignable(vf, want, groups))}
    drivers = [item for vf, want in pairs if vf.index not in blocked and (item := plan_driver(pf, vf, want))]
    mode = wanted_eswitch(desired, pf, driver_state)
    switch = mode_change_in_place(pf, mode, _forbidden(desired, pf)) if mode and not deferred else ()
    if switch and all(isinstance(item, Planned) for item in switch):
        drivers, settings = [], []  # they follow in the next round
    first = _ready(list(switch)) or _driven_anew(pf, pairs, settings)
    items = [*port, *switch, *settings, *drivers]
    return Plan(
        batches=_used((first,)) + _batches(_ready(port), _ready(settings), _ready(drivers), quirks),
        deferred=(*deferred, *(item for item in items if isinstance(item, Deferred))),
        problems=tuple(Problem(text, index) for index, text in blocked.items()),
        notes=notes,
        waiting=rates_waiting(desired, pf, quirks, driver_state),
        horizon=False,
    )


def _driven_anew(pf: Pf, pairs: list[tuple[Vf, DesiredVf]], settings: list[Planned | Deferred]) -> ParallelGroup:
    """VFs whose host driver is to read its new MAC: mlx5 hands it to no driver that runs (sriov-cni). The next round
    brings the driver back."""
    macs = {item.step.index: item.step.settings.mac for item in _ready(settings) if isinstance(item.step, ConfigureVf)}
    hosts = (vf for vf, want in pairs if vf.netdevs and want.driver in (HOST_DRIVER, vf.driver))
    stale = (vf for vf in hosts if macs.get(vf.index) not in (None, vf.netdevs[0].mac))
    return tuple(Planned(UnbindDriver(pf.address, vf.index, vf.address), "to start with its new MAC") for vf in stale)


def _ready(items: list[Planned | Deferred]) -> ParallelGroup:
    return tuple(item for item in items if isinstance(item, Planned))


def _batches(
    port: ParallelGroup, settings: ParallelGroup, drivers: ParallelGroup, quirks: Quirks
) -> tuple[tuple[ParallelGroup, ...], ...]:
    """The port comes up, then each VF is set, under the rtnl lock; meanwhile sysfs binds those that need neither.

    A host driver probes after that: igbvf on a PF that is down waits 2.3 s, and takes its MAC at probe.
    """
    late = tuple(item for item in drivers if isinstance(item.step, BindDriver) and item.step.driver is None)
    early = tuple(item for item in drivers if item not in late)
    under_rtnl = (*port, *settings)
    if quirks.settings_before_bind:
        return _used(((*under_rtnl, *early, *late),))
    return _used(((*under_rtnl, *late), early))


def _used(*batches: tuple[ParallelGroup, ...]) -> tuple[tuple[ParallelGroup, ...], ...]:
    """Without the chains that are empty, and the stages of which nothing is left."""
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
    if used and not netdev.admin_up:
        items.append(Planned(SetAdminState(pf.address, netdev.ifindex, up=True), "found down"))
    return items


def _mtu_item(desired: DesiredPf, mtu: int, pf: Pf, quirks: Quirks) -> Planned | Deferred:
    assert pf.netdev is not None
    step, reason = SetMtu(pf.address, pf.netdev.ifindex, mtu), f"found {pf.netdev.mtu}"
    blocker = _forbidden(desired, pf) if quirks.mtu_resets_vfs else _administers(desired, pf)
    return Deferred(step, reason, blocker) if blocker else Planned(step, reason)


def _wishes_by_group(pairs: list[tuple[Vf, DesiredVf]]) -> _Groups:
    groups: _Groups = {}
    for vf, want in pairs:
        groups.setdefault(vf.iommu_group, {})[vf.address] = want.driver
    return groups


def _not_assignable(vf: Vf, want: DesiredVf, groups: _Groups) -> str | None:
    """vfio needs the VF's whole IOMMU group: anything else in it that has, or will have, a driver is in the way."""
    if want.driver != VFIO_DRIVER:
        return None
    if vf.iommu_group is None:
        found = vf.driver == VFIO_DRIVER  # by vfio's no-IOMMU mode, which somebody turned on
        return None if found else "has no IOMMU group (is the IOMMU on, as with intel_iommu=on?)"
    wishes = groups[vf.iommu_group]
    driven = {address for address, driver in wishes.items() if driver not in (VFIO_DRIVER, NO_DRIVER)}
    others = sorted(driven | {address for address in vf.group_blockers if address not in wishes})
    return f"shares IOMMU group {vf.iommu_group} with {', '.join(others)}" if others else None
