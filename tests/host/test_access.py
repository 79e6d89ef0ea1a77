# SPDX-License-Identifier: Apache-2.0
"""The interfaces by which the host is administered, with real routes and connections."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.namespace import add_veth, ip
from vfagent.kernel import management as management_module
from vfagent.kernel import socket_diag
from vfagent.kernel.management import IncompleteError, management, sessions

ROOT = Path("/")
DEFAULT, SESSION = "carries the default route", "carries an SSH session"


@pytest.fixture
def veth(kernel: None) -> int:
    return add_veth("pf0", "wire0", up=True)


@pytest.fixture
def other(veth: int) -> int:
    return add_veth("pf1", "wire1", up=True)


@pytest.fixture
def route(veth: int) -> int:
    ip("addr", "add", "10.0.0.2/24", "dev", "pf0")
    ip("route", "add", "default", "via", "10.0.0.1")
    return veth


def test_a_blackhole_route_does_not_hide_the_default_route(route: int) -> None:
    ip("route", "add", "blackhole", "192.0.2.0/24")
    assert management(ROOT) == {route: DEFAULT}


def test_bogon_routes_do_not_hide_the_default_route(route: int) -> None:
    for bogon, kind in (("192.0.2.0/24", "blackhole"), ("198.51.100.0/24", "unreachable"), ("203.0.113.0/24", "throw")):
        ip("route", "add", kind, bogon)
    assert management(ROOT) == {route: DEFAULT}


def test_an_unreachable_default_route_has_no_link(veth: int) -> None:
    ip("route", "add", "unreachable", "default")
    ip("-6", "route", "add", "blackhole", "default")
    assert management(ROOT) == {}


def test_a_route_to_one_network_is_no_default_route(veth: int) -> None:
    ip("addr", "add", "192.0.2.9/24", "dev", "pf0")
    assert management(ROOT) == {}


def test_two_half_default_routes_count_as_one(route: int, other: int) -> None:
    """VPNs set them beside the existing default route."""
    ip("addr", "add", "10.1.0.2/24", "dev", "pf1")
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        ip("route", "add", half, "via", "10.1.0.1")
    assert management(ROOT)[other] == DEFAULT


def test_each_nexthop_of_a_default_route_names_its_link(veth: int, other: int) -> None:
    ip("addr", "add", "10.0.0.2/24", "dev", "pf0")
    ip("addr", "add", "10.1.0.2/24", "dev", "pf1")
    ip("route", "add", "default", "nexthop", "via", "10.0.0.1", "nexthop", "via", "10.1.0.1")
    assert management(ROOT) == {veth: DEFAULT, other: DEFAULT}


def test_each_nexthop_of_an_ipv6_default_route_names_its_link(veth: int, other: int) -> None:
    ip("addr", "add", "2001:db8:5::2/64", "dev", "pf0", "nodad")
    ip("addr", "add", "2001:db8:6::2/64", "dev", "pf1", "nodad")
    ip("-6", "route", "add", "default", "nexthop", "via", "2001:db8:5::1", "nexthop", "via", "2001:db8:6::1")
    assert management(ROOT) == {veth: DEFAULT, other: DEFAULT}


@pytest.mark.parametrize("compatible", ["0", "1"])
def test_a_default_route_by_a_nexthop_object_names_its_link(veth: int, compatible: str) -> None:
    Path("/proc/sys/net/ipv4/nexthop_compat_mode").write_text(compatible)
    ip("addr", "add", "10.0.0.2/24", "dev", "pf0")
    ip("nexthop", "add", "id", "7", "via", "10.0.0.1", "dev", "pf0")
    ip("route", "add", "default", "nhid", "7")
    assert management(ROOT) == {veth: DEFAULT}


# The peer of a veth, in its own network namespace.
CLIENT = """
import socket, subprocess, sys
wire, address, local, port = sys.argv[1:]
print("here", flush=True)
sys.stdin.readline()
subprocess.run(["ip", "addr", "add", address, "dev", wire, *(["nodad"] if ":" in address else [])], check=True)
subprocess.run(["ip", "link", "set", wire, "up"], check=True)
if ":" in local:
    client = socket.socket(socket.AF_INET6)
    scope = socket.if_nametoindex(wire) if local.startswith("fe80") else 0
    client.connect((local, int(port), 0, scope))
else:
    client = socket.create_connection((local, int(port)))
sys.stdin.readline()
"""


@contextmanager
def session(wire: str, peer: str, local: str, port: int = 22) -> Iterator[None]:
    """A connection from `peer` to a local port."""
    listener = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET)
    argv = ["unshare", "--net", sys.executable, "-c", CLIENT, wire, peer, local, str(port)]
    with listener, subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        listener.bind(("::" if ":" in local else "", port))
        listener.listen()
        assert client.stdout.readline() == "here\n"
        ip("link", "set", wire, "netns", str(client.pid))
        client.stdin.write("\n")
        client.stdin.flush()
        accepted, _ = listener.accept()
        with accepted:
            yield
        client.stdin.close()


def test_an_open_session_names_its_link(route: int, other: int) -> None:
    """The service has no SSH_CONNECTION."""
    ip("addr", "add", "10.7.0.2/24", "dev", "pf1")
    with session("wire1", "10.7.0.99/24", "10.7.0.2"):
        assert management(ROOT) == {route: DEFAULT, other: SESSION}
    with session("wire0", "10.0.0.99/24", "10.0.0.2", port=2222):
        assert management(ROOT) == {route: DEFAULT}


def test_a_session_by_ipv6_names_its_link(route: int, other: int) -> None:
    ip("addr", "add", "2001:db8:7::2/64", "dev", "pf1", "nodad")
    with session("wire1", "2001:db8:7::99/64", "2001:db8:7::2"):
        assert management(ROOT) == {route: DEFAULT, other: SESSION}


def test_a_session_by_link_local_addresses_names_its_link(veth: int, other: int) -> None:
    ip("addr", "add", "fe80::77/64", "dev", "pf1", "nodad")
    with session("wire1", "fe80::99/64", "fe80::77"):
        assert management(ROOT) == {other: SESSION}


def test_a_session_routed_by_its_source_names_that_link(route: int, other: int) -> None:
    ip("addr", "add", "10.7.0.2/24", "dev", "pf1", "noprefixroute")
    ip("route", "add", "10.7.0.0/24", "dev", "pf1", "table", "7")
    ip("rule", "add", "from", "10.7.0.2", "table", "7")
    with session("wire1", "10.7.0.99/24", "10.7.0.2"):
        assert management(ROOT) == {route: DEFAULT, other: SESSION}


def test_a_session_from_the_host_itself_has_no_link(veth: int) -> None:
    ip("link", "set", "lo", "up")
    ip("addr", "add", "10.7.0.2/24", "dev", "pf0")
    with socket.socket() as listener:
        listener.bind(("", 22))
        listener.listen()
        with socket.create_connection(("10.7.0.2", 22)):
            assert management(ROOT) == {}


def short_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host with more connections than are read: of /proc/net/tcp, only the head."""
    monkeypatch.setattr(management_module, "_MOST_BYTES", len(HEAD))


def test_a_session_is_found_whatever_the_size_of_the_table(
    route: int, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_tables(monkeypatch)
    ip("addr", "add", "10.7.0.2/24", "dev", "pf1")
    with session("wire1", "10.7.0.99/24", "10.7.0.2"):
        assert management(ROOT) == {route: DEFAULT, other: SESSION}


def test_a_session_among_thousands_of_other_connections_is_found(route: int, other: int) -> None:
    ip("link", "set", "lo", "up")
    ip("addr", "add", "10.7.0.2/24", "dev", "pf1")
    with socket.create_server(("127.0.0.1", 443), backlog=4096) as listener:
        busy = [(socket.create_connection(("127.0.0.1", 443)), listener.accept()[0]) for _ in range(2000)]
        with session("wire1", "10.7.0.99/24", "10.7.0.2"):
            assert management(ROOT) == {route: DEFAULT, other: SESSION}
        for pair in busy:
            for end in pair:
                end.close()


@pytest.mark.parametrize("refusal", [OSError(2, "no tcp_diag"), TimeoutError()])
def test_each_interface_is_management_while_connections_cannot_be_read_whole(
    route: int, other: int, monkeypatch: pytest.MonkeyPatch, refusal: OSError
) -> None:
    def refuse(port: int, until: float) -> Iterator[tuple[bytes, bytes]]:
        raise refusal

    monkeypatch.setattr(socket_diag, "established", refuse)
    short_tables(monkeypatch)
    reasons = dict(management(ROOT))
    assert reasons.pop(route) == DEFAULT
    assert reasons.pop(other) == "may carry an SSH session: not all connections could be read"
    assert set(reasons) == {number for number, _ in socket.if_nameindex()} - {route, other}


def test_more_sessions_than_have_room_make_each_interface_management(
    route: int, other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def many(port: int, until: float) -> Iterator[tuple[bytes, bytes]]:
        return ((bytes(4), number.to_bytes(4, "big")) for number in range(2000))

    monkeypatch.setattr(socket_diag, "established", many)
    assert management(ROOT)[other] == "may carry an SSH session: not all connections could be read"


def test_without_tcp_diag_the_kernels_tables_are_read(route: int, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(port: int, until: float) -> Iterator[tuple[bytes, bytes]]:
        raise OSError(2, "no tcp_diag")

    monkeypatch.setattr(socket_diag, "established", missing)
    ip("addr", "add", "10.7.0.2/24", "dev", "pf1")
    with session("wire1", "10.7.0.99/24", "10.7.0.2"):
        assert management(ROOT) == {route: DEFAULT, other: SESSION}


# Tables of connections as the kernel prints them.

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def word(address: str) -> str:
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}"


def line(number: int, port: int, peer: str, state: str = "01") -> str:
    rest = "00000000:00000000 02:000A7D5E 00000000     0        0 20913 2 0000000000000000 20 4 30 10 -1"
    return f"{number:4d}: {word('10.0.0.2')}:{port:04X} {peer}:C350 {state} {rest}\n"


def connections(root: Path, tcp: str = "", tcp6: str = "") -> Path:
    folder = root / "proc/self/net"
    folder.mkdir(parents=True)
    (folder / "tcp").write_text(HEAD + tcp)
    (folder / "tcp6").write_text(HEAD + tcp6)
    return root


def peers(root: Path) -> list[str]:
    return [
        socket.inet_ntop(socket.AF_INET if len(session.peer) == 4 else socket.AF_INET6, session.peer)
        for session in sessions(root)
    ]


def test_only_open_sessions_to_sshd_count(tmp_path: Path) -> None:
    table = line(0, 22, word("0.0.0.0"), "0A") + line(1, 22, word("10.0.0.7")) + line(2, 80, word("10.0.0.8"))
    table += line(3, 22, word("10.0.0.9"), "06") + line(4, 22, word("10.0.0.7"))
    assert peers(connections(tmp_path, table)) == ["10.0.0.7"]


def test_an_ipv4_session_of_an_ipv6_socket_counts(tmp_path: Path) -> None:
    mapped = "0" * 16 + f"{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}" + word("10.0.0.7")
    assert peers(connections(tmp_path, tcp6=line(0, 22, mapped))) == ["10.0.0.7"]


def test_the_configured_ports_of_sshd_count(tmp_path: Path) -> None:
    """Those of drop-ins too, which distributions' tools write."""
    connections(
        tmp_path, line(0, 2222, word("10.0.0.7")) + line(1, 2223, word("10.0.0.8")) + line(2, 24, word("10.0.0.9"))
    )
    (tmp_path / "etc/ssh/sshd_config.d").mkdir(parents=True)
    (tmp_path / "etc/ssh/sshd_config").write_text("#Port 24\nPort 2222\nPermitRootLogin no\n")
    (tmp_path / "etc/ssh/sshd_config.d/10-port.conf").write_text(" port=2223\n")
    assert peers(tmp_path) == ["10.0.0.7", "10.0.0.8"]


def test_the_commands_own_session_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connections(tmp_path, line(0, 2222, word("10.0.0.7")))
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.5 51000 10.0.0.2 2222")
    assert peers(tmp_path) == ["10.0.0.5", "10.0.0.7"]
    monkeypatch.setenv("SSH_CONNECTION", "UNKNOWN 65535 UNKNOWN 65535")
    assert peers(tmp_path) == []


def test_tens_of_thousands_of_connections_take_little_time(tmp_path: Path) -> None:
    """At most 1,024 route lookups, and other lines are not parsed: in the time of splitting all lines ten times."""
    busy = "".join(line(number, 443, f"{number:08X}") for number in range(20_000))
    many = "".join(line(number, 22, f"{number:08X}") for number in range(20_000))
    root = connections(tmp_path, busy, many)
    began = os.times().user
    split = [text.split() for text in (busy + many).splitlines() for _ in range(10)]
    limit_s, began = os.times().user - began, os.times().user
    with pytest.raises(IncompleteError):
        sessions(root)
    assert os.times().user - began < limit_s
    assert split


def test_a_host_without_these_files_has_no_sessions(tmp_path: Path) -> None:
    assert sessions(tmp_path) == ()
