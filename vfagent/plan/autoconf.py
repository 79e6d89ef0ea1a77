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
    answer = driver_state.unsupported.get(Attribute.IPV6_AUTOCONF)
    if pf.netdev is None or answer is None:
        return ()
    return (
        Problem(
            f"{pf.netdev.name} takes part in IPv6 autoconfiguration: net.ipv6.conf cannot be written: {answer} "
            "(the unit needs BindPaths=-/proc/sys/net/ipv6/conf:/run/vfagent/ipv6)"
        ),
    )
