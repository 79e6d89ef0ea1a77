# SPDX-License-Identifier: Apache-2.0
"""The steps of one VF: its settings, which its PF holds, and its driver. Pure."""

from collections.abc import Container, Iterator
from dataclasses import fields, replace

from vfagent.frozen import frozen
from vfagent.model.desired import HOST_DRIVER, KEEP_DRIVER, NO_DRIVER, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.evidence import serves_host
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.vf_settings import Attribute, Rate, VfSettings, Vlan, VlanProtocol
from vfagent.model.vf_use import vf_in_use
from vfagent.plan.link_layer import settable
from vfagent.plan.quirks import Quirks
from vfagent.plan.steps import BindDriver, ConfigureVf, Step, UnbindDriver, describe_settings, names


@frozen(slots=True)
class Planned:
    """A step, and the observation that is its reason."""

    step: Step
    reason: str


ParallelGroup = tuple[Planned, ...]
"""Steps one after the other. The groups of one batch run at once: they do not take the same kernel locks."""


@frozen
class Deferred:
    """A step that waits until what it would remove or disturb is not in use any more."""

    step: Step
    reason: str
    blocker: str


@frozen
class Problem:
    """What the policy asks for and this host cannot provide.

    `vf` is the index of the VF that it is about, `lacks` the isolation that the VF is without; `by_group`: vfio cannot
    give the VF to a guest because of its IOMMU group.
    """

    text: str
    vf: int | None = None
    lacks: str | None = None
    by_group: bool = False

    def __str__(self) -> str:
        return self.text if self.vf is None else f"vf{self.vf}: {self.text}"


def plan_settings(
    pf: Pf, vf: Vf, desired: DesiredVf, driver_state: DriverState, quirks: Quirks
) -> Iterator[Planned | Deferred]:
    """Settings that differ, to be set through the PF; on a VF in use, disturbing ones are deferred."""
    if pf.netdev is None:
        return
    wanted = _settable(pf, pf.netdev, desired, driver_state, quirks)
    applied = driver_state.applied.get(vf.index, VfSettings())
    change = difference(wanted, vf.settings or VfSettings(), applied)
    use = vf_in_use(vf, pf)
    for part, blocker in _split(change, use, quirks):
        if not part.empty:
            step = ConfigureVf(pf.address, pf.netdev.ifindex, vf.index, part)
            reason = found(part, vf.settings or applied)
            yield Deferred(step, reason, f"vf{vf.index}: {blocker}") if blocker else Planned(step, reason)


def _settable(pf: Pf, netdev: Netdev, desired: DesiredVf, driver_state: DriverState, quirks: Quirks) -> VfSettings:
    wanted = supported(settable(desired.settings, pf), driver_state)
    return replace(wanted, rate=None) if quirks.rate_needs_carrier and not netdev.carrier else wanted


def plan_new_settings(pf: Pf, desired: DesiredVf, driver_state: DriverState, quirks: Quirks) -> Iterator[Planned]:
    """All settings of a VF that does not exist yet."""
    wanted = _settable(pf, pf.netdev, desired, driver_state, quirks) if pf.netdev else VfSettings()
    if pf.netdev and not wanted.empty:
        yield Planned(ConfigureVf(pf.address, pf.netdev.ifindex, desired.index, wanted), "a new VF")


def plan_new_driver(pf: Pf, desired: DesiredVf) -> Iterator[Planned]:
    if desired.driver != NO_DRIVER:
        driver = None if desired.driver in (HOST_DRIVER, KEEP_DRIVER) else desired.driver
        yield Planned(BindDriver(pf.address, desired.index, None, driver), "a new VF")


def believed(driver_state: DriverState, pf: Pf) -> DriverState:
    """Without the applied settings of VFs that were reset or created anew: what their driver reports has changed; and
    without the drivers of VFs that have one again, or that another program has taken meanwhile."""
    reported = {vf.index: vf.settings or VfSettings() for vf in pf.vfs}
    kept = {
        index: applied
        for index, applied in driver_state.applied.items()
        if index in reported and difference(applied, reported[index], applied).empty
    }
    present, most, least = len(pf.vfs), driver_state.most_vfs, driver_state.least_vfs
    most = None if most is not None and present > most else most
    least = None if least is not None and 0 < present < least else least
    driverless = {vf.index for vf in pf.vfs if vf.driver is None and vf.driver_override is None}
    unbound = {index: driver for index, driver in driver_state.unbound.items() if index in driverless}
    now = replace(driver_state, applied=kept, most_vfs=most, least_vfs=least, unbound=unbound)
    return driver_state if now == driver_state else now


def _split(change: VfSettings, use: str | None, quirks: Quirks) -> tuple[tuple[VfSettings, str | None], ...]:
    if use is None:
        return ((change, None),)
    disturbing = {attribute.value: None for attribute in quirks.disturbing}
    rest = {field.name: None for field in fields(change) if field.name not in disturbing}
    return (replace(change, **disturbing), None), (replace(change, **rest), use)


def split(step: ConfigureVf, first: Container[str]) -> tuple[ConfigureVf, ConfigureVf]:
    """The attributes that go first, and the rest."""
    every = names(step.settings)
    now = replace(step.settings, **{name: None for name in every if name not in first})
    later = replace(step.settings, **{name: None for name in every if name in first})
    return replace(step, settings=now, first=True), replace(step, settings=later)


def supported(settings: VfSettings, driver_state: DriverState) -> VfSettings:
    """The settings without those that this driver does not support."""
    missing = driver_state.unsupported
    if not missing:
        return settings
    names = {field.name for field in fields(settings)}
    settings = replace(settings, **{attribute.value: None for attribute in missing if attribute.value in names})
    if Attribute.VLAN_PROTOCOL in missing and settings.vlan and settings.vlan.protocol is not VlanProtocol.DOT1Q:
        settings = replace(settings, vlan=None)  # 802.1Q instead would be another network
    if Attribute.MIN_TX_RATE in missing and settings.rate:
        settings = replace(settings, rate=Rate(0, settings.rate.max_mbit))
    return settings


def difference(wanted: VfSettings, reported: VfSettings, applied: VfSettings) -> VfSettings:
    """The settings of `wanted` that differ. Where the driver reports nothing, what was `applied` before counts."""
    changes = {}
    for field in fields(wanted):
        value, present = getattr(wanted, field.name), getattr(reported, field.name)
        present = getattr(applied, field.name) if present is None else present
        if value is not None and _normal(value) != _normal(present):
            changes[field.name] = value
    return VfSettings(**changes)


def _normal(value: object) -> object:
    return Vlan(0) if isinstance(value, Vlan) and value.id == 0 else value


def found(change: VfSettings, reported: VfSettings) -> str:
    """What is there now of the attributes of `change`: the reason of a step."""
    present = {
        field.name: getattr(reported, field.name) if getattr(change, field.name) is not None else None
        for field in fields(change)
    }
    missing = [name for name, value in present.items() if value is None and getattr(change, name) is not None]
    parts = [describe_settings(VfSettings(**present)), *(f"{name} not reported" for name in missing)]
    return "found " + ", ".join(part for part in parts if part)


def plan_driver(pf: Pf, vf: Vf, driver: str) -> Planned | Deferred | None:
    step = _driver_step(pf, vf, driver)
    if step is None:
        return None
    left = f", driver_override {vf.driver_override}" if vf.driver_override not in (None, vf.driver) else ""
    reason = f"found {vf.driver or 'no driver'}{left}"
    use = vf_in_use(vf, pf)
    if use:
        return Deferred(step, reason, f"vf{vf.index}: {use}")
    return Planned(step, reason)


def _driver_step(pf: Pf, vf: Vf, driver: str) -> Step | None:
    if driver == KEEP_DRIVER:
        return None
    if driver == NO_DRIVER:
        unbound = vf.driver is None and vf.driver_override is None
        return None if unbound else UnbindDriver(pf.address, vf.index, vf.address)
    if driver == HOST_DRIVER:
        # After a kill between the two writes an override is left that names another driver, for the next probe.
        by_host = serves_host(vf.driver, vfio_dev=vf.vfio_dev) and vf.driver_override in (None, vf.driver)
        return None if by_host else BindDriver(pf.address, vf.index, vf.address, None)
    return None if vf.driver == driver else BindDriver(pf.address, vf.index, vf.address, driver)
