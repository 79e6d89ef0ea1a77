# SPDX-License-Identifier: Apache-2.0
"""The adapters of `Host` on the fake kernel: sysfs, rtnetlink, devlink and the udev database."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.model import effects
from tests.model.devices import VFIO_DRIVERS, NetDevice, PfDevice, VfDevice
from tests.model.effects import Effect, Kind
from tests.model.kernel import Kernel, KernelHang
from vfagent.kernel.protocols import LinkFacts, Mount, RdmaDevice
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, LinkState, VfSettings

Act = Callable[[Effect], None]


class SysfsView:
    def __init__(self, kernel: Kernel, act: Act) -> None:
        self._kernel, self._act = kernel, act

    def write(self, path: str, text: str) -> None:
        self._act(effects.of_write(path, text))

    def exists(self, path: str) -> bool:
        match path.split("/"):
            case ["sys", "bus", "pci", "drivers", name]:
                return name in self._kernel.loaded
            case ["sys", "bus", "pci", "devices", address, "vfio-dev" | "nvme" as entry, *rest]:
                return bool(self._device_names(address, [entry, *rest[:1]])) and rest[1:] in ([], self._disks(address))
            case ["sys", "bus", "pci", "devices", address, "virtio1", "net"]:
                return "virtio1" in self._device_names(address, [])
            case _:
                return self.read(path) is not None

    def read(self, path: str) -> str | None:
        match path.split("/")[1:]:
            case ["sys", "net", "ipv6", "conf", name, file]:
                return _text((self._kernel.ipv6_conf(name) or {}).get(file))
            case ["bus", "pci", "devices", address, file]:
                return self._device_file(address, file)
            case ["class", "net", name, file] | ["bus", "pci", "devices", _, *_, "net", name, file]:
                return self._link_file(name, file)
            case ["class", "net", name, "bonding_slave", "state"]:
                return "backup" if name in self._kernel.links.backups else "active"
            case _:
                return None

    def _link_file(self, name: str, file: str) -> str | None:
        link = self._kernel.links.named(name)
        if link is None:
            return None
        return {"ifindex": str(link.ifindex), "ifalias": link.alias or "", "netdev_group": str(link.group)}.get(file)

    def _device_file(self, address: str, file: str) -> str | None:
        if file == "sriov_numvfs":
            raise KernelHang("sriov_numvfs is read, which takes the device lock")
        if pf := self._kernel.pf(address):
            return _pf_file(pf, file)
        pf_and_vf = self._kernel.vf(address)
        return _vf_file(pf_and_vf[1], file) if pf_and_vf else None

    def link(self, path: str) -> str | None:
        match path.split("/")[1:]:
            case ["bus", "pci", "devices", address, name]:
                return self._device_link(address, name)
            case ["class", "net", name, "master"]:
                netdev = self._kernel.netdevs.get(name)
                return netdev.master if netdev else None
            case _:
                return None

    def _device_link(self, address: str, name: str) -> str | None:
        if pf := self._kernel.pf(address):
            if name.startswith("virtfn"):
                return next((vf.address for vf in pf.vfs if name == f"virtfn{vf.index}"), None)
            return {"driver": pf.driver, "iommu_group": _text(self._kernel.pf_group(pf))}.get(name)
        pf_and_vf = self._kernel.vf(address)
        if pf_and_vf is None:
            return None
        pf, vf = pf_and_vf
        return {"driver": vf.driver, "iommu_group": _text(vf.group), "physfn": pf.address}.get(name)

    def names(self, path: str) -> list[str]:
        match path.split("/")[1:]:
            case ["bus", "pci", "devices"]:
                return sorted([*self._pf_addresses(), *(vf.address for _, vf in self._kernel.pf_vfs())])
            case ["bus", "pci", "devices", address, *rest]:
                return self._device_names(address, rest)
            case ["class", "net"]:
                return sorted(self._kernel.netdevs)
            case ["class", "net", name]:
                link, netdev = self._kernel.links.named(name), self._kernel.netdevs.get(name)
                uppers = self._kernel.links.uppers(link.ifindex) if link else []
                return ["ifindex", *(f"upper_{upper}" for upper in (*uppers, *(netdev.uppers if netdev else ())))]
            case _:
                return []

    def _pf_addresses(self) -> list[PciAddress]:
        return [pf.address for pf in self._kernel.present()]

    def _device_names(self, address: str, rest: list[str]) -> list[str]:
        if rest == ["iommu_group", "devices"]:
            return self._kernel.group_members(self._group(address))
        pf = self._kernel.pf(address)
        pf_and_vf = self._kernel.vf(address)
        netdev = pf.netdev if pf else pf_and_vf[1].netdev if pf_and_vf else None
        kind = pf.kind if pf else pf_and_vf[0].kind if pf_and_vf else None
        below = ["virtio1", "net"] if kind and kind.virtio else ["net"]
        if rest == below:
            return [netdev.name] if netdev else []
        if rest == ["nvme"]:
            return ["nvme1"] if self._disks(address) else []
        if rest == ["vfio-dev"]:
            return ["vfio0"] if pf_and_vf and pf_and_vf[1].driver in VFIO_DRIVERS else []
        if rest:
            return self._disks(address) if rest == ["nvme", "nvme1"] else []
        if pf_and_vf:
            return self._vf_names(*pf_and_vf, below[0])
        return [*(f"virtfn{vf.index}" for vf in (pf.vfs if pf else ())), *([below[0]] if netdev else [])]

    def _disks(self, address: str) -> list[str]:
        pf, vf = self._kernel.vf(address) or (None, None)
        return [vf.disk] if pf and vf and pf.kind.makes_disks and vf.driver == pf.kind.vf_driver else []

    def _vf_names(self, pf: PfDevice, vf: VfDevice, net: str) -> list[str]:
        """The folder of a netdev stays when the netdev leaves the network namespace (device_rename)."""
        folders = {
            net: vf.netdev or vf.away,
            "nvme": self._disks(vf.address),
            "vfio-dev": vf.driver in VFIO_DRIVERS,
        }
        return [name for name, there in folders.items() if there]

    def _group(self, address: str) -> int | None:
        if pf := self._kernel.pf(address):
            return self._kernel.pf_group(pf)
        pf_and_vf = self._kernel.vf(address)
        return pf_and_vf[1].group if pf_and_vf else None


def _pf_file(pf: PfDevice, file: str) -> str | None:
    match file:
        case "sriov_totalvfs":
            return str(pf.totalvfs)
        case "sriov_drivers_autoprobe":
            return str(int(pf.autoprobe))
        case "class":
            return ("0x020700" if pf.kind.infiniband else "0x020000") if pf.kind.is_nic else "0x010802"
        case _:
            return {"vendor": "0x8086", "device": "0x10c9", "numa_node": "-1"}.get(file)


def _vf_file(vf: VfDevice, file: str) -> str | None:
    match file:
        case "driver_override":
            return vf.override or "(null)"
        case "enable":
            return str(int(vf.enabled))
        case _:
            return None


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


class RtnlView:
    def __init__(self, kernel: Kernel, act: Act) -> None:
        self._kernel, self._act = kernel, act

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        netdev = self._kernel.by_ifindex(ifindex)
        return self._facts(netdev, vfs=vfs) if netdev else self._created(ifindex)

    def _created(self, ifindex: int) -> LinkFacts | None:
        """A VLAN interface, a bridge, or another link that is no card's."""
        made = next((link for link in self._kernel.links.created.values() if link.ifindex == ifindex), None)
        return LinkFacts(ifindex, made.name, made.mac, None, made.mtu, made.admin_up, made.admin_up) if made else None

    def _facts(self, netdev: NetDevice, *, vfs: bool) -> LinkFacts:
        pf = self._kernel.pf_by_ifindex(netdev.ifindex) if vfs else None
        return LinkFacts(
            ifindex=netdev.ifindex,
            name=netdev.name,
            mac=netdev.mac,
            permanent_mac=netdev.mac,
            mtu=netdev.mtu,
            admin_up=netdev.admin_up,
            carrier=netdev.carrier,
            master=1 if netdev.master else None,
            vfs={vf.index: reported(pf, vf) for vf in pf.vfs} if pf and pf.kind.reports else {},
        )

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        for index, wanted in settings.items():
            self._act(Effect(Kind.VF, self._target(ifindex), str(wanted), index, wanted))

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        self._act(Effect(Kind.MTU, self._target(ifindex), str(mtu)))

    def set_admin_state(self, ifindex: int, *, up: bool) -> None:
        self._act(Effect(Kind.ADMIN, self._target(ifindex), "up" if up else "down"))

    def _target(self, ifindex: int) -> str:
        pf = self._kernel.pf_by_ifindex(ifindex)
        return pf.address if pf else f"ifindex {ifindex}"

    def hwmode(self, ifindex: int) -> str | None:
        pf = self._kernel.pf_by_ifindex(ifindex)
        return pf.hwmode if pf else None

    def addressed(self) -> frozenset[int]:
        return frozenset(netdev.ifindex for netdev in self._kernel.netdevs.values() if netdev.addressed)

    configured = addressed

    def management(self) -> Mapping[int, str]:
        ifindexes = {netdev.ifindex for netdev in self._kernel.netdevs.values() if netdev.default_route}
        for ifindex, routes in self._kernel.links.routes.items():
            if any(route.destination is None for route in routes):
                ifindexes.add(ifindex)
        return dict.fromkeys(ifindexes, "carries the default route")


def reported(pf: PfDevice, vf: VfDevice) -> VfSettings:
    """rtnl_fill_vfinfo: what a driver does not report reads -1, but the link state reads auto."""
    settings = replace(
        vf.settings, **{name: None for name in vf.settings.__dataclass_fields__ if name in pf.kind.absent}
    )
    if Attribute.TRUST in pf.kind.unreported:
        settings = replace(settings, trust=None)
    if Attribute.SPOOF_CHECK in pf.kind.unreported:
        settings = replace(settings, spoof_check=None)
    if Attribute.LINK_STATE in pf.kind.unreported:
        settings = replace(settings, link_state=LinkState.AUTO)
    return settings


class DeviceUsersView:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def mounts(self) -> tuple[Mount, ...]:
        return tuple(Mount(None, f"/dev/{vf.disk}", "/srv") for _, vf in self._kernel.pf_vfs() if vf.mounted)

    def swaps(self) -> tuple[str, ...]:
        return ()

    def rdma_devices(self) -> Mapping[str, RdmaDevice]:
        return {}

    def rdma_services(self, index: int) -> tuple[str, ...]:
        return ()


class DevlinkView:
    def eswitch_mode(self, address: PciAddress) -> str | None:
        return None

    def set_eswitch_mode(self, address: PciAddress, mode: str) -> None:
        raise OSError(errno.EOPNOTSUPP, "no devlink")


class UdevView:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def properties(self, subsystem: str, name: str) -> Mapping[str, str] | None:
        netdev = self._kernel.netdevs.get(name) if subsystem == "net" else None
        if subsystem == "net" and not (netdev and netdev.known_to_udev):
            return None
        return {"ID_PATH": f"pci-{name}"} if subsystem == "pci" else {}
