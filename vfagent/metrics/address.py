# SPDX-License-Identifier: Apache-2.0
"""The listening socket of the address in the policy."""

import contextlib
import errno
import os
import socket
import stat

from vfagent.errors import VfagentError, errno_text

_QUEUE = 1024
_RECEIVE_BUFFER = 1 << 14  # bytes that the kernel keeps for us; a request is shorter (http.LONGEST_HEAD)
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78


def listen(where: str) -> socket.socket:
    """Raises VfagentError."""
    try:
        if where.startswith("unix:"):
            return _listen_at_path(where.removeprefix("unix:"))
        host, _, port = where.rpartition(":")
        return _listen_at_port("127.0.0.1" if host == "localhost" else host.strip("[]"), int(port))
    except OSError as error:
        text = f"metrics: cannot listen on {where}: {errno_text(error.errno or 0)}"
        raise VfagentError(text, hint=_hint(error.errno, where)) from error


def _hint(number: int | None, where: str) -> str | None:
    port = where.rpartition(":")[2]
    match number:
        case errno.EADDRINUSE if where.startswith("unix:"):
            return "another program listens there"
        case errno.EADDRINUSE:
            return f"another program listens there; `ss -ltnp sport = :{port}` names it; a reload retries"
        case errno.EACCES | errno.EPERM if not where.startswith("unix:"):
            return "a port below 1024 requires CAP_NET_BIND_SERVICE, which the service does not have"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "the service can write below /run/vfagent; elsewhere it needs ReadWritePaths= in a drop-in"
    return None


def _listen_at_port(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = _socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The service starts before the network: the address may not be configured yet.
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((host, port))
        listener.listen(_QUEUE)
    except OSError:
        listener.close()
        raise
    return listener


def is_loopback(listener: socket.socket) -> bool:
    if listener.family == socket.AF_UNIX:
        return False
    host = str(listener.getsockname()[0])
    return host == "::1" or host.startswith("127.")


def _socket(family: int) -> socket.socket:
    """Accepted sockets inherit the size: asyncio reads up to 256 KiB at once, and the kernel's default is 128 KiB."""
    new = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return new


def _listen_at_path(path: str) -> socket.socket:
    listener = _socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        listener.bind(path)
        os.chmod(path, 0o660)  # the group of its folder may connect; a umask can only remove permissions
        listener.listen(_QUEUE)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """A socket without a listener was left by a killed agent. Anything else belongs to another program."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "not a socket", path)
        with _socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def remove_path(listener: socket.socket) -> None:
    """Remove the path of a Unix socket, before it is closed."""
    if listener.family == socket.AF_UNIX and (path := listener.getsockname()):
        with contextlib.suppress(OSError):
            os.unlink(path)
