# SPDX-License-Identifier: Apache-2.0
"""Any history of a bridge above a PF: guests come, go, move and lie about their MACs; the agent is killed meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from tests.model import ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.devices import PfDevice
from tests.model.kernel import Kernel
from tests.model.process import Kill
from tests.model.test_fdb import LAYOUTS, bridge_on, bridge_only, entries_of
from vfagent.model.network import Link, VlanTag
from vfagent.plan.local_macs import MOST_PER_PORT
from vfagent.policy.types import FdbMode

FOREIGN = "02:00:00:00:00:99"  # in the FDB, by another program
MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")  # few, so that they meet
TAPS = ("tap100i0", "tap200i0")
UPLINK = "uplink"


@dataclass(slots=True)
class World:
    layout: str
    kernel: Kernel = field(init=False)
    pf: PfDevice = field(init=False)
    agent: Agent = field(init=False)
    wire: set[str] = field(default_factory=set)  # neighbours through the bridge that were on the wire

    def __post_init__(self) -> None:
        self.kernel, self.pf = bridge_on(self.layout)
        self.agent = Agent(self.kernel, bridge_only())
        links = self.kernel.links
        for name in TAPS[1:]:
            links.add(Link(name, 0, kind="tun", master=self.bridge.ifindex))
        links.add_vlan("eno1.99", self.ifindex, VlanTag(99))
        links.fdb[self.ifindex] = {FOREIGN}

    @property
    def ifindex(self) -> int:
        assert self.pf.netdev is not None
        return self.pf.netdev.ifindex

    @property
    def bridge(self) -> Link:
        return self.kernel.links.created["virbr0"]

    def port(self, name: str) -> int:
        return self.ifindex if name == UPLINK else self.kernel.links.created[name].ifindex

    def sends(self, port: str, mac: str) -> None:
        self.ages(mac)
        self.kernel.links.learnt[self.bridge.ifindex].add((self.port(port), mac))

    def ages(self, mac: str) -> None:
        known = self.kernel.links.learnt[self.bridge.ifindex]
        known -= {entry for entry in known if entry[1] == mac}

    def floods(self, port: str, mac: str) -> None:
        for number in range(40):
            self.sends(port, f"06:00:00:00:{mac[-2:]}:{number:02x}")

    def neighbour(self, network: str, mac: str) -> None:
        """It comes, or goes."""
        ifindex = self.kernel.links.created[network].ifindex
        self.kernel.links.neighbour_macs.setdefault(ifindex, set()).symmetric_difference_update({mac})

    def host_talks_to(self, mac: str) -> None:
        """To a host on the wire, through the bridge."""
        self.sends(UPLINK, mac)
        self.kernel.links.neighbour_macs.setdefault(self.bridge.ifindex, set()).add(mac)

    def another_program_removes(self, mac: str) -> None:
        self.kernel.links.fdb[self.ifindex].discard(mac)

    def fails_over(self) -> None:
        if self.pf.netdev and self.pf.netdev.master == "bond0":
            self.kernel.links.backups ^= {self.pf.netdev.name}

    def policy_changes(self) -> None:
        off = self.agent.policy == bridge_only()
        self.agent.policy = bridge_only(FdbMode.OFF if off else FdbMode.AUTO)

    def wanted(self) -> set[str]:
        """By the rules of the manual, for floods without saying which of its MACs a port gets."""
        links = self.kernel.links
        learnt = links.learnt[self.bridge.ifindex]
        away = {mac for port, mac in learnt if port == self.ifindex}
        through_bridge = links.neighbour_macs.get(self.bridge.ifindex, set())
        elsewhere = links.neighbour_macs.get(links.created["eno1.99"].ifindex, set())
        if self.agent.policy != bridge_only():
            self.wire = set()
            return set()
        self.wire = {mac for mac in through_bridge if mac in away | self.wire}
        if links.backups:
            return set()
        lies = away | elsewhere | self.wire
        return {self.bridge.mac} | {mac for port, mac in learnt if port != self.ifindex and mac not in lies}


Event = Callable[[World], None]


@st.composite
def events(draw: st.DrawFn) -> Event:
    mac, port = draw(st.sampled_from(MACS)), draw(st.sampled_from(TAPS))
    network = draw(st.sampled_from(("virbr0", "eno1.99")))
    chosen: Event = draw(
        st.sampled_from(
            (
                lambda world: world.sends(port, mac),
                lambda world: world.sends(UPLINK, mac),
                lambda world: world.host_talks_to(mac),
                lambda world: world.ages(mac),
                lambda world: world.floods(port, mac),
                lambda world: world.neighbour(network, mac),
                lambda world: world.another_program_removes(mac),
                lambda world: world.fails_over(),
                lambda world: world.policy_changes(),
            )
        )
    )
    return chosen


@given(
    layout=st.sampled_from(LAYOUTS),
    history=st.lists(st.tuples(events(), st.none() | st.integers(0, 6)), min_size=1, max_size=12),
)
@examples(60)
def test_the_fdb_has_what_local_ports_brought_and_nothing_else(
    layout: str, history: list[tuple[Event, int | None]]
) -> None:
    ledger.counted["histories"] += 1
    world = World(layout)
    agent, pf = world.agent, world.pf
    for event, kill in history:
        event(world)
        if kill is not None:
            agent.converge(pf.address, kill=Kill(kill, after=bool(kill % 2)))
            agent.restart(forget=False)
        run = agent.converge(pf.address)
        assert not run.failures
        assert run.plan.settled
        _check(world, entries_of(world.kernel, pf), world.wanted())
        assert not agent.converge(pf.address).done


def _check(world: World, entries: set[str], wanted: set[str]) -> None:
    assert FOREIGN in entries
    own = entries - {FOREIGN}
    assert own <= wanted
    learnt = world.kernel.links.learnt[world.bridge.ifindex]
    for tap in TAPS:
        of_port = {mac for port, mac in learnt if port == world.port(tap)} & wanted
        assert len(of_port & own) == min(len(of_port), MOST_PER_PORT)
    assert world.bridge.mac in own or not wanted


def test_a_kill_between_any_two_entries_leaves_no_entry_behind() -> None:
    for number in range(4):
        world = World("pf")
        world.sends("tap200i0", MACS[1])
        world.agent.converge(world.pf.address, kill=Kill(number, after=True))
        world.agent.restart(forget=False)
        world.agent.policy = replace(bridge_only(), pf=())
        world.agent.converge(world.pf.address)
        assert entries_of(world.kernel, world.pf) == {FOREIGN}
