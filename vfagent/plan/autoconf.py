# SPDX-License-Identifier: Apache-2.0
"""Interfaces that nobody else configures take no address and no route from the network. Pure."""

from vfagent.model.autoconf import Ipv6Conf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute
from vfagent.plan.network_steps import SetAutoconf
from vfagent.plan.vf import Planned, Problem


def plan_pf_autoconf(pf: Pf) -> tuple[Planned, ...]:
    netdev = pf.netdev
    if netdev is None or _somebodys(netdev):
        return ()
    return plan_autoconf(pf.address, netdev.name, netdev.ifindex, netdev.ipv6)


def _somebodys(netdev: Netdev) -> bool:
    """Whether someone configures it, or may reach the host through it."""
    return bool(netdev.configured_by or netdev.addressed or netdev.management or netdev.master)


def plan_autoconf(
    pf: PciAddress, name: str, ifindex: int | None, present: Ipv6Conf | None, *, link_local: bool = False
) -> tuple[Planned, ...]:
    """`present` is None where the kernel has no IPv6. The step must come before the interface is set up."""
    if present is None or (wanted := present.kept_out(link_local=link_local)) == present:
        return ()
    values = f"accept_ra {present.accept_ra}, autoconf {present.autoconf}, addr_gen_mode {present.addr_gen_mode}"
    return (Planned(SetAutoconf(pf, name, ifindex, wanted), f"found {values}"),)


def autoconf_problems(pf: Pf, driver_state: DriverState) -> tuple[Problem, ...]:
    if pf.netdev is None:
        return ()
    name, texts = pf.netdev.name, list[str]()
    if answer := driver_state.unsupported.get(Attribute.IPV6_AUTOCONF):
        texts.append(
            f"{name} takes part in IPv6 autoconfiguration: net.ipv6.conf cannot be written: {answer} "
            "(the unit needs BindPaths=-/proc/sys/net/ipv6/conf:/run/vfagent/ipv6)"
        )
    if pf.netdev.advertised and driver_state.brought_up:
        texts.append(f"{name} took IPv6 addresses or routes from a router ({_removal(name)} removes them)")
    return tuple(Problem(text) for text in texts)


def autoconf_notes(pf: Pf, driver_state: DriverState) -> tuple[str, ...]:
    """An interface that somebody else set up may be meant to be reached by what it took."""
    if pf.netdev is None or driver_state.brought_up or not pf.netdev.advertised:
        return ()
    name = pf.netdev.name
    closed = f"sysctl -w net/ipv6/conf/{name}/accept_ra=0; {_removal(name)}"
    return (f"{name} has only what a router advertised, and no program configures it; if nobody uses it: {closed}",)


def _removal(name: str) -> str:
    return f"ip -6 route flush dev {name} proto ra; ip -6 addr flush dev {name} scope global dynamic"
