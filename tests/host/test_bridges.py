# SPDX-License-Identifier: Apache-2.0
"""The policy's bridges by themselves, on real links: made, and removed only when nobody needs them any more."""

from pathlib import Path

import pytest

from tests.host.namespace import add_veth, ip, link, run
from vfagent.host.devlink import KernelDevlink
from vfagent.host.host import Host
from vfagent.host.move_journal import MoveJournal
from vfagent.host.network import KernelNetwork
from vfagent.host.routes import KernelRoutes
from vfagent.host.rtnl import KernelRtnl
from vfagent.host.sysfs import RootedSysfs
from vfagent.host.udev import NoUdevDatabase
from vfagent.host_bridges import converge_bridges
from vfagent.model.network import Taken
from vfagent.policy.types import BridgeRule, PfMatch, PfRule, Policy, VlanRule

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
    host.moves.take(Taken(ADDRESS, "lan0"))
    ip("addr", "add", ADDRESS, "dev", "br0")
    assert converge_bridges(NO_RULE, host).done == ()
    host.moves.give(ADDRESS)
    assert converge_bridges(NO_RULE, host).done == ("remove br0",)


def test_somebody_s_bridge_stays_whatever_the_policy_says(host: Host) -> None:
    ip("link", "add", "virbr0", "type", "bridge")
    converge_bridges(NO_RULE, host)
    assert bridges() == ["virbr0"]


def test_without_a_policy_that_could_be_read_nothing_goes(host: Host) -> None:
    converge_bridges(Policy(), host)
    assert bridges() == ["br0"]
