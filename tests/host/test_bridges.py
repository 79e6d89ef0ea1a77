# SPDX-License-Identifier: Apache-2.0
"""The policy's bridges by themselves, on real links: made, and removed only when nobody needs them any more."""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import add_veth, ip, link, run
from vfagent.kernel.devlink import KernelDevlink
from vfagent.kernel.host_network import KernelNetwork
from vfagent.kernel.protocols import Host
from vfagent.kernel.routes import KernelRoutes
from vfagent.kernel.rtnl import KernelRtnl
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.kernel.udev import NoUdevDatabase
from vfagent.model.network import Borrowed
from vfagent.policy.types import BridgeRule, PfMatch, PfRule, Policy, VlanRule
from vfagent.service.bridges import HostBridges, converge_bridges
from vfagent.store.move_journal import MoveJournal

ADDRESS = "192.0.2.1/24"
NO_RULE = Policy(digest="read")
WITH_RULE = Policy(bridge=(BridgeRule(name="br0", mtu=1400),), digest="read")
LEG = VlanRule(id=10, name="vlan10", addresses=(ADDRESS,))
LEG_ALONE = Policy(pf=(PfRule(name="net", match=PfMatch(driver="igb"), vlan=(LEG,)),), digest="read")

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def host(tmp_path: Path, kernel: None) -> Host:
    journal, network = MoveJournal(tmp_path), KernelNetwork()
    found = Host(RootedSysfs(), KernelRtnl(), KernelDevlink(), NoUdevDatabase(), network, KernelRoutes(), journal)
    converge_bridges(WITH_RULE, found)
    return found


def bridges() -> list[str]:
    return [line.split(":")[1].strip() for line in run("ip", "-o", "link", "show", "type", "bridge").splitlines()]


def test_a_bridge_is_there_up_and_marked_and_goes_with_its_rule(host: Host) -> None:
    made = link("br0")
    assert (made["mtu"], made["ifalias"], "UP" in made["flags"]) == (1400, "vfagent", True)
    assert converge_bridges(WITH_RULE, host).done == ()
    assert converge_bridges(NO_RULE, host).done == ("remove br0",)
    assert bridges() == []


def test_a_bridge_stays_while_it_has_ports(host: Host) -> None:
    add_veth("vnet0", "far0")
    ip("link", "set", "vnet0", "master", "br0")
    assert converge_bridges(NO_RULE, host).problems == ("remove br0 is deferred: vnet0: still its ports",)
    ip("link", "set", "vnet0", "nomaster")
    converge_bridges(NO_RULE, host)
    assert bridges() == []


def test_a_bridge_stays_while_it_holds_an_address_that_a_leg_is_to_hold(host: Host) -> None:
    ip("addr", "add", ADDRESS, "dev", "br0")
    assert converge_bridges(LEG_ALONE, host).problems == (f"remove br0 is deferred: {ADDRESS}: still on it",)
    ip("addr", "del", ADDRESS, "dev", "br0")
    converge_bridges(LEG_ALONE, host)
    assert bridges() == []


def test_a_bridge_stays_while_it_holds_an_address_that_was_somebody_s(host: Host) -> None:
    host.moves.borrow(Borrowed(ADDRESS, "lan0"))
    ip("addr", "add", ADDRESS, "dev", "br0")
    assert converge_bridges(NO_RULE, host).done == ()
    host.moves.give_back(ADDRESS)
    assert converge_bridges(NO_RULE, host).done == ("remove br0",)


def test_somebody_s_bridge_stays_whatever_the_policy_says(host: Host) -> None:
    ip("link", "add", "virbr0", "type", "bridge")
    converge_bridges(NO_RULE, host)
    assert bridges() == ["virbr0"]


def test_without_a_policy_that_could_be_read_nothing_goes(host: Host) -> None:
    converge_bridges(Policy(), host)
    assert bridges() == ["br0"]


# As the agent has them: looked at in a worker, when there is a reason to.


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_bridge_whose_end_was_not_heard_of_comes_back_with_the_look_at_everything(host: Host) -> None:
    async def scenario() -> None:
        monitored = HostBridges(host)
        monitored.set_policy(WITH_RULE)
        await until(lambda: monitored.found.ifindexes)
        ip("link", "del", "br0")
        monitored.look()
        await until(lambda: bridges() == ["br0"])
        await until(lambda: monitored.found.done)
        monitored.stop()

    run_to_end(scenario())


def test_what_cannot_be_done_about_a_bridge_is_told_until_it_can(host: Host) -> None:
    ip("link", "del", "br0")
    add_veth("br0", "far0")

    async def scenario() -> None:
        logged: list[tuple[str, ...]] = []
        monitored = HostBridges(host, lambda: logged.append(monitored.found.problems))
        monitored.set_policy(WITH_RULE)
        await until(lambda: logged == [("br0: exists already, but is a veth, not a bridge",)])
        ip("link", "del", "br0")
        monitored.look()
        await until(lambda: logged[1:] == [()])
        monitored.stop()

    run_to_end(scenario())


def test_a_policy_is_taken_though_netlink_answers_nothing_to_the_service(host: Host) -> None:
    """It is asked in workers alone: the loop must not wait for it, nor end by it."""

    class Deaf(KernelNetwork):
        def link(self, which: str | int) -> None:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    async def scenario() -> None:
        monitored = HostBridges(replace(host, network=Deaf()))
        monitored.set_policy(NO_RULE)
        await until(lambda: monitored.found.problems)
        assert monitored.found.problems == ("cannot look at them: No buffer space available",)
        monitored.stop()

    run_to_end(scenario())


def test_without_bridges_nothing_is_looked_at(host: Host) -> None:
    ip("link", "del", "br0")

    async def scenario() -> None:
        monitored = HostBridges(host)
        monitored.set_policy(NO_RULE)
        monitored.look()
        assert not [one for one in asyncio.get_running_loop()._scheduled if not one.cancelled()]  # type: ignore[attr-defined]

    run_to_end(scenario())
