# SPDX-License-Identifier: Apache-2.0
"""Reads the netdevs of a PCI function. A function can have several: vfagent/model/port_names.py tells them apart."""

from collections.abc import Mapping
from dataclasses import replace

from vfagent.frozen import frozen
from vfagent.kernel.protocols import Host, LinkFacts
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.port_names import is_other_pf, is_representor, is_subfunction, order
from vfagent.plan.quirks import quirks_of

NETDEVS = "sys/class/net"


@frozen
class PfLinks:
    """The PF's own netdev as rtnetlink has it, with its VFs, and the folders of its other netdevs.

    `unobserved`: why there is none, although sysfs shows one.
    """

    own: LinkFacts | None = None
    others: tuple[str, ...] = ()
    switch_users: tuple[str, ...] = ()
    unobserved: str | None = None


def pf_links(host: Host, base: str) -> PfLinks:
    """The PF's own netdev, first by port. VFs' representors, which share its folder in switchdev mode, are no PF's."""
    folders = netdev_folders(host, base)
    ports = list(folders) if len(folders) == 1 else _in_order(host, folders)
    ifindex = host.sysfs.read(f"{folders[ports[0]]}/ifindex") if ports else None
    if not ifindex:
        return PfLinks()
    try:
        own = host.rtnl.link(int(ifindex), vfs=True)
    except OSError as error:
        return PfLinks(unobserved=f"{ports[0]}: cannot read the link: {error.strerror}")
    return PfLinks(own, tuple(folders[name] for name in ports[1:]))


def _in_order(host: Host, folders: Mapping[str, str]) -> list[str]:
    names = {name: host.sysfs.read(f"{folder}/phys_port_name") for name, folder in folders.items()}
    ports = {
        name: order(port, _number(host, f"{folders[name]}/dev_port"), _number(host, f"{folders[name]}/ifindex"))
        for name, port in names.items()
        if not is_representor(port)
    }
    return sorted(ports, key=ports.__getitem__)


def _number(host: Host, path: str) -> int:
    text = host.sysfs.read(path) or ""
    return int(text) if text.isdigit() else 0


def netdev_folders(host: Host, base: str) -> dict[str, str]:
    """Netdevs of a PCI function and their folders. virtio's are one bus lower: `0000:02:00.0/virtio2/net/enp2s0`.

    What is read there belongs to this function; by name alone it could be another netdev, renamed meanwhile.
    """
    names = host.sysfs.names(f"{base}/net")
    if names:
        return {name: f"{base}/net/{name}" for name in names}
    below = (name for name in host.sysfs.names(base) if name.startswith("virtio"))
    return {name: f"{base}/{bus}/net/{name}" for bus in below for name in host.sysfs.names(f"{base}/{bus}/net")}


def switch_users(host: Host, base: str, driver: str | None) -> tuple[str, ...]:
    """Netdevs of who uses the card's switch beside this PF and its VFs. nfp has a representor of its own PF, too."""
    ports = {name: host.sysfs.read(f"{path}/phys_port_name") for name, path in netdev_folders(host, base).items()}
    shared = quirks_of(driver).eswitch_with_vfs
    return tuple(sorted(name for name, port in ports.items() if is_subfunction(port) or (shared and is_other_pf(port))))


def pf_netdevs(host: Host, links: PfLinks) -> tuple[Netdev | None, tuple[Netdev, ...]]:
    """The PF's own netdev, and its others."""
    if links.own is None:
        return None, ()
    if not links.others:
        return _pf_netdev(host, links.own), ()
    ports = [_port(host, folder) for folder in links.others]
    return _of_several(host, links.own), tuple(port for port in ports if port)


def _port(host: Host, folder: str) -> Netdev | None:
    ifindex = host.sysfs.read(f"{folder}/ifindex")
    link = host.rtnl.link(int(ifindex), vfs=False) if ifindex else None
    return _of_several(host, link) if link else None


def _of_several(host: Host, link: LinkFacts) -> Netdev:
    return replace(_pf_netdev(host, link), port=host.sysfs.read(f"{NETDEVS}/{link.name}/phys_port_name"))


def _pf_netdev(host: Host, link: LinkFacts) -> Netdev:
    if not link.admin_up:
        return netdev_of(host, link)
    addressed = link.ifindex in host.rtnl.addressed()
    return netdev_of(host, link, addressed=addressed, management=management_of(host, link.name))


def netdev_of(host: Host, link: LinkFacts, *, addressed: bool = False, management: str | None = None) -> Netdev:
    return Netdev(
        name=link.name,
        ifindex=link.ifindex,
        mac=link.mac,
        permanent_mac=link.permanent_mac,
        mtu=link.mtu,
        admin_up=link.admin_up,
        carrier=link.carrier,
        initialized=host.udev.properties("net", link.name) is not None,
        master=host.sysfs.link(f"{NETDEVS}/{link.name}/master") if link.master else None,
        addressed=addressed,
        management=management,
        altnames=link.altnames,
    )


def with_port(host: Host, pf: Pf, ifindex: int | None) -> Pf:
    """The PF with this one of its netdevs as its own, and the VF settings that it has: mlx4's ports have their own."""
    chosen = next((netdev for netdev in pf.netdevs if netdev.ifindex == ifindex), None)
    if chosen is None or chosen == pf.netdev:
        return pf
    try:
        link = host.rtnl.link(chosen.ifindex, vfs=True)
    except OSError as error:
        return replace(pf, unobserved=f"{chosen.name}: cannot read the link: {error.strerror}")
    settings = link.vfs if link else {}
    return replace(
        pf,
        netdev=chosen,
        ports=tuple(netdev for netdev in pf.netdevs if netdev != chosen),
        vfs=tuple(replace(vf, settings=settings.get(vf.index)) for vf in pf.vfs),
        hwmode=host.rtnl.hwmode(chosen.ifindex) if pf.vfs and quirks_of(pf.driver).hwmode else None,
    )


def management_of(host: Host, name: str, ways: Mapping[int, str] | None = None) -> str | None:
    """Why this netdev, or an upper one (VLAN, bond, bridge), carries the administrator's access; None if none does."""
    ways = host.rtnl.management() if ways is None else ways
    todo, seen = [name], set[str]()
    while ways and todo:
        current = todo.pop()
        seen.add(current)
        ifindex = host.sysfs.read(f"{NETDEVS}/{current}/ifindex")
        if ifindex and (why := ways.get(int(ifindex))):
            return why if current == name else f"is below {current}, which {why}"
        todo += [upper for upper in names_above(host, current) if upper not in seen]
    return None


def names_above(host: Host, name: str) -> list[str]:
    """The netdevs above a netdev: those of its VLANs, its macvlans, and the one that it is a port of."""
    entries = host.sysfs.names(f"{NETDEVS}/{name}")
    return [entry.removeprefix("upper_") for entry in entries if entry.startswith("upper_")]
