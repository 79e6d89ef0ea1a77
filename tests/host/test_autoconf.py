# SPDX-License-Identifier: Apache-2.0
"""IPv6 autoconfiguration on real links, with a router that advertises a default route and a prefix."""

import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.namespace import add_veth, ip, link, run
from tests.host.real_host import host_of
from tests.host.router import advertise, is_solicitation
from vfagent.kernel.protocols import Host, Interface
from vfagent.kernel.rtnl import KernelRtnl
from vfagent.model.driver_state import DriverState, StepResult
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.network import ADVERTISED_ROUTE, DEFAULT_ROUTE
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute
from vfagent.plan.autoconf import autoconf_notes, autoconf_problems, plan_pf_autoconf
from vfagent.policy.types import BridgeRule, PfMatch, PfRule, Policy, VlanRule
from vfagent.reconcile.execute import execute
from vfagent.reconcile.observe_autoconf import with_autoconf
from vfagent.reconcile.observe_netdevs import management_of
from vfagent.reconcile.release import last_steps
from vfagent.service.bridges import converge_bridges

PREFIX = "2001:db8:5:1::"
START = PREFIX.removesuffix(":")
ADDRESS = PciAddress("0000:01:00.0")
CONF = Path("/proc/sys/net/ipv6/conf")
TIME_TO_TAKE_S = 0.5  # the control test takes it in a few milliseconds

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def host(tmp_path: Path, kernel: None) -> Host:
    for name, value in (("accept_ra", 1), ("autoconf", 1)):  # the kernel's own defaults
        (CONF / "default" / name).write_text(str(value))
    return host_of(tmp_path)


def pf_on(name: str) -> Pf:
    ifindex = int(link(name)["ifindex"])
    netdev = Netdev(name, ifindex, link(name)["address"], None, 1500, admin_up=False)
    return Pf(ADDRESS, "igb", "0x8086", "0x10c9", "0x020000", 7, autoprobe=True, netdev=netdev)


def keep_out(pf: Pf, host: Host) -> StepResult:
    (planned,) = plan_pf_autoconf(with_autoconf(host, pf, DriverState()))
    return execute(planned.step, host)


def taken(name: str) -> list[str]:
    """Addresses of any scope, and routes by a router's advertisement."""
    shown = json.loads(run("ip", "-json", "-6", "addr", "show", "dev", name))
    addresses = [address["local"] for each in shown for address in each.get("addr_info", ())]
    routes = json.loads(run("ip", "-json", "-6", "route", "show", "dev", name, "proto", "ra"))
    return [*addresses, *(route["dst"] for route in routes)]


def hears_a_router(name: str, wire: str) -> list[str]:
    ip("link", "set", wire, "up")
    ip("link", "set", name, "up")
    time.sleep(0.1)  # the carrier
    advertise(wire, PREFIX)
    time.sleep(TIME_TO_TAKE_S)
    return taken(name)


def test_without_the_step_a_port_takes_an_address_and_the_default_route() -> None:
    add_veth("pf0", "wire0")
    for name in ("accept_ra", "autoconf"):
        (CONF / "pf0" / name).write_text("1")
    taken_up = hears_a_router("pf0", "wire0")
    assert "default" in taken_up
    assert any(address.startswith(START) for address in taken_up)


def test_a_port_that_is_kept_out_takes_nothing_and_asks_no_router(host: Host) -> None:
    add_veth("pf0", "wire0")
    assert keep_out(pf_on("pf0"), host) == StepResult()
    ip("link", "set", "wire0", "up")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD)) as wire:
        wire.bind(("wire0", 0x86DD))
        wire.settimeout(0)
        assert hears_a_router("pf0", "wire0") == []
        time.sleep(1.5)  # the kernel would have asked by now: after up to 1 s (addrconf_dad_kick())
        frames = []
        while frame := _next(wire):
            frames.append(frame)
    mac = bytes.fromhex(link("pf0")["address"].replace(":", ""))
    assert not [frame for frame in frames if frame[6:12] == mac and is_solicitation(frame)]


def _next(wire: socket.socket) -> bytes | None:
    try:
        return wire.recv(2048)
    except BlockingIOError:
        return None


def test_a_port_that_is_kept_out_needs_no_second_step(host: Host) -> None:
    add_veth("pf0", "wire0")
    keep_out(pf_on("pf0"), host)
    assert plan_pf_autoconf(with_autoconf(host, pf_on("pf0"), DriverState())) == ()


def test_the_step_follows_a_port_that_was_renamed(host: Host) -> None:
    add_veth("pf0", "wire0")
    (planned,) = plan_pf_autoconf(with_autoconf(host, pf_on("pf0"), DriverState()))
    ip("link", "set", "pf0", "name", "pf.1")
    add_veth("pf0", "wire1")
    execute(planned.step, host)
    assert hears_a_router("pf.1", "wire0") == []
    assert (CONF / "pf0/accept_ra").read_text() == "1\n"


@pytest.mark.parametrize("state", ["down", "up"])
def test_a_port_with_an_address_of_somebody_is_left_alone(host: Host, state: str) -> None:
    add_veth("pf0", "wire0")
    ip("link", "set", "pf0", state)
    ip("addr", "add", "192.0.2.1/24", "dev", "pf0")
    assert plan_pf_autoconf(with_autoconf(host, pf_on("pf0"), DriverState())) == ()


def test_a_kernel_without_ipv6_on_the_port_needs_nothing(host: Host) -> None:
    add_veth("pf0", "wire0")
    (CONF / "pf0/disable_ipv6").write_text("1")
    assert plan_pf_autoconf(with_autoconf(host, pf_on("pf0"), DriverState())) == ()


def test_where_proc_sys_is_read_only_the_bound_folder_is_written(host: Host) -> None:
    """As in the unit's sandbox. An interface that comes later is in the folder, too."""
    os.makedirs("/run/vfagent/ipv6")
    run("mount", "--bind", str(CONF), "/run/vfagent/ipv6")
    _read_only_proc_sys()
    add_veth("pf0", "wire0")
    assert keep_out(pf_on("pf0"), host) == StepResult()
    assert hears_a_router("pf0", "wire0") == []


def _read_only_proc_sys() -> None:
    run("mount", "--bind", "/proc/sys", "/proc/sys")
    run("mount", "-o", "remount,bind,ro", "/proc/sys")


def test_where_nothing_can_be_written_it_is_a_problem_and_not_tried_again(host: Host) -> None:
    _read_only_proc_sys()
    add_veth("pf0", "wire0")
    refused = keep_out(pf_on("pf0"), host)
    assert list(refused.unsupported) == [Attribute.IPV6_AUTOCONF]
    state = DriverState().updated(refused)
    pf = with_autoconf(host, pf_on("pf0"), state)
    assert plan_pf_autoconf(pf) == ()
    (problem,) = autoconf_problems(pf, state)
    assert "pf0 takes part in IPv6 autoconfiguration" in str(problem)


def test_a_release_restores_what_the_port_was(host: Host) -> None:
    add_veth("pf0", "wire0")
    before = with_autoconf(host, pf_on("pf0"), DriverState())
    keep_out(pf_on("pf0"), host)
    for step in last_steps(with_autoconf(host, pf_on("pf0"), DriverState()), before):
        execute(step, host)
    assert before.netdev is not None
    assert with_autoconf(host, pf_on("pf0"), DriverState()).netdev == before.netdev
    assert "default" in hears_a_router("pf0", "wire0")


def test_a_route_of_a_router_differs_from_one_that_somebody_configured(host: Host) -> None:
    pf0, far0 = add_veth("pf0", "wire0"), add_veth("far0", "far1", up=True)
    hears_a_router("pf0", "wire0")
    assert host.rtnl.management() == {pf0: ADVERTISED_ROUTE}
    ip("addr", "add", "192.0.2.1/24", "dev", "far0")
    ip("route", "add", "default", "via", "192.0.2.254")
    assert host.rtnl.management() == {pf0: ADVERTISED_ROUTE, far0: DEFAULT_ROUTE}


def observed(host: Host, driver_state: DriverState) -> Netdev:
    """pf0 as a reconcile observes it."""
    pf = pf_on("pf0")
    assert pf.netdev is not None
    addressed = pf.netdev.ifindex in host.rtnl.addressed()
    netdev = replace(pf.netdev, admin_up=True, addressed=addressed, management=management_of(host, "pf0"))
    netdev_now = with_autoconf(host, replace(pf, netdev=netdev), driver_state).netdev
    assert netdev_now is not None
    return netdev_now


def test_what_a_port_that_vfagent_set_up_took_is_a_problem_and_no_management(host: Host) -> None:
    add_veth("pf0", "wire0")
    hears_a_router("pf0", "wire0")
    state = DriverState(brought_up=True)
    netdev = observed(host, state)
    assert (netdev.management, netdev.addressed, netdev.advertised) == (None, False, True)
    pf = replace(pf_on("pf0"), netdev=netdev)
    (problem,) = autoconf_problems(pf, state)
    (planned,) = plan_pf_autoconf(pf)
    execute(planned.step, host)
    command = str(problem).partition("(")[2].partition(" removes")[0]
    run("sh", "-ec", command)
    advertise("wire0", PREFIX)
    time.sleep(TIME_TO_TAKE_S)
    assert [text for text in taken("pf0") if not text.startswith("fe80")] == []
    assert autoconf_problems(replace(pf, netdev=observed(host, state)), state) == ()


def test_what_a_port_that_somebody_set_up_took_may_be_the_way_to_the_host(host: Host) -> None:
    add_veth("pf0", "wire0")
    hears_a_router("pf0", "wire0")
    netdev = observed(host, DriverState())
    assert (netdev.management, netdev.addressed, netdev.advertised) == (ADVERTISED_ROUTE, True, True)
    pf = replace(pf_on("pf0"), netdev=netdev)
    assert plan_pf_autoconf(pf) == ()
    (note,) = autoconf_notes(pf, DriverState())
    run("sh", "-ec", note.partition("uses it: ")[2])
    advertise("wire0", PREFIX)
    time.sleep(TIME_TO_TAKE_S)
    assert [text for text in taken("pf0") if not text.startswith("fe80")] == []


@pytest.mark.parametrize("somebody", ["an address", "a session", "a program"])
def test_what_a_port_took_counts_where_somebody_uses_or_configures_it(host: Host, somebody: str) -> None:
    add_veth("pf0", "wire0")
    hears_a_router("pf0", "wire0")
    if somebody == "an address":
        ip("addr", "add", "192.0.2.1/24", "dev", "pf0")
    elif somebody == "a session":
        host = replace(host, rtnl=_WithSession())
    else:
        host = replace(host, owners=_Program())
    netdev = observed(host, DriverState(brought_up=True))
    assert netdev.management is not None
    assert not netdev.advertised
    assert plan_pf_autoconf(replace(pf_on("pf0"), netdev=netdev)) == ()


class _WithSession(KernelRtnl):
    def management(self) -> dict[int, str]:
        return dict.fromkeys(super().management(), "carries an SSH session")


class _Program:
    def owner(self, interface: Interface) -> str | None:
        return "NetworkManager"


@pytest.mark.parametrize(("addresses", "link_local"), [((), False), (("2001:db8:6::1/64",), True)])
def test_a_new_bridge_takes_nothing_and_has_a_link_local_address_only_for_its_own(
    *, host: Host, addresses: tuple[str, ...], link_local: bool
) -> None:
    vlan = VlanRule(id=10, name="vlan10", bridge="br0", addresses=addresses)
    rules = (PfRule(name="net", match=PfMatch(driver="igb"), vlan=(vlan,)),)
    report = converge_bridges(Policy(pf=rules, bridge=(BridgeRule(name="br0"),), digest="read"), host)
    assert report.problems == ()
    add_veth("port0", "wire0")
    ip("link", "set", "port0", "master", "br0", "up")
    taken_up = hears_a_router("br0", "wire0")
    assert "default" not in taken_up
    assert not any(address.startswith(START) for address in taken_up)
    assert bool(taken_up) == link_local
