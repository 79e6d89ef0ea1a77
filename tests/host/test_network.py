# SPDX-License-Identifier: Apache-2.0
"""Bridges, addresses and their moves on real links. test_pyroute2_versions.py runs this file with other pyroute2s."""

import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.host.namespace import add_veth, ip, link, run
from tests.host.real_host import host_of
from tests.host.waiting import wait_until
from vfagent.errors import StepError
from vfagent.kernel.host_network import KernelNetwork
from vfagent.kernel.neighbours import FdbEntry
from vfagent.kernel.protocols import Host
from vfagent.model.network import Address, Move
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import MoveAddresses, RollBackMove
from vfagent.reconcile.move_addresses import move_addresses, roll_back

HERE, GATEWAY = "192.0.2.1", "192.0.2.254"
HERE6, GATEWAY6 = "2001:db8:2::1", "2001:db8:2::fe"
HELD, HELD6 = f"{HERE}/24", f"{HERE6}/64"
PF = PciAddress("0000:01:00.0")
WAY_BACK = MoveAddresses(PF, Move("vlan0", "lan0", (HELD, HELD6), back=True))
network = KernelNetwork()


def held(name: str) -> set[str]:
    addresses = json.loads(run("ip", "-json", "addr", "show", "dev", name))[0]["addr_info"]
    return {f"{address['local']}/{address['prefixlen']}" for address in addresses if address["scope"] == "global"}


@pytest.mark.usefixtures("kernel")
def test_a_bridge_is_unmarked_until_mark() -> None:
    network.add_bridge("br0")
    unmarked = network.link("br0")
    assert unmarked is not None
    assert (unmarked.kind, unmarked.unmarked, unmarked.managed) == ("bridge", True, True)
    network.mark(unmarked.ifindex)
    marked = network.link("br0")
    assert marked is not None
    assert (marked.unmarked, marked.managed) == (False, True)
    assert link("br0")["ifalias"] == "vfagent"


@pytest.mark.usefixtures("kernel")
def test_a_foreign_bridge_is_not_managed() -> None:
    ip("link", "add", "br0", "type", "bridge")
    bridge = network.link("br0")
    assert bridge is not None
    assert not bridge.managed


@pytest.mark.usefixtures("kernel")
def test_a_port_joins_its_bridge_and_leaves_it() -> None:
    ip("link", "add", "br0", "type", "bridge")
    port, bridge = add_veth("p0", "w0"), int(link("br0")["ifindex"])
    network.set_link(port, up=True, mtu=1400, master=bridge)
    assert (link("p0")["master"], link("p0")["mtu"], "UP" in link("p0")["flags"]) == ("br0", 1400, True)
    network.set_link(port, master=0)
    assert "master" not in link("p0")


@pytest.mark.usefixtures("kernel")
def test_an_address_shows_whether_it_is_managed() -> None:
    index = add_veth("p0", "w0", up=True)
    ip("addr", "add", "192.0.2.9/24", "dev", "p0")
    network.add_address(index, HELD)
    network.add_address(index, HELD6, known_unique=True)
    wanted = {Address("192.0.2.9/24"), Address(HELD, managed=True), Address(HELD6, managed=True)}
    assert wanted <= set(network.addresses()[index])
    network.remove_address(index, HELD6)
    assert held("p0") == {"192.0.2.9/24", HELD}


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (lambda: network.delete(9999), errno.ENODEV),
        (lambda: network.add_fdb(9999, "52:54:00:00:00:01"), errno.ENODEV),
        (lambda: network.add_address(9999, HELD), errno.ENODEV),
        (lambda: network.add_bridge("lo"), errno.EEXIST),
        (lambda: network.set_hwmode(1, "vepa"), errno.EOPNOTSUPP),
    ],
    ids=["delete", "fdb", "address", "name taken", "hwmode"],
)
def test_the_kernels_errno_is_raised(request_: Callable[[], None], number: int) -> None:
    with pytest.raises(OSError) as raised:
        request_()
    assert raised.value.errno == number


@pytest.mark.usefixtures("kernel")
def test_the_fdb_of_a_device_is_read_and_written() -> None:
    index = add_veth("p0", "w0", up=True)
    before = network.fdb(index)
    network.add_fdb(index, "52:54:00:00:00:01")
    assert network.fdb(index) - before == {"52:54:00:00:00:01"}
    network.remove_fdb(index, "52:54:00:00:00:01")
    assert network.fdb(index) == before


@pytest.mark.usefixtures("kernel")
def test_learned_macs_come_with_the_bridges_port() -> None:
    ip("link", "add", "br0", "type", "bridge")
    port = add_veth("p0", "w0", up=True)
    ip("link", "set", "p0", "master", "br0")
    run("bridge", "fdb", "add", "52:54:00:00:00:01", "dev", "p0", "master", "static")
    bridge = int(link("br0")["ifindex"])
    assert network.learnt(bridge) == (FdbEntry(port, bridge, "52:54:00:00:00:01", own=False, static=True),)


@pytest.mark.usefixtures("kernel")
def test_neighbours_are_read_with_their_macs() -> None:
    port = add_veth("p0", "w0", up=True)
    ip("neigh", "add", "192.0.2.7", "lladdr", "52:54:00:00:00:01", "dev", "p0", "nud", "stale")
    ip("neigh", "add", "2001:db8::7", "lladdr", "52:54:00:00:00:02", "dev", "p0", "nud", "permanent")
    ip("neigh", "add", "192.0.2.8", "dev", "p0", "lladdr", "52:54:00:00:00:03", "nud", "failed")
    assert network.neighbour_macs()[port] == {"52:54:00:00:00:01", "52:54:00:00:00:02"}


class Peer:
    """Another host, connected to two of our interfaces: lan0, which has the addresses, and vlan0."""

    def __init__(self) -> None:
        ip("netns", "add", "peer")
        run("ip", "-n", "peer", "link", "add", "wire", "type", "bridge")
        for name in ("lan0", "vlan0"):
            ip("link", "add", name, "type", "veth", "peer", "name", f"to-{name}", "netns", "peer")
            ip("link", "set", name, "up")
            run("ip", "-n", "peer", "link", "set", f"to-{name}", "master", "wire", "up")
        run("ip", "-n", "peer", "addr", "add", f"{GATEWAY}/24", "dev", "wire")
        run("ip", "-n", "peer", "addr", "add", f"{GATEWAY6}/64", "dev", "wire", "nodad")
        run("ip", "-n", "peer", "link", "set", "wire", "up")
        ip("addr", "add", HELD, "dev", "lan0")
        ip("addr", "add", HELD6, "dev", "lan0", "nodad")
        ip("route", "add", "default", "via", GATEWAY, "metric", "100", "mtu", "1400")
        ip("route", "add", "198.51.100.0/24", "dev", "lan0", "src", HERE)
        ip("-6", "route", "add", "default", "via", GATEWAY6, "dev", "lan0")

    def connect(self) -> socket.socket:
        """A TCP connection from the peer, which sends all the time."""
        listener = socket.create_server((HERE, 7000))
        program = (
            "import socket, sys, time\n"
            f"s = socket.create_connection(('{HERE}', 7000))\n"
            "while True: s.sendall(b'x' * 1000); time.sleep(0.002)"
        )
        self.sender = subprocess.Popen(["ip", "netns", "exec", "peer", "python3", "-c", program])
        connection, _ = listener.accept()
        listener.close()
        connection.settimeout(2.0)
        return connection

    def close(self) -> None:
        if hasattr(self, "sender"):
            self.sender.kill()
            self.sender.wait()
        ip("netns", "del", "peer")


@pytest.fixture
def peer(kernel: None) -> Iterator[Peer]:
    other = Peer()
    yield other
    other.close()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return host_of(tmp_path)


def step(probe: str | None = None) -> MoveAddresses:
    return MoveAddresses(PF, Move("lan0", "vlan0", (HELD, HELD6), probe))


def routes(name: str) -> set[str]:
    texts = (run("ip", family, "route", "show", "dev", name) for family in ("-4", "-6"))
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return {" ".join(line.split()) for line in lines if "kernel" not in line and "fe80::/" not in line}


@contextmanager
def sampled(address: str) -> Iterator[list[float]]:
    """How long the address was missing, each time: a process tries to bind to it every millisecond."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _sample(address, writing)
    gaps: list[float] = []
    try:
        yield gaps
    finally:
        time.sleep(0.02)
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as logged:
            gaps.extend(float(line) for line in logged)


def _sample(address: str, writing: int) -> None:
    since: float | None = None
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
                if since is not None:
                    os.write(writing, f"{time.monotonic() - since}\n".encode())
                since = None
            except OSError:
                since = since or time.monotonic()
        time.sleep(0.001)


@pytest.mark.usefixtures("peer")
def test_addresses_move_with_the_routes_that_depend_on_them(host: Host) -> None:
    before = routes("lan0")
    move_addresses(step(), host)
    assert (held("lan0"), held("vlan0")) == (set(), {HELD, HELD6})
    assert routes("vlan0") == before
    assert routes("lan0") == set()
    assert host.moves.pending() == ()


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("gateway", ["route", "onlink"])
def test_a_default_route_outside_the_addresses_network_moves_with_the_last_address(host: Host, gateway: str) -> None:
    """As hosts have it that get a /32 from their provider, and a link-local gateway."""
    single, onlink = "203.0.113.5/32", ["onlink"] if gateway == "onlink" else []
    ip("addr", "flush", "dev", "lan0", "scope", "global")
    ip("addr", "add", single, "dev", "lan0")
    ip("addr", "add", HELD6, "dev", "lan0", "nodad")
    if not onlink:
        ip("route", "add", "172.31.1.1", "dev", "lan0")
    ip("route", "add", "default", "via", "172.31.1.1", "dev", "lan0", *onlink)
    ip("-6", "route", "replace", "default", "via", "fe80::1", "dev", "lan0")
    before = routes("lan0")
    move_addresses(MoveAddresses(PF, Move("lan0", "vlan0", (single, HELD6))), host)
    assert (routes("lan0"), routes("vlan0")) == (set(), before)
    move_addresses(MoveAddresses(PF, Move("vlan0", "lan0", (single, HELD6), back=True)), host)
    assert (routes("lan0"), routes("vlan0")) == (before, set())


@pytest.mark.usefixtures("peer")
def test_a_route_moves_with_all_that_it_says(host: Host) -> None:
    for route in (
        f"10.1.0.0/16 via {GATEWAY} dev lan0 mtu lock 1400 rto_min 300ms initcwnd 20 congctl reno",
        f"10.2.0.0/16 via {GATEWAY} dev lan0 tos 0x10 quickack 1 features ecn",
        "10.3.0.0/16 via inet6 fe80::1 dev lan0",
        "local 203.0.113.0/24 dev lan0",
        f"2001:db8:77::/48 via {GATEWAY6} dev lan0 pref high hoplimit 9",
    ):
        ip("-6" if route.startswith("2001") else "-4", "route", "add", *route.split())
    before = routes("lan0") | local_routes("lan0")
    assert any("lock" in route and "reno" in route for route in before)
    move_addresses(step(), host)
    assert (routes("lan0") | local_routes("lan0"), routes("vlan0") | local_routes("vlan0")) == (set(), before)
    move_addresses(WAY_BACK, host)
    assert (routes("lan0") | local_routes("lan0"), routes("vlan0") | local_routes("vlan0")) == (before, set())


def local_routes(name: str) -> set[str]:
    lines = run("ip", "route", "show", "table", "local", "dev", name).splitlines()
    return {" ".join(line.split()) for line in lines if "kernel" not in line}


def in_full(name: str) -> list[dict[str, object]]:
    shown = json.loads(run("ip", "-json", "addr", "show", "dev", name))[0]["addr_info"]
    return sorted((entry for entry in shown if entry["scope"] != "link" or "peer" in str(entry)), key=str)


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("back", ["returned", "rolled back"])
def test_an_address_returns_as_it_was(host: Host, monkeypatch: pytest.MonkeyPatch, back: str) -> None:
    single, second = "203.0.113.5/32", "198.51.100.1/25"
    ip("addr", "add", "203.0.113.5", "peer", "172.31.1.1/32", "dev", "lan0", "label", "lan0:up", "metric", "50")
    ip("addr", "add", second, "dev", "lan0", "scope", "site", "broadcast", "198.51.100.99")
    ip("route", "add", "10.9.0.0/16", "via", "172.31.1.1", "dev", "lan0")
    before, its_routes = in_full("lan0"), routes("lan0")
    assert "lan0:up" in str(before)
    there = Move("lan0", "vlan0", (single, second, HELD6), "192.0.2.77" if back == "rolled back" else None)
    if back == "rolled back":
        monkeypatch.setattr("vfagent.reconcile.move_addresses.PROBE_S", 0.2)
        with pytest.raises(StepError, match="does not answer"):
            move_addresses(MoveAddresses(PF, there), host)
    else:
        move_addresses(MoveAddresses(PF, there), host)
        assert "peer 172.31.1.1/32 metric 50" in run("ip", "addr", "show", "dev", "vlan0")
        assert any("10.9.0.0/16" in route for route in routes("vlan0"))
        move_addresses(MoveAddresses(PF, Move("vlan0", "lan0", (single, second, HELD6), back=True)), host)
    assert (in_full("lan0"), routes("lan0"), held("vlan0")) == (before, its_routes, set())


@pytest.mark.usefixtures("peer")
def test_routes_stay_with_the_addresses_that_stay_and_with_the_router_that_advertised_them(host: Host) -> None:
    ip("addr", "add", "203.0.113.5/32", "dev", "lan0")
    ip("route", "add", "10.1.0.0/16", "dev", "lan0")
    ip("-6", "route", "add", "2001:db8:77::/48", "via", "fe80::1", "dev", "lan0", "proto", "ra")
    move_addresses(step(), host)
    assert {text.partition(" ")[0] for text in routes("lan0")} == {"10.1.0.0/16", "2001:db8:77::/48"}


def test_a_connection_survives_a_move_and_the_address_is_never_missing(peer: Peer, host: Host) -> None:
    connection = peer.connect()
    assert connection.recv(1000)
    with sampled(HERE) as gaps:
        move_addresses(step(), host)
        roll_back(RollBackMove(PF, Move("lan0", "vlan0", (HELD, HELD6))), host)
        move_addresses(step(), host)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert connection.recv(100_000)
    assert max(gaps, default=0.0) <= 0.05
    assert held("vlan0") == {HELD, HELD6}
    connection.close()


@pytest.mark.usefixtures("peer")
def test_peers_learn_the_new_mac_of_a_moved_address_at_once(host: Host) -> None:
    """Else they would send to the old MAC until their entry expires."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"", (GATEWAY, 9))
    wait_until_peer_has(link("lan0")["address"])
    move_addresses(step(), host)
    wait_until_peer_has(link("vlan0")["address"])
    move_addresses(WAY_BACK, host)
    wait_until_peer_has(link("lan0")["address"])


@pytest.mark.usefixtures("peer")
def test_peers_of_the_plan_learn_the_new_mac_although_the_source_lost_them(host: Host) -> None:
    """A bridge loses its neighbours with its last port, which is before the move."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"", (GATEWAY, 9))
    wait_until_peer_has(link("lan0")["address"])
    ip("neigh", "flush", "dev", "lan0")
    move_addresses(MoveAddresses(PF, Move("lan0", "vlan0", (HELD, HELD6), peers=(GATEWAY,))), host)
    wait_until_peer_has(link("vlan0")["address"])


@pytest.mark.usefixtures("peer")
def test_addresses_that_another_reconcile_has_moved_are_left_there(host: Host) -> None:
    move_addresses(step(), host)
    move_addresses(WAY_BACK, host)
    before = network.addresses()
    move_addresses(WAY_BACK, host)
    roll_back(RollBackMove(PF, Move("vlan0", "lan0", (HELD, HELD6))), host)
    assert network.addresses() == before
    assert held("lan0") == {HELD, HELD6}


@pytest.mark.usefixtures("peer")
def test_one_process_at_a_time_moves_addresses(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.store.move_journal._PATIENCE_S", 0.2)
    with host.moves.alone(), pytest.raises(StepError, match="another move has not ended"):
        move_addresses(step(), host)
    assert held("lan0") == {HELD, HELD6}


def wait_until_peer_has(mac: str) -> None:
    def neighbour() -> str:
        return run("ip", "-n", "peer", "neigh", "show", HERE)

    wait_until(lambda: mac in neighbour(), neighbour, within_s=2.0)


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("foreign_is_first", [True, False])
def test_a_route_of_another_interface_to_the_same_destination_stays(host: Host, *, foreign_is_first: bool) -> None:
    """The kernel's "replace" replaces the first one, whichever interface it is by."""
    add_veth("other", "far", up=True)
    ip("addr", "add", "198.18.0.1/24", "dev", "other")
    foreign, own = (["other", "2001:db8:9::1", "198.18.0.2"], ["lan0", HERE6, GATEWAY])
    for name, source, gateway in (foreign, own) if foreign_is_first else (own, foreign):
        ip("-6", "route", "append", "2001:db8:77::/48", "dev", name, *(["src", source] if name == "lan0" else []))
        ip("route", "append", "10.7.0.0/16", "via", gateway, "dev", name)
    before, others = routes("lan0"), routes("other")
    for _ in range(2):
        move_addresses(step(), host)
        assert (routes("lan0"), routes("vlan0"), routes("other")) == (set(), before, others)
        move_addresses(WAY_BACK, host)
        assert (routes("lan0"), routes("vlan0"), routes("other")) == (before, set(), others)


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("by_id", [True, False])
def test_an_address_on_which_a_multipath_route_depends_stays(host: Host, *, by_id: bool) -> None:
    ip("route", "del", "default", "metric", "100")
    if by_id:
        ip("nexthop", "add", "id", "7", "via", GATEWAY, "dev", "lan0")
        ip("nexthop", "add", "id", "8", "via", "192.0.2.253", "dev", "lan0")
        ip("nexthop", "add", "id", "9", "group", "7/8")
        ip("route", "add", "default", "nhid", "9")
    else:
        hops = (["nexthop", "via", gateway, "dev", "lan0"] for gateway in (GATEWAY, "192.0.2.253"))
        ip("route", "add", "default", *next(hops), *next(hops))
    with pytest.raises(StepError, match="the route default has several nexthops"):
        move_addresses(step(), host)
    assert (held("lan0"), held("vlan0"), host.moves.pending()) == ({HELD, HELD6}, set(), ())
    assert "nexthop" in run("ip", "route", "show", "default")


@pytest.mark.usefixtures("peer")
def test_an_address_on_which_a_route_depends_that_another_interface_would_change_stays(host: Host) -> None:
    ip("nexthop", "add", "id", "7", "via", GATEWAY, "dev", "lan0")
    ip("route", "add", "10.9.0.0/16", "nhid", "7")
    with pytest.raises(StepError, match=r"the route 10\.9\.0\.0/16 has a nexthop object"):
        move_addresses(step(), host)
    assert (held("lan0"), held("vlan0"), host.moves.pending()) == ({HELD, HELD6}, set(), ())


@pytest.mark.usefixtures("peer")
def test_no_address_moves_to_an_interface_that_is_down(host: Host) -> None:
    """Not even one without routes, with which the kernel would refuse it."""
    ip("link", "set", "vlan0", "down")
    ip("route", "flush", "dev", "lan0", "proto", "boot")
    with pytest.raises(StepError, match="vlan0 is down"):
        move_addresses(MoveAddresses(PF, Move("lan0", "vlan0", (HELD,))), host)
    assert (held("lan0"), held("vlan0"), host.moves.pending()) == ({HELD, HELD6}, set(), ())


@pytest.mark.usefixtures("peer")
def test_an_answered_probe_completes_the_move(host: Host) -> None:
    move_addresses(step(GATEWAY), host)
    assert held("vlan0") == {HELD, HELD6}


@pytest.mark.usefixtures("peer")
def test_a_probe_without_an_answer_rolls_the_move_back_and_reports_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.reconcile.move_addresses.PROBE_S", 0.5)
    before = routes("lan0")
    with pytest.raises(StepError, match=r"192\.0\.2\.77 does not answer by vlan0; they are back where they were"):
        move_addresses(step("192.0.2.77"), host)
    assert (held("lan0"), held("vlan0")) == ({HELD, HELD6}, set())
    assert routes("lan0") == before
    assert host.moves.pending() == ()


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("promote", ["0", "1"])
def test_an_address_that_is_not_moved_stays(host: Host, promote: str) -> None:
    """Without promote_secondaries the kernel removes secondary addresses with the first of their network."""
    Path("/proc/sys/net/ipv4/conf/lan0/promote_secondaries").write_text(promote)
    ip("addr", "add", "192.0.2.5/24", "dev", "lan0")
    ip("route", "add", "10.1.0.0/16", "dev", "lan0", "src", "192.0.2.5")
    move_addresses(step(), host)
    assert held("lan0") == {"192.0.2.5/24"}
    assert routes("lan0") == {"10.1.0.0/16 scope link src 192.0.2.5"}


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize(
    ("place", "what"), [("run", "its lock cannot be made"), ("var", "its journal cannot be written")]
)
def test_without_its_journal_nothing_is_moved(host: Host, tmp_path: Path, place: str, what: str) -> None:
    (tmp_path / place).write_text("no folder")
    with pytest.raises(StepError, match=what):
        move_addresses(step(), host)
    assert held("lan0") == {HELD, HELD6}


class Killed(BaseException):
    """As SIGKILL: nothing may be rolled back."""


class KilledAfter:
    """The real network, until a number of changes."""

    def __init__(self, real: Any, left: list[int]) -> None:
        self._real, self._left = real, left

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name in ("link", "addresses", "by", "pending", "answers", "neighbours", "ask_for", "alone", "borrowed"):
            return method

        def counted(*args: object, **kwargs: object) -> object:
            if self._left[0] == 0:
                raise Killed
            self._left[0] -= 1
            return method(*args, **kwargs)

        return counted


def killed_after(changes: int, host: Host) -> bool:
    left = [changes]
    network, routes, moves = (KilledAfter(real, left) for real in (host.network, host.routes, host.moves))
    with suppress(Killed):
        move_addresses(step(), replace(host, network=network, routes=routes, moves=moves))
        return False
    return True


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("still_wanted", [True, False], ids=["goes on", "goes back"])
def test_a_move_killed_at_any_change_is_completed_or_rolled_back(host: Host, *, still_wanted: bool) -> None:
    before, changes = routes("lan0"), 0
    while killed_after(changes, host):
        assert held("lan0") | held("vlan0") == {HELD, HELD6}, changes
        if still_wanted:
            move_addresses(step(), host)
        for move in host.moves.pending():
            roll_back(RollBackMove(PF, move), host)
        here, there = ("vlan0", "lan0") if still_wanted else ("lan0", "vlan0")
        assert (held(here), held(there)) == ({HELD, HELD6}, set()), changes
        assert routes(here) == before, changes
        assert host.moves.pending() == ()
        move_addresses(WAY_BACK, host)
        changes += 1
    assert changes >= 6
