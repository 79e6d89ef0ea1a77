# SPDX-License-Identifier: Apache-2.0
"""The changes that a process asks the fake kernel for: parsed once, then checked, recorded and executed."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from tests.model.devices import NO_MAC, NetDevice, PfDevice, VfDevice
from tests.model.kernel import Kernel, refuse
from vfagent.model.vf_settings import Attribute, VfSettings, VlanProtocol


class Kind(StrEnum):
    NUMVFS = "sriov_numvfs"
    AUTOPROBE = "sriov_drivers_autoprobe"
    OVERRIDE = "driver_override"
    UNBIND = "unbind"
    PROBE = "drivers_probe"
    MTU = "mtu"
    ADMIN = "admin state"
    VF = "vf"
    LINK = "link"
    ADDRESS = "address"
    ROUTE = "route"
    FDB = "fdb"
    HWMODE = "hwmode"
    IPV6 = "net.ipv6.conf"
    JOURNAL = "journal"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Effect:
    kind: Kind
    target: str  # a PCI address, or the path of an unknown file
    value: str
    index: int | None = None
    settings: VfSettings = VfSettings()
    carry: Callable[[], object] | None = field(default=None, compare=False)  # for the host's network

    def __str__(self) -> str:
        return f"{self.kind} of {self.target}{'' if self.index is None else f'/vf{self.index}'}: {self.value}"


_PF_FILES = {"sriov_numvfs": Kind.NUMVFS, "sriov_drivers_autoprobe": Kind.AUTOPROBE}


def of_write(path: str, text: str) -> Effect:
    match path.split("/")[3:]:
        case ["devices", address, file] if file in _PF_FILES:
            return Effect(_PF_FILES[file], address, text)
        case ["devices", address, "driver_override"]:
            return Effect(Kind.OVERRIDE, address, text)
        case ["devices", address, "driver", "unbind"]:
            return Effect(Kind.UNBIND, address, text)
        case ["ipv6", "conf", name, _]:
            return Effect(Kind.IPV6, name, f"{path.rpartition('/')[2]} {text}")
        case ["drivers_probe"]:
            return Effect(Kind.PROBE, text.strip(), text)
        case _:
            return Effect(Kind.OTHER, path, text)


def subject(kernel: Kernel, effect: Effect) -> tuple[PfDevice | None, VfDevice | None]:
    """The PF, and for an effect on one VF that VF."""
    if effect.kind is Kind.IPV6:
        owners = (pf for pf in kernel.present() if pf.netdev and pf.netdev.name == effect.target)
        return next(owners, None), None
    if pf := kernel.pf(effect.target):
        return pf, None if effect.index is None else next((vf for vf in pf.vfs if vf.index == effect.index), None)
    return kernel.vf(effect.target) or (None, None)


def carry_out(kernel: Kernel, effect: Effect) -> None:
    if effect.carry:
        effect.carry()
        return
    if effect.kind is Kind.IPV6:
        conf = kernel.ipv6_conf(effect.target)
        if conf is None:
            refuse(errno.ENOENT)
        file, value = effect.value.split()
        conf[file] = int(value)
        return
    pf, vf = subject(kernel, effect)
    if pf is None:
        refuse(errno.ENODEV if effect.kind in (Kind.PROBE, Kind.MTU, Kind.ADMIN, Kind.VF) else errno.ENOENT)
    match effect.kind:
        case Kind.NUMVFS:
            kernel.write_numvfs(pf, effect.value)
        case Kind.AUTOPROBE:
            pf.autoprobe = bool(int(effect.value))
        case Kind.MTU:
            _netdev(pf).mtu = int(effect.value)
        case Kind.ADMIN:
            _netdev(pf).admin_up = effect.value == "up"
        case Kind.PROBE:
            kernel.probe_address(effect.target)
        case _:
            _on_vf(kernel, effect, pf, vf)


def _netdev(pf: PfDevice) -> NetDevice:
    if pf.netdev is None:
        refuse(errno.ENODEV)
    return pf.netdev


def _on_vf(kernel: Kernel, effect: Effect, pf: PfDevice, vf: VfDevice | None) -> None:
    if vf is None:
        refuse(errno.EINVAL if effect.kind is Kind.VF else errno.ENOENT)
    match effect.kind:
        case Kind.OVERRIDE if effect.value:  # an empty write does not reach the kernel
            vf.override = effect.value.strip() or None
        case Kind.UNBIND:
            if vf.driver is None:
                refuse(errno.ENOENT)
            kernel.unbind(vf)
        case Kind.VF:
            _set_vf(pf, vf, effect.settings)
        case _:
            refuse(errno.ENOENT)


_KERNEL_ORDER = (
    "mac",
    "vlan",
    "rate",
    "spoof_check",
    "link_state",
    "rss_query",
    "trust",
    "node_guid",
    "port_guid",
)  # do_setvfinfo


def _set_vf(pf: PfDevice, vf: VfDevice, settings: VfSettings) -> None:
    """One attribute after the other. The first refused one ends the call; those before it stay set."""
    for name in _KERNEL_ORDER:
        value = getattr(settings, name)
        if value is not None:
            if number := _refusal(pf, VfSettings(**{name: value})):
                refuse(number)
            if Attribute(name) not in pf.kind.loses:
                vf.settings = replace(vf.settings, **{name: value})


def attributes_of(settings: VfSettings) -> Iterator[Attribute]:
    yield from (
        Attribute(attribute.name) for attribute in fields(settings) if getattr(settings, attribute.name) is not None
    )
    if settings.vlan and settings.vlan.protocol is not VlanProtocol.DOT1Q and settings.vlan.id:
        yield Attribute.VLAN_PROTOCOL
    if settings.rate and settings.rate.min_mbit:
        yield Attribute.MIN_TX_RATE


def _refusal(pf: PfDevice, settings: VfSettings) -> int:
    for attribute in attributes_of(settings):
        if number := pf.kind.refuses.get(attribute, 0):
            return number
    if pf.kind.settings_need_up and not (pf.netdev and pf.netdev.admin_up):
        return pf.kind.settings_need_up
    if pf.starting and not pf.kind.refuses_for_a_while.isdisjoint(attributes_of(settings)):
        return errno.EOPNOTSUPP
    if settings.mac == NO_MAC and not pf.kind.takes_no_mac:
        return errno.EINVAL
    no_carrier = not (pf.netdev and pf.netdev.carrier)
    return errno.EINVAL if settings.rate and pf.kind.rate_needs_carrier and no_carrier else 0
