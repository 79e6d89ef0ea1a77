# SPDX-License-Identifier: Apache-2.0
"""Which changes of real bridges' FDBs reconcile a PF, and how often."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.host.namespace import add_veth, ip, link, run
from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.network import HostNetwork, Link
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import AddFdb
from vfagent.plan.planner import Plan
from vfagent.reconcile.pf_state import MOST_REPAIRS, EndedStep, PfState
from vfagent.reconcile.reports import Observed
from vfagent.service.fdb_events import FdbEvents, FdbLimits

PF = PciAddress("0000:01:00.0")
GUEST, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"


@pytest.fixture
def state(kernel: None) -> PfState:
    """A PF that is a port of vmbr0, as it was observed. Ports that are down bring no frames."""
    indices = {name: add_veth(name, f"{name}-peer") for name in ("pf0", "tap0", "veth1")}
    for bridge, ports in (("vmbr0", ("pf0", "tap0")), ("docker0", ("veth1",))):
        ip("link", "add", bridge, "type", "bridge")
        for port in ports:
            ip("link", "set", port, "master", bridge)
    vmbr0 = Link("vmbr0", int(link("vmbr0")["ifindex"]), kind="bridge")
    network = HostNetwork(links=(vmbr0,), uplinks=frozenset({indices["pf0"]}))
    netdev = Netdev("pf0", indices["pf0"], "", None, 1500, admin_up=True, master="vmbr0")
    pf = Pf(PF, "igb", "", "", "0x020000", 8, autoprobe=False, netdev=netdev, network=network)
    desired = DesiredPf(PF, "rule", 2, None, (), fdb=True)
    observed = Observed(1, pf, desired, Plan(), ifindexes=frozenset({indices["pf0"]}))
    return PfState(PF, observed=observed)


def reconciles(state: PfState, body: Callable[[], Awaitable[None]], *, most_changes: int = 1000) -> int:
    marked = list[PciAddress]()

    async def main() -> None:
        limits = FdbLimits(delay_s=0.05, churn_delay_s=60.0, most_changes=most_changes)
        events = FdbEvents(lambda: [state], marked.append, limits)
        asyncio.get_running_loop().add_reader(events.fileno(), events.read)
        await body()
        await asyncio.sleep(0.2)
        asyncio.get_running_loop().remove_reader(events.fileno())
        events.close()

    asyncio.run(main())
    return len(marked)


def learns(port: str, *macs: str) -> Callable[[], Awaitable[None]]:
    async def body() -> None:
        for mac in macs:
            run("bridge", "fdb", "replace", mac, "dev", port, "master", "static")

    return body


def test_a_mac_behind_a_local_port_reconciles_the_pf_below_its_bridge(state: PfState) -> None:
    assert reconciles(state, learns("tap0", GUEST)) == 1


def test_what_the_wire_brings_and_what_other_bridges_learn_reconciles_nothing(state: PfState) -> None:
    """A busy network brings a new MAC every few seconds."""
    assert reconciles(state, learns("pf0", OTHER)) == 0
    assert reconciles(state, learns("veth1", OTHER)) == 0


def test_a_guests_mac_that_is_on_the_wire_now_reconciles_the_pf(state: PfState) -> None:
    """It moved to another host: VFs would still be sent to this one."""
    state.driver_state = DriverState(fdb=frozenset({GUEST}))
    assert reconciles(state, learns("pf0", GUEST)) == 1


def test_an_entry_that_somebody_took_from_the_pf_reconciles_it_and_a_new_one_does_not(state: PfState) -> None:
    state.driver_state = DriverState(fdb=frozenset({GUEST}))

    async def add() -> None:
        run("bridge", "fdb", "add", GUEST, "dev", "pf0", "self", "permanent")

    async def remove() -> None:
        run("bridge", "fdb", "del", GUEST, "dev", "pf0", "self")

    assert reconciles(state, add) == 0
    assert reconciles(state, remove) == 1


def test_a_guest_that_changes_its_mac_all_the_time_does_not_keep_the_service_busy(state: PfState) -> None:
    """Ten reconciles as soon as they can, then one a minute later."""

    async def body() -> None:
        for number in range(30):
            run("bridge", "fdb", "add", f"02:00:00:00:00:{number:02x}", "dev", "tap0", "master", "static")
            await asyncio.sleep(0.1)

    assert reconciles(state, body) == 10


def test_lost_notifications_reconcile_a_pf_below_a_bridge(state: PfState) -> None:
    assert reconciles(state, learns("pf0", OTHER, GUEST, "52:54:00:00:00:03"), most_changes=2) == 1
    state.observed = replace(state.observed, pf=None)
    macs = ("52:54:00:00:00:04", "52:54:00:00:00:05", "52:54:00:00:00:06")
    assert reconciles(state, learns("pf0", *macs), most_changes=2) == 0


def test_an_entry_that_comes_and_goes_is_no_fight_with_another_program(state: PfState) -> None:
    state.progress.timeline = [EndedStep(AddFdb(PF, 1, GUEST), 0.0, 0.0)]
    assert not any(state.repaired(float(number)) for number in range(2 * MOST_REPAIRS))
