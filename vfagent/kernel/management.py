# SPDX-License-Identifier: Apache-2.0
"""The interfaces by which the host is administered: those of its default routes, and of open SSH sessions."""

import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vfagent.frozen import frozen
from vfagent.kernel import socket_diag
from vfagent.kernel.rooted import read_regular
from vfagent.kernel.route_lookup import RouteLookup, Way
from vfagent.model.network import ADVERTISED_ROUTE, DEFAULT_ROUTE

# For route lookups; nothing is sent to them. Several: a host may have another route to one, or a bogon filter for it.
# RFC 5737 and RFC 3849, and one address in each of some large blocks.
_FAR_AWAY = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "9.0.0.1", "73.0.0.1", "141.0.0.1")
_FAR_AWAY_6 = ("2001:db8::1", "2400::1", "2600::1", "2a00::1")
# The longest prefix that is still a default route: IPv6's global addresses are 2000::/3.
_DEFAULT_BITS = 3

# /proc/net is a symbolic link to this, and missing under ProcSubset=pid.
_NET = "proc/self/net"
_SSHD = "etc/ssh/sshd_config"
_MOST_BYTES = 1 << 24  # 100,000 connections
_MOST_SESSIONS = 1024
_WITHIN_S = 5.0
_UNCERTAIN = "may carry an SSH session: not all connections could be read"
_PORT = re.compile(r"^\s*Port[\s=]+\"?(\d+)", re.MULTILINE | re.IGNORECASE)
_MAPPED = bytes(10) + b"\xff\xff"


@frozen(slots=True)
class Session:
    """A TCP connection: its addresses as bytes."""

    local: bytes
    peer: bytes


class IncompleteError(Exception):
    """There are more connections than can be read."""


def management(root: Path) -> Mapping[int, str]:
    """The interfaces by which the host is administered, each with the reason."""
    with RouteLookup() as lookup:
        routes = list(_default_routes(lookup))
        by_session = _by_session(lookup, root)
    advertised = {ifindex: ADVERTISED_ROUTE for route in routes if route.advertised for ifindex in route.ifindexes}
    default = {ifindex: DEFAULT_ROUTE for route in routes if not route.advertised for ifindex in route.ifindexes}
    return advertised | by_session | default


def _by_session(lookup: RouteLookup, root: Path) -> dict[int, str]:
    try:
        open_sessions = sessions(root)
    except IncompleteError:
        return {ifindex: _UNCERTAIN for ifindex, _ in socket.if_nameindex()}
    ways = (_interfaces(lookup, session, root) for session in open_sessions)
    return {ifindex: "carries an SSH session" for way in ways for ifindex in way}


def _default_routes(lookup: RouteLookup) -> Iterator[Way]:
    far = [socket.inet_pton(socket.AF_INET, text) for text in _FAR_AWAY]
    far += [socket.inet_pton(socket.AF_INET6, text) for text in _FAR_AWAY_6]
    return (way for address in far if (way := lookup.way(address)).prefix_length <= _DEFAULT_BITS)


def _interfaces(lookup: RouteLookup, session: Session, root: Path) -> frozenset[int]:
    if _link_local(session.peer):
        # Every link has a route to fe80::/64. /proc/net/tcp6 has no interface, but the local address is on one.
        return _address_owners(root, session.local)
    by_source = lookup.way(session.peer, session.local).ifindexes if session.local else frozenset[int]()
    return by_source or lookup.way(session.peer).ifindexes


def _link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _address_owners(root: Path, address: bytes) -> frozenset[int]:
    lines = (line.split() for line in _text(root, root / _NET / "if_inet6").splitlines())
    return frozenset(int(words[1], 16) for words in lines if len(words) > 1 and words[0] == address.hex())


def sessions(root: Path) -> tuple[Session, ...]:
    """The open SSH sessions, one for each peer. A service has no SSH_CONNECTION, and sudo drops it.

    Raises IncompleteError.
    """
    own_peers, own_ports = _own_session()
    ports = {22, *_configured_ports(root), *own_ports}
    by_peer = {peer: Session(b"", peer) for peer in own_peers}
    for session in _of_kernel(ports) if root == Path("/") else _of_tables(root, ports):
        by_peer[session.peer] = session
        if len(by_peer) > _MOST_SESSIONS:
            raise IncompleteError
    return tuple(by_peer.values())


def _of_kernel(ports: Iterable[int]) -> Iterator[Session]:
    until = time.monotonic() + _WITHIN_S
    try:
        pairs = [pair for port in sorted(ports) for pair in socket_diag.established(port, until)]
    except TimeoutError:
        raise IncompleteError from None
    except OSError:  # a kernel without tcp_diag
        if not (Path("/") / _NET / "tcp").exists():
            raise IncompleteError from None
        yield from _of_tables(Path("/"), ports)
    else:
        yield from (Session(_plain(local), _plain(peer)) for local, peer in pairs)


def _of_tables(root: Path, ports: Iterable[int]) -> Iterator[Session]:
    pattern = "|".join(f"{port:04X}" for port in sorted(ports))
    for name in ("tcp", "tcp6"):
        table = _text(root, root / _NET / name)
        if len(table) >= _MOST_BYTES:
            raise IncompleteError
        yield from _established(table, pattern)


def _own_session() -> tuple[list[bytes], list[int]]:
    """The peer of this process's own session and the port of its sshd, where it has one."""
    try:
        peer, _, _, port = os.environ.get("SSH_CONNECTION", "").split()
        return [_address(peer)], [int(port)]
    except (OSError, ValueError):
        return [], []  # no session, or one through a pipe, for which sshd sets UNKNOWN


def _configured_ports(root: Path) -> Iterator[int]:
    parts = sorted((root / f"{_SSHD}.d").glob("*.conf"))
    for path in (root / _SSHD, *parts):
        yield from (int(port) for port in _PORT.findall(_text(root, path)))


def _established(table: str, ports: str) -> Iterator[Session]:
    """The sessions in /proc/net/tcp: number, local address, peer, state (01 is TCP_ESTABLISHED)."""
    line = re.compile(rf"^ *\d+: ([0-9A-F]+):(?:{ports}) ([0-9A-F]+):[0-9A-F]{{4}} 01 ", re.MULTILINE)
    for match in line.finditer(table):
        yield Session(_table_address(match[1]), _table_address(match[2]))


def _table_address(text: str) -> bytes:
    """The kernel prints each 32-bit word as a number in host byte order."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    return _plain(b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words))


def _address(text: str) -> bytes:
    text = text.partition("%")[0]
    return _plain(socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text))


def _plain(address: bytes) -> bytes:
    """The IPv4 address in an IPv4-mapped one (RFC 4291), as an IPv6 socket has it."""
    return address[12:] if address.startswith(_MAPPED) else address


def _text(root: Path, path: Path) -> str:
    """The file's text, "" where it cannot be read."""
    try:
        return read_regular(root, path, _MOST_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
