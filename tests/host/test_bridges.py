# SPDX-License-Identifier: Apache-2.0
"""The policy's bridges on real links: created, and removed only when nothing uses them any more."""

import asyncio
import errno
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import add_veth, ip, link, run
from tests.host.real_host import host_of
from tests.host.waiting import until
from vfagent.kernel.host_network import KernelNetwork
from vfagent.kernel.protocols import Host
from vfagent.model.network import Borrowed
from vfagent.policy.types import BridgeRule, PfMatch, PfRule, Policy, VlanRule
from vfagent.process.workers import Workers
from vfagent.service.bridges import HostBridges, converge_bridges

ADDRESS = "192.0.2.1/24"
NO_RULE = Policy(digest="read")
WITH_RULE = Policy(bridge=(BridgeRule(name="br0", mtu=1400),), digest="read")
VLAN_INTERFACE = VlanRule(id=10, name="vlan10", addresses=(ADDRESS,))
VLAN_INTERFACE_ONLY = Policy(
    pf=(PfRule(name="net", match=PfMatch(driver="igb"), vlan=(VLAN_INTERFACE,)),), digest="read"
)

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def host(tmp_path: Path, kernel: None) -> Host:
    host = host_of(tmp_path)
    converge_bridges(WITH_RULE, host)
    return host


def bridges() -> list[str]:
    return [line.split(":")[1].strip() for line in run("ip", "-o", "link", "show", "type", "bridge").splitlines()]


def test_a_bridge_is_created_up_and_marked_and_removed_with_its_rule(host: Host) -> None:
    made = link("br0")
    assert (made["mtu"], made["ifalias"], "UP" in made["flags"]) == (1400, "vfagent", True)
    assert converge_bridges(WITH_RULE, host).done == ()
    assert converge_bridges(NO_RULE, host).done == ("remove br0",)
    assert bridges() == []


def test_a_bridge_stays_while_it_has_ports(host: Host) -> None:
    add_veth("vnet0", "far0")
    ip("link", "set", "vnet0", "master", "br0")
    assert converge_bridges(NO_RULE, host).problems == ("remove br0 is deferred: it still has ports: vnet0",)
    ip("link", "set", "vnet0", "nomaster")
    converge_bridges(NO_RULE, host)
    assert bridges() == []


def test_a_bridge_stays_until_a_vlan_interface_has_its_address(host: Host) -> None:
    ip("addr", "add", ADDRESS, "dev", "br0")
    assert converge_bridges(VLAN_INTERFACE_ONLY, host).problems == (
        f"remove br0 is deferred: it still has addresses: {ADDRESS}",
    )
    ip("addr", "del", ADDRESS, "dev", "br0")
    converge_bridges(VLAN_INTERFACE_ONLY, host)
    assert bridges() == []


def test_a_bridge_stays_while_it_has_a_borrowed_address(host: Host) -> None:
    host.moves.borrow(Borrowed(ADDRESS, "lan0"))
    ip("addr", "add", ADDRESS, "dev", "br0")
    assert converge_bridges(NO_RULE, host).done == ()
    host.moves.give_back(ADDRESS)
    assert converge_bridges(NO_RULE, host).done == ("remove br0",)


def test_an_interface_with_the_bridges_name_as_an_alternative_one_is_not_altered(host: Host) -> None:
    """Every request by name finds it."""
    ip("link", "del", "br0")
    add_veth("eth5", "far5", up=True)
    ip("link", "property", "add", "dev", "eth5", "altname", "br0")
    conf = Path("/proc/sys/net/ipv6/conf/eth5")
    before = [(conf / name).read_text() for name in ("accept_ra", "autoconf", "addr_gen_mode")]
    report = converge_bridges(WITH_RULE, host)
    assert [(conf / name).read_text() for name in ("accept_ra", "autoconf", "addr_gen_mode")] == before
    assert "br0 is an alternative name of eth5" in report.problems[0]
    assert report.done == ()


def test_a_foreign_bridge_is_never_removed(host: Host) -> None:
    ip("link", "add", "virbr0", "type", "bridge")
    converge_bridges(NO_RULE, host)
    assert bridges() == ["virbr0"]


def test_without_a_loaded_policy_no_bridge_is_removed(host: Host) -> None:
    converge_bridges(Policy(), host)
    assert bridges() == ["br0"]


# As the agent runs them: in a worker, after an event.


def test_a_full_reconcile_creates_a_bridge_deleted_without_an_event(host: Host) -> None:
    async def scenario() -> None:
        bridge_monitor = HostBridges(host, Workers())
        bridge_monitor.set_policy(WITH_RULE)
        await until(lambda: bridge_monitor.report.ifindexes)
        ip("link", "del", "br0")
        bridge_monitor.reconcile_soon()
        await until(lambda: bridges() == ["br0"])
        await until(lambda: bridge_monitor.report.done)
        await bridge_monitor.stop()

    run_to_end(scenario())


def test_a_problem_of_a_bridge_is_reported_until_it_is_solved(host: Host) -> None:
    ip("link", "del", "br0")
    add_veth("br0", "far0")

    async def scenario() -> None:
        logged: list[tuple[str, ...]] = []
        bridge_monitor = HostBridges(host, Workers(), lambda: logged.append(bridge_monitor.report.problems))
        bridge_monitor.set_policy(WITH_RULE)
        await until(lambda: logged == [("br0 exists already, but is a veth, not a bridge; name another bridge",)])
        ip("link", "del", "br0")
        bridge_monitor.reconcile_soon()
        await until(lambda: logged[1:] == [()])
        await bridge_monitor.stop()

    run_to_end(scenario())


def test_a_policy_is_loaded_although_netlink_fails_in_the_service(host: Host) -> None:
    """Only workers use netlink: the event loop must neither wait for it nor fail with it."""

    class FailingNetwork(KernelNetwork):
        def link(self, which: str | int) -> None:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    async def scenario() -> None:
        bridge_monitor = HostBridges(replace(host, network=FailingNetwork()), Workers())
        bridge_monitor.set_policy(NO_RULE)
        await until(lambda: bridge_monitor.report.problems)
        assert bridge_monitor.report.problems == ("reconcile failed: No buffer space available",)
        await bridge_monitor.stop()

    run_to_end(scenario())


def test_without_bridges_no_reconcile_is_scheduled(host: Host) -> None:
    ip("link", "del", "br0")

    async def scenario() -> None:
        bridge_monitor = HostBridges(host, Workers())
        bridge_monitor.set_policy(NO_RULE)
        bridge_monitor.reconcile_soon()
        assert not [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    run_to_end(scenario())
