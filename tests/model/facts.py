# SPDX-License-Identifier: Apache-2.0
"""The fake kernel's state as one value to compare, and what a policy and the driver lead to."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.model.devices import NO_GUID, NO_MAC, VFIO_DRIVERS, Groups, PfDevice, VfDevice
from tests.model.effects import attributes_of
from tests.model.kernel import Kernel
from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, Rate, VfSettings, VlanProtocol
from vfagent.plan.isolation import demanded
from vfagent.policy.types import Policy

_UNSET: dict[str, Any] = {"mac": NO_MAC, "node_guid": NO_GUID, "port_guid": NO_GUID}


@dataclass(frozen=True, slots=True)
class VfFacts:
    index: int
    driver: str | None
    override: str | None
    settings: VfSettings


@dataclass(frozen=True, slots=True)
class PfFacts:
    address: PciAddress
    autoprobe: bool
    mtu: int
    admin_up: bool
    vfs: tuple[VfFacts, ...]


def pf_facts(pf: PfDevice) -> PfFacts:
    vfs = tuple(VfFacts(vf.index, vf.driver, vf.override, vf.settings) for vf in pf.vfs)
    netdev = pf.netdev
    return PfFacts(pf.address, pf.autoprobe, netdev.mtu if netdev else 0, bool(netdev and netdev.admin_up), vfs)


def facts(kernel: Kernel) -> tuple[PfFacts, ...]:
    return tuple(pf_facts(pf) for pf in kernel.present())


def shortcomings(pf: PfDevice, desired: DesiredPf) -> list[str]:
    """Differences from what was asked for and this driver can do, while no VF is in use."""
    count = len(pf.vfs) if desired.numvfs is None else desired.numvfs
    if count > pf.totalvfs or (pf.kind.silent_use and any(vf.driver == pf.kind.vf_driver for vf in pf.vfs)):
        return []  # VFs that the host may use are neither removed nor unbound
    count = pf.totalvfs if count and pf.kind.all_or_none else count
    differences = [] if len(pf.vfs) == count else [f"{len(pf.vfs)} VFs, not {count}"]
    if pf.netdev and desired.mtu and pf.netdev.mtu < desired.mtu:
        differences.append(f"MTU {pf.netdev.mtu}")
    if pf.netdev and pf.vfs and count and not pf.netdev.admin_up:
        differences.append("down")
    wanted = {desired_vf.index: desired_vf for desired_vf in desired.vfs}
    return differences + [
        text for vf in pf.vfs if vf.index in wanted for text in _vf_differences(pf, vf, wanted[vf.index])
    ]


def _vf_differences(pf: PfDevice, vf: VfDevice, desired_vf: DesiredVf) -> Iterator[str]:
    name = f"vf{vf.index}"
    loose = missing_isolation(pf, vf, desired_vf) or _unconfirmed(pf, vf, desired_vf)  # then it is not bound
    withheld = loose or (vf.driver is None and _isolation_refused(pf, vf, desired_vf))
    if not withheld and not _driver_is(pf, vf, desired_vf.driver):
        yield f"{name}: driver {vf.driver}, not {desired_vf.driver}"
    possible = _possible(pf, desired_vf.settings) if pf.kind.is_nic else VfSettings()
    hosts = desired_vf.driver in ("host", "keep", vf.driver)  # not one that should be bound to vfio-pci and cannot
    if hosts and vf.netdev and possible.mac and vf.netdev.mac != possible.mac:
        yield f"{name}: its netdev's mac {vf.netdev.mac}, not {possible.mac}"
    for guid in ("node_guid", "port_guid") if vf.driver == pf.kind.vf_driver and hosts else ():
        if (value := getattr(possible, guid)) not in (None, getattr(vf.read, guid)):
            yield f"{name}: its driver read {guid} {getattr(vf.read, guid)}, not {value}"
    for attribute in VfSettings.__dataclass_fields__:
        value, present = getattr(possible, attribute), getattr(vf.settings, attribute)
        if value is not None and value != present and not (attribute == "vlan" and value.id == present.id == 0):
            yield f"{name}: {attribute} {present}, not {value}"


def _isolation_refused(pf: PfDevice, vf: VfDevice, desired_vf: DesiredVf) -> bool:
    """Such a VF is not bound: another program may open it."""
    missing = demanded(desired_vf, vf.settings)
    refused = set(attributes_of(missing)) & pf.kind.refuses.keys()
    return pf.kind.is_nic and bool(refused)


def missing_isolation(pf: PfDevice, vf: VfDevice, desired_vf: DesiredVf) -> list[str]:
    """What keeps the VF's user in its network and to its address, is asked for and does not hold."""
    asked = _isolation(pf, vf, desired_vf)
    return [name for name, value in asked.items() if getattr(vf.settings, name) != value]


def _unconfirmed(pf: PfDevice, vf: VfDevice, desired_vf: DesiredVf) -> bool:
    """Whether isolation is refused and not reported: then nobody knows that it holds, and the VF is not bound."""
    asked = _isolation(pf, vf, desired_vf)
    if pf.kind.infiniband and asked.keys() - {"node_guid", "port_guid"}:
        return True  # a frame there has no such thing, whatever the kernel's struct says
    unseen = pf.kind.unreported if pf.kind.reports else frozenset(Attribute)
    return any(Attribute(name) in unseen & pf.kind.refuses.keys() for name in asked)


def _isolation(pf: PfDevice, vf: VfDevice, desired_vf: DesiredVf) -> dict[str, object]:
    wanted, vlan = desired_vf.settings, desired_vf.settings.vlan
    untagged = vlan and not vlan.id and (vf.settings.vlan is None or not vf.settings.vlan.id or not pf.kind.reports)
    asked = {
        "mac": wanted.mac,
        "vlan": None if untagged else vlan,
        "spoof_check": wanted.spoof_check or None,
        "trust": None if wanted.trust else wanted.trust,
        "node_guid": wanted.node_guid,
        "port_guid": wanted.port_guid,
    }
    return {name: value for name, value in asked.items() if value is not None and name not in desired_vf.optional}


def _driver_is(pf: PfDevice, vf: VfDevice, word: str) -> bool:
    match word:
        case "keep":
            return True
        case "none":
            return vf.driver is None
        case "host":
            return vf.driver == pf.kind.vf_driver
        case _:
            return vf.driver == word or (word in VFIO_DRIVERS and pf.groups in (Groups.NONE, Groups.WITH_PF))


def _possible(pf: PfDevice, settings: VfSettings) -> VfSettings:
    refused = pf.kind.refuses
    vlan, rate = settings.vlan, settings.rate
    if vlan and vlan.id and vlan.protocol is not VlanProtocol.DOT1Q and Attribute.VLAN_PROTOCOL in refused:
        vlan = None
    if rate and Attribute.MIN_TX_RATE in refused:
        rate = Rate(0, rate.max_mbit)
    if pf.kind.rate_needs_carrier and not (pf.netdev and pf.netdev.carrier):
        rate = None
    possible = replace(settings, vlan=vlan, rate=rate)
    return replace(possible, **{name: None for name in VfSettings.__dataclass_fields__ if Attribute(name) in refused})


def differences_from(pf: PfDevice, before: PfFacts) -> list[str]:
    """The differences of a PF from its state before vfagent."""
    now = pf_facts(pf)
    differences = [
        f"{name}: {getattr(now, name)}, was {getattr(before, name)}"
        for name in ("autoprobe", "mtu", "admin_up")
        if getattr(now, name) != getattr(before, name)
    ]
    if len(now.vfs) != len(before.vfs):
        return [*differences, f"{len(now.vfs)} VFs, were {len(before.vfs)}"]
    pairs = [(_returnable(pf, a, b), b) for a, b in zip(now.vfs, before.vfs, strict=True)]
    return differences + [f"{a}, was {b}" for a, b in pairs if a != b]


def _returnable(pf: PfDevice, now: VfFacts, before: VfFacts) -> VfFacts:
    """Without what cannot be restored: a MAC or GUID of zeros, and what drivers do not report, which is not known."""
    lost = {attribute.value: getattr(before.settings, attribute) for attribute in pf.kind.unreported}
    settings = replace(now.settings, **lost)
    unset = {name: value for name, value in _UNSET.items() if getattr(before.settings, name) == value}
    return replace(now, settings=replace(settings, **unset))


def without_probe_window(present: PfFacts, wanted: PfFacts, policy: Policy) -> PfFacts:
    """A known limitation: a kill or a failure while a host driver is probed can leave autoprobe on.

    Where the rule has a VF count, the next reconcile turns it off. Without one, autoprobe is not managed.
    """
    window = policy.pf[0].vfs is None and present.autoprobe and not wanted.autoprobe
    return replace(present, autoprobe=False) if window else present


def without_lost_new_vfs(present: PfFacts, wanted: PfFacts, policy: Policy) -> PfFacts:
    """A known limitation: the process was killed, and what it had stored is lost. Then a VF that is to keep its driver
    and has none cannot be told from one that somebody unbound."""
    if len(present.vfs) != len(wanted.vfs):
        return present
    vfs = (
        replace(now, driver=goal.driver, override=goal.override)
        if now.driver is None and policy.pf[0].driver(now.index) == "keep"
        else now
        for now, goal in zip(present.vfs, wanted.vfs, strict=True)
    )
    return replace(present, vfs=tuple(vfs))
