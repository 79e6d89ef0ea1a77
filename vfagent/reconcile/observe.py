# SPDX-License-Identifier: Apache-2.0
"""Reads PFs, their VFs and netdevs from the kernel, as values."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from vfagent.kernel.protocols import Host, LinkFacts
from vfagent.kernel.udev import QUEUE, STORED
from vfagent.model.evidence import is_vfio
from vfagent.model.inventory import Inventory, Netdev, Pf, SharedGroup, Vf
from vfagent.model.pci import PciAddress, card_of, is_pci_address
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.quirks import quirks_of
from vfagent.reconcile.observe_netdevs import (
    NETDEVS,
    netdev_folders,
    netdev_of,
    pf_links,
    pf_netdevs,
    switch_users,
)
from vfagent.reconcile.observe_use import UseObserver, uses_of
from vfagent.store.guest_records import VF_USERS, guest_cgroup

DEVICES = "sys/bus/pci/devices"
_UPLINK_PORT = re.compile(r"pf?(\d+)(?:s\d+)?")  # phys_port_name of a card's own port; p0s1 where it is split
_VF_PORT = re.compile(r"pf(\d+)vf(\d+)$")  # phys_port_name of a VF's representor
# PCIe ports share a group with what is below them and do no DMA of their own for it: vfio lets them be.
_PORT_DRIVERS = frozenset({"pcieport", "pci-stub"})


def pf_addresses(host: Host) -> list[PciAddress]:
    """Every PCI function that can have VFs, with a driver or without."""
    names = host.sysfs.names(DEVICES)
    return [PciAddress(name) for name in names if host.sysfs.exists(f"{DEVICES}/{name}/sriov_totalvfs")]


def observe(host: Host) -> Inventory:
    pfs = (observe_pf(host, address) for address in pf_addresses(host))
    return Inventory(tuple(pf for pf in pfs if pf is not None))


def observe_pf(host: Host, address: PciAddress) -> Pf | None:
    """The PF as it is now; None where there is no such PF."""
    totalvfs = host.sysfs.read(f"{DEVICES}/{address}/sriov_totalvfs")
    return None if totalvfs is None else observe_function(host, address, int(totalvfs))


def observe_function(host: Host, address: PciAddress, totalvfs: int) -> Pf:
    """A PCI function as if it were a PF: `doctor` asks which cards could be one."""
    sysfs, base = host.sysfs, f"{DEVICES}/{address}"
    stored = host.udev.properties("pci", address)
    properties = stored or {}
    links = pf_links(host, base)
    link, (netdev, ports) = links.own, pf_netdevs(host, links)
    driver = sysfs.link(f"{base}/driver")
    eswitch = host.devlink.eswitch_mode(address) if quirks_of(driver).eswitch else None
    return Pf(
        address=address,
        driver=driver,
        vendor=sysfs.read(f"{base}/vendor") or "",
        device=sysfs.read(f"{base}/device") or "",
        pci_class=sysfs.read(f"{base}/class") or "",
        totalvfs=totalvfs,
        autoprobe=_flag(sysfs.read(f"{base}/sriov_drivers_autoprobe")),
        vfs=_vfs(host, base, link),
        netdev=netdev,
        ports=ports,
        vendor_name=properties.get("ID_VENDOR_FROM_DATABASE"),
        device_name=properties.get("ID_MODEL_FROM_DATABASE"),
        path=properties.get("ID_PATH"),
        numa_node=_numa_node(sysfs.read(f"{base}/numa_node")),
        eswitch=eswitch,
        switch_users=switch_users(host, base, driver) if eswitch == "switchdev" else (),
        # mlx5 before its fix followed a null pointer when asked for the mode with no VFs (b1d305abef46).
        hwmode=host.rtnl.hwmode(link.ifindex) if link and link.vfs and quirks_of(driver).hwmode else None,
        initialized=_initialized(host, driver, stored=stored is not None),
        unobserved=links.unobserved,
        shared_group=_shared_group(host, base, address),
        assume_idle=host.assume_idle,
        netdev_away=link is None and not links.unobserved and _netdev_is_away(host, base),
    )


def observe_card(host: Host, address: PciAddress) -> str:
    """The card of a function, by which reconciles take turns. `ari_enabled` is that of the bus (pci_ari_enabled())."""
    return card_of(address, ari=host.sysfs.read(f"{DEVICES}/{address}/ari_enabled") == "1")


def udev_pending(host: Host, address: PciAddress) -> bool:
    """Whether udev has not handled this device yet, so that an event of it will follow.

    For the event loop, which must not block: pyudev would read the device's `uevent`, and some kernels take the
    device's lock for that, which a driver holds while it probes (c0a40097f0bc, in 6.12 until dc1771f71854).
    """
    sysfs, base = host.sysfs, f"{DEVICES}/{address}"
    if not (sysfs.exists(QUEUE) and sysfs.exists(f"{base}/sriov_totalvfs")):
        return False
    return not _initialized(host, sysfs.link(f"{base}/driver"), stored=sysfs.exists(f"{STORED}/+pci:{address}"))


def udev_is_done(host: Host, address: PciAddress) -> bool:
    """Whether udev has handled this device and its netdevs; a NIC has at least one, but InfiniBand's may have none.

    For the event loop, as `udev_pending`.
    """
    sysfs, base = host.sysfs, f"{DEVICES}/{address}"
    netdevs = [sysfs.read(f"{base}/net/{name}/ifindex") for name in sysfs.names(f"{base}/net")]
    pci_class = sysfs.read(f"{base}/class") or ""
    complete = bool(netdevs) or not pci_class.startswith("0x02") or pci_class.startswith("0x0207")
    known = all(sysfs.exists(f"{STORED}/n{ifindex}") for ifindex in netdevs)
    return complete and known and sysfs.exists(f"{STORED}/+pci:{address}") and sysfs.exists(f"{base}/driver")


def _initialized(host: Host, driver: str | None, *, stored: bool) -> bool:
    """udev stores what it knows of a device, and loads its driver after that (80-drivers.rules, RUN)."""
    return stored and (driver is not None or not host.sysfs.exists(QUEUE))


def _flag(text: str | None) -> bool | None:
    return None if text is None else text != "0"


def _numa_node(text: str | None) -> int | None:
    return int(text) if text and not text.startswith("-") else None


def _netdev_is_away(host: Host, base: str) -> bool:
    """The folder stays below the device when its only netdev leaves this network namespace (device_rename)."""
    entries = host.sysfs.names(base)
    buses = (f"{base}/{entry}" for entry in entries if entry.startswith("virtio"))
    folders = (
        [f"{base}/net"] if "net" in entries else [f"{bus}/net" for bus in buses if host.sysfs.exists(f"{bus}/net")]
    )
    return any(not host.sysfs.names(folder) for folder in folders)


def representor_names(host: Host, uplink: str) -> Iterator[tuple[str, int, int]]:
    """Each VF's representor on the switch of a netdev: its name, the PF's number on the card, and the VF's index."""
    ports = _switch_ports(host, uplink)
    uplinks = [port for port in ports.values() if _UPLINK_PORT.fullmatch(port)]
    own = _UPLINK_PORT.fullmatch(ports.get(uplink, ""))
    for name, port in ports.items():
        vf = _VF_PORT.search(port)
        # The ports of one card may share a switch: then the uplink's own number says which PF the VF belongs to.
        if vf and (own is None or len(uplinks) == 1 or int(own[1]) == int(vf[1])):
            yield name, int(vf[1]), int(vf[2])


def _switch_ports(host: Host, uplink: str) -> dict[str, str]:
    """The netdevs on the same switch as this one, with their phys_port_name."""
    switch = host.sysfs.read(f"{NETDEVS}/{uplink}/phys_switch_id")
    names = host.sysfs.names(NETDEVS) if switch else []
    on_switch = (name for name in names if host.sysfs.read(f"{NETDEVS}/{name}/phys_switch_id") == switch)
    return {name: host.sysfs.read(f"{NETDEVS}/{name}/phys_port_name") or "" for name in on_switch}


def _vfs(host: Host, base: str, link: LinkFacts | None) -> tuple[Vf, ...]:
    """The VFs by their `virtfn*` links, which the kernel keeps up to date."""
    entries = host.sysfs.names(base)
    indices = sorted(int(entry[6:]) for entry in entries if entry.startswith("virtfn") and entry[6:].isdigit())
    settings: Mapping[int, VfSettings] = link.vfs if link else {}
    links, observer = ((index, host.sysfs.link(f"{base}/virtfn{index}")) for index in indices), UseObserver(host)
    return tuple(
        _vf(observer, index, PciAddress(name), settings.get(index))
        for index, name in links
        if name and is_pci_address(name)
    )


def observe_vf(host: Host, pf: PciAddress, index: int) -> Vf | None:
    """One VF, without the settings that its PF has for it."""
    name = host.sysfs.link(f"{DEVICES}/{pf}/virtfn{index}")
    return _vf(UseObserver(host), index, PciAddress(name), None) if name else None


def observe_vf_use(host: Host, pf: PciAddress, index: int) -> Vf | None:
    """Only what shows whether a VF is in use."""
    name = host.sysfs.link(f"{DEVICES}/{pf}/virtfn{index}")
    return _vf_use(UseObserver(host), index, PciAddress(name)) if name else None


def _vf(observer: UseObserver, index: int, address: PciAddress, settings: VfSettings | None) -> Vf:
    sysfs, base = observer.host.sysfs, f"{DEVICES}/{address}"
    group, vf = sysfs.link(f"{base}/iommu_group"), _vf_use(observer, index, address)
    # While a VF is being removed from its user, this read would wait for the user (driver_override_show).
    being_removed = vf.driver is None and vf.enabled
    override = "" if being_removed else sysfs.read(f"{base}/driver_override")
    return replace(
        vf,
        driver_override=override if override not in ("", "(null)") else None,
        iommu_group=int(group) if group else None,
        group_blockers=group_blockers(observer.host, base, address) if group else (),
        settings=settings,
    )


def _vf_use(observer: UseObserver, index: int, address: PciAddress) -> Vf:
    host, base = observer.host, f"{DEVICES}/{address}"
    driver = host.sysfs.link(f"{base}/driver")
    seen, enable = uses_of(observer, base, driver), host.sysfs.read(f"{base}/enable")
    return Vf(
        index=index,
        address=address,
        driver=driver,
        enabled=enable not in (None, "0"),
        gone=enable is None and not host.sysfs.exists(base),
        netdevs=_vf_netdevs(host, base) if seen.entries and not seen.vfio_dev else (),
        user=_vf_user(host, address),
        vfio_dev=seen.vfio_dev,
        uses=seen.uses,
        shown_idle=seen.idle,
    )


def _vf_user(host: Host, address: PciAddress) -> str | None:
    """The guest that a VF was assigned to, while it has a cgroup: its QEMU may not have opened the VF yet."""
    name = (host.sysfs.read(f"{VF_USERS}/{address}") or "").strip('"')
    return f"guest {name}" if name and host.sysfs.exists(guest_cgroup(name)) else None


def _shared_group(host: Host, base: str, address: PciAddress) -> SharedGroup | None:
    names = host.sysfs.names(f"{base}/iommu_group/devices")
    port = next((name for name in names if name != address and host.sysfs.exists(f"{DEVICES}/{name}/{address}")), None)
    number = host.sysfs.link(f"{base}/iommu_group") if port else None
    if port is None or number is None:
        return None
    pfs = (name for name in names if not host.sysfs.exists(f"{DEVICES}/{name}/physfn"))
    users = tuple(PciAddress(name) for name in pfs if _blocks(host, name))
    return SharedGroup(int(number), PciAddress(port), users) if users else None


def group_blockers(host: Host, base: str, address: PciAddress) -> tuple[PciAddress, ...]:
    others = (name for name in host.sysfs.names(f"{base}/iommu_group/devices") if name != address)
    return tuple(PciAddress(name) for name in others if _blocks(host, name))


def _blocks(host: Host, name: str) -> bool:
    driver = host.sysfs.link(f"{DEVICES}/{name}/driver")
    if driver is None or driver in _PORT_DRIVERS or is_vfio(driver):
        return False
    bridge = (host.sysfs.read(f"{DEVICES}/{name}/class") or "").startswith("0x0604")
    return not (bridge or host.sysfs.exists(f"{DEVICES}/{name}/vfio-dev"))


def _vf_netdevs(host: Host, base: str) -> tuple[Netdev, ...]:
    netdevs = []
    for folder in netdev_folders(host, base).values():
        ifindex = host.sysfs.read(f"{folder}/ifindex")
        link = host.rtnl.link(int(ifindex), vfs=False) if ifindex else None
        if link:
            netdevs.append(netdev_of(host, link, addressed=link.ifindex in host.rtnl.addressed()))
    return tuple(netdevs)
