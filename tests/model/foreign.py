# SPDX-License-Identifier: Apache-2.0
"""What other programs, the administrator and the hardware do on the host. None of it is recorded."""

from dataclasses import replace

from tests.model.devices import NAMELESS, UNTOUCHED, VFIO_DRIVERS, PfDevice, VfDevice
from tests.model.kernel import Kernel
from vfagent.model.network import Link
from vfagent.model.vf_settings import Vlan


def opens_group(vf: VfDevice) -> None:
    if vf.driver in VFIO_DRIVERS:
        vf.group_open = True


def closes_group(vf: VfDevice) -> None:
    vf.group_open = False


def stops_all_use(kernel: Kernel) -> None:
    """No VF is in use any more."""
    for _, vf in kernel.pf_vfs():
        vf.group_open, vf.mounted, vf.busy = False, False, False
        moves_netdev_back(kernel, vf)
        if vf.netdev:
            vf.netdev.admin_up, vf.netdev.addressed, vf.netdev.master = False, False, None


def sets_vlan(vf: VfDevice, vlan: int) -> None:
    vf.settings = replace(vf.settings, vlan=Vlan(vlan))


def unbinds(kernel: Kernel, vf: VfDevice) -> None:
    if vf.driver and not vf.group_open:
        kernel.unbind(vf)


def sets_numvfs(kernel: Kernel, pf: PfDevice, count: int) -> None:
    if kernel.numvfs_hangs(pf):
        return
    if pf.in_use or pf.driver is None or (pf.kind.vfs_need_up and not (pf.netdev and pf.netdev.admin_up)):
        return
    kernel.write_numvfs(pf, "0")
    kernel.write_numvfs(pf, str(count))


def sets_autoprobe(pf: PfDevice, *, on: bool) -> None:
    pf.autoprobe = on


def sets_down(pf: PfDevice) -> None:
    """Its routes are removed with it."""
    if pf.netdev:
        pf.netdev.admin_up, pf.netdev.default_route = False, False


def uses_netdev(vf: VfDevice, how: str) -> None:
    if vf.netdev is None:
        return
    match how:
        case "up":
            vf.netdev.admin_up = True
        case "port":
            vf.netdev.master = "br0"
        case _:
            vf.netdev.addressed = True


def uses_device(pf: PfDevice, vf: VfDevice) -> None:
    """Its file system is mounted, or a program of the host computes with it."""
    if vf.driver == pf.kind.vf_driver:
        vf.mounted, vf.busy = pf.kind.makes_disks, pf.kind.silent_use


def binds_variant(kernel: Kernel, pf: PfDevice, vf: VfDevice) -> None:
    """As libvirt does, to the VFIO driver that the card has."""
    if vf.group is not None and not vf.in_use:
        if vf.driver:
            kernel.unbind(vf)
        vf.override = NAMELESS
        kernel.probe(pf, vf)


def moves_netdev_away(kernel: Kernel, vf: VfDevice) -> None:
    """Into another network namespace, where this host does not see it."""
    if vf.netdev:
        del kernel.netdevs[vf.netdev.name]
        vf.netdev, vf.away = None, True


def moves_netdev_back(kernel: Kernel, vf: VfDevice) -> None:
    if vf.away:
        vf.away = False
        vf.netdev = kernel.add_netdev(f"{vf.address}n", vf.settings.mac or "")


MASTERS = {"bond": "bond0", "bridge": "vmbr0", "openvswitch": "ovs-system"}


def takes_port(kernel: Kernel, name: str, kind: str) -> None:
    """Another program makes an interface a port of its bond, its bridge, or Open vSwitch."""
    links = kernel.links
    master = links.named(MASTERS[kind]) or links.add(Link(MASTERS[kind], 0, kind=kind, admin_up=True))
    if netdev := kernel.netdevs.get(name):
        netdev.master = master.name
    elif link := links.created.get(name):
        links.created[name] = replace(link, master=master.ifindex)
        links.joined.pop(link.ifindex, None)


def frees_port(kernel: Kernel, name: str) -> None:
    if netdev := kernel.netdevs.get(name):
        netdev.master = None
    elif link := kernel.links.created.get(name):
        kernel.links.created[name] = replace(link, master=None)


def unplugs(kernel: Kernel, pf: PfDevice) -> None:
    """The users of its VFs release them first, as vfio-pci asks them to. The removal takes the lock of numvfs, too."""
    if kernel.numvfs_hangs(pf):
        return
    for vf in pf.vfs:
        vf.group_open = False
    kernel.remove_vfs(pf)
    if pf.netdev:
        del kernel.netdevs[pf.netdev.name]
    pf.plugged = False


def replugs(kernel: Kernel, pf: PfDevice) -> None:
    pf.plugged, pf.autoprobe = True, True
    if pf.netdev:
        pf.netdev = kernel.add_netdev(pf.netdev.name, pf.netdev.mac)
        pf.netdev.known_to_udev = False


def resets(pf: PfDevice) -> None:
    """The driver starts again, without the settings of its VFs."""
    pf.starting = True
    for vf in pf.vfs:
        vf.settings = UNTOUCHED
