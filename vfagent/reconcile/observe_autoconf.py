# SPDX-License-Identifier: Apache-2.0
"""Reads whether interfaces take what routers advertise, and which program is to configure them."""

from dataclasses import fields, replace

from vfagent.kernel.protocols import Host, Interface
from vfagent.model.autoconf import Ipv6Conf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.network import ADVERTISED_ROUTE, HostNetwork
from vfagent.model.vf_settings import Attribute

# The unit binds the folder of /proc/sys, which is read-only or hidden for the service, to a path of its own.
_BOUND, _CONF = "run/vfagent/ipv6", "proc/sys/net/ipv6/conf"


_NEW_LINKS = "default"
"""What links begin with that are made from now on."""


def conf_folder(host: Host, name: str) -> str:
    return f"{_BOUND if host.sysfs.exists(f'{_BOUND}/default') else _CONF}/{name}"


def can_be_set(driver_state: DriverState) -> bool:
    """False where the kernel's values turned out to be read-only here."""
    return Attribute.IPV6_AUTOCONF not in driver_state.unsupported


def ipv6_conf(host: Host, name: str) -> Ipv6Conf | None:
    """None where the kernel has no IPv6, or has it switched off on the interface."""
    folder = conf_folder(host, name)
    if host.sysfs.read(f"{folder}/disable_ipv6") != "0":
        return None
    values = (host.sysfs.read(f"{folder}/{field.name}") for field in fields(Ipv6Conf))
    try:
        return Ipv6Conf(*(int(value or "") for value in values))
    except ValueError:
        return None


def with_autoconf(host: Host, pf: Pf, driver_state: DriverState) -> Pf:
    """Who configures it is asked only while it matters: that reads many files."""
    netdev = pf.netdev
    if netdev is None:
        return pf
    conf = ipv6_conf(host, netdev.name) if can_be_set(driver_state) else None
    netdev = replace(netdev, ipv6=conf)
    took = netdev.addressed or netdev.management == ADVERTISED_ROUTE
    if took or (conf and conf != conf.kept_out()):
        netdev = _with_owner(host, pf, netdev, driver_state)
    return replace(pf, netdev=netdev)


def _with_owner(host: Host, pf: Pf, netdev: Netdev, driver_state: DriverState) -> Netdev:
    properties = host.udev.properties("net", netdev.name) or {}
    macs = tuple(mac for mac in (netdev.mac, netdev.permanent_mac) if mac)
    owner = host.owners.owner(Interface(netdev.name, macs, pf.driver, properties=properties))
    configured = netdev.ifindex in host.rtnl.configured()  # also while it is down
    took = not configured and (netdev.addressed or netdev.management == ADVERTISED_ROUTE)
    advertised = took and owner is None and netdev.master is None and netdev.management in (None, ADVERTISED_ROUTE)
    netdev = replace(netdev, configured_by=owner, advertised=advertised)
    if advertised and driver_state.brought_up:
        # vfagent set it up, and the kernel took this by itself: nobody reaches the host by it.
        return replace(netdev, addressed=False, management=None)
    return replace(netdev, addressed=netdev.addressed or configured)


def _unowned(host: Host, name: str, kind: str | None = None) -> Ipv6Conf | None:
    """Of a managed link (which has a kind), or a representor; None also where a program is to configure it."""
    conf = ipv6_conf(host, name)
    if conf is None or conf == conf.kept_out():
        return conf
    properties = host.udev.properties("net", name) or {}
    interface = Interface(name, kind=kind, managed=bool(kind), properties=properties)
    return None if host.owners.owner(interface) else conf


def with_links_autoconf(host: Host, driver_state: DriverState, network: HostNetwork) -> HostNetwork:
    """The network with that of its managed links and representors."""
    if not can_be_set(driver_state) or (new := ipv6_conf(host, _NEW_LINKS)) is None:
        return network
    links = (
        replace(link, ipv6=_unowned(host, link.name, link.kind)) if link.managed else link for link in network.links
    )
    representors = (replace(port, ipv6=_unowned(host, port.name)) for port in network.representors)
    return replace(network, links=tuple(links), representors=tuple(representors), new_link_ipv6=new)
