# SPDX-License-Identifier: Apache-2.0
"""What a plan leaves out or postpones without that being a problem. Pure."""

from collections.abc import Iterator
from dataclasses import fields

from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.port_names import has_vfs
from vfagent.model.vf_settings import Attribute, VfSettings, VlanProtocol
from vfagent.plan.fdb import bridges_above
from vfagent.plan.isolation import demanded, less
from vfagent.plan.link_layer import impossible
from vfagent.plan.no_netdev import netdev_comes_with_vfs
from vfagent.plan.quirks import Quirks, quirks_of
from vfagent.plan.switch import wanted_eswitch
from vfagent.plan.vf import Problem


def rates_waiting(desired: DesiredPf, pf: Pf, quirks: Quirks, driver_state: DriverState) -> tuple[str, ...]:
    # The event of the link coming up triggers the reconcile that sets rates. READY waits for that only a few seconds.
    if (
        not quirks.rate_needs_carrier
        or pf.netdev is None
        or pf.netdev.carrier
        or Attribute.RATE in driver_state.unsupported
    ):
        return ()
    return (
        ("rates: the driver accepts them only while the link is up",)
        if any(vf.settings.rate for vf in desired.vfs)
        else ()
    )


def rate_problems(desired: DesiredPf, pf: Pf, quirks: Quirks, driver_state: DriverState) -> Iterator[Problem]:
    """A driver that has minimum rates refuses this one: ice_set_vf_bw does while DCB is on. Nobody waits for it."""
    answer = driver_state.unsupported.get(Attribute.MIN_TX_RATE)
    asked = any(vf.settings.rate and vf.settings.rate.min_mbit for vf in desired.vfs)
    if answer and asked and quirks.min_tx_rate:
        yield Problem(f"min_tx_rate is not set: {pf.driver} refuses it: {answer}")


def plan_notes(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> tuple[str, ...]:
    asked = {attribute for vf in desired.vfs for attribute in _attributes(less(vf.settings, demanded(vf)))}
    keys = (
        (Attribute.HWMODE, desired.hwmode),
        (Attribute.FDB, desired.fdb and bridges_above(pf)),
    )
    card = {attribute for attribute, value in keys if value}
    reported = {Attribute.MIN_TX_RATE} if quirks_of(pf.driver).min_tx_rate else set[Attribute]()  # as a problem
    refused = sorted((asked | card) & driver_state.unsupported.keys() - reported)
    later = _later_notes(desired, pf, wanted_eswitch(desired, pf, driver_state))
    unsupported = (f"{attribute} is not supported by {pf.driver}" for attribute in refused)
    optional = {text for vf in desired.vfs for text in _optional_impossible(vf, pf)}
    return (*unsupported, *sorted(optional), *later, *_without_netdev(pf, asked), *_port_notes(desired, pf))


def _optional_impossible(vf: DesiredVf, pf: Pf) -> Iterator[str]:
    for name, text in impossible(vf.settings, pf):
        if name in vf.optional:
            yield f"vf{vf.index}: {text}"


def _port_notes(desired: DesiredPf, pf: Pf) -> Iterator[str]:
    """Which of several netdevs the rule is applied to."""
    others = [netdev for netdev in pf.ports if has_vfs(netdev.port)]
    by_netdev = desired.mtu is not None or desired.vlan_interfaces or any(not vf.settings.empty for vf in desired.vfs)
    if others and by_netdev and pf.netdev and desired.port is None:
        names = ", ".join(netdev.name for netdev in others)
        yield f"{pf.netdev.name} has what the rule sets; this PF has {names}, too (match.interface names another)"


def _without_netdev(pf: Pf, asked: set[Attribute]) -> Iterator[str]:
    if netdev_comes_with_vfs(pf):
        yield "settings and drivers of the VFs follow once they exist: the PF's netdev comes with them"
    elif asked and pf.driver and not (pf.netdev or pf.netdev_pending or pf.netdev_away):
        yield "the PF has no netdev: VF settings do not apply"


def _later_notes(desired: DesiredPf, pf: Pf, mode: str | None) -> Iterator[str]:
    """What is beyond the horizon."""
    if desired.hwmode and not pf.vfs and (pf.netdev or pf.netdev_pending or netdev_comes_with_vfs(pf)):
        yield f"hwmode {desired.hwmode} is set once there are VFs"
    if desired.vlan_interfaces and mode:
        yield f"VLAN interfaces are created once the eswitch mode is {mode}"


def _attributes(settings: VfSettings) -> set[Attribute]:
    asked = {Attribute(field.name) for field in fields(settings) if getattr(settings, field.name) is not None}
    if settings.vlan and settings.vlan.protocol is not VlanProtocol.DOT1Q:
        asked.add(Attribute.VLAN_PROTOCOL)
    if settings.rate and settings.rate.min_mbit:
        asked.add(Attribute.MIN_TX_RATE)
    return asked
