# SPDX-License-Identifier: Apache-2.0
"""`vfagent guest console`: a guest's serial console on this terminal.

QEMU listens on a socket in a folder that only root and the guest's user can enter.
"""

import contextlib
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.guests.spec.qemu import console_socket, runtime_folder
from vfagent.store.locks import take_lock

_ESCAPE = b"\x1d"  # ^], as of virsh, machinectl and telnet
_CONNECT_S = 5.0
_MOST_UNSENT = 1 << 16
_CREDENTIALS = struct.Struct("=iII")


def console(root: Path, name: str) -> int:
    folder = root / runtime_folder(name).lstrip("/")
    try:
        if not folder.is_dir():
            hint = f"vfagent guest status {name}"
            raise VfagentError(f"guest {name}: cannot open its console: it does not run", hint=hint)
        lock = take_lock(folder)
        guest = _connected(root / console_socket(name).lstrip("/"), folder)
    except BlockingIOError as error:
        text = f"guest {name}: cannot open its console: another vfagent guest console has it open"
        raise VfagentError(text, hint="end that one with ^]") from error
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else "a guest has one from its next start on"
        text = f"guest {name}: cannot open its console: {error.strerror or error}"
        raise VfagentError(text, hint=hint) from error
    with guest, _raw_terminal():
        size = shutil.get_terminal_size()
        _say(f"guest {name}: ^] ends this console; in the guest: stty rows {size.lines} columns {size.columns}")
        ended = _relay(guest)
    _say(f"guest {name}: {'it has ended, or closed its console' if ended else 'the console is closed, it runs on'}")
    os.close(lock)
    return Exit.OK


def _connected(path: Path, folder: Path) -> socket.socket:
    """Only to the guest's own QEMU: who has broken out into it can put a link to another socket in its place."""
    guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        guest.settimeout(_CONNECT_S)
        guest.connect(str(path))
        peer = _CREDENTIALS.unpack(guest.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if peer[1] != (owner := folder.stat().st_uid):
            raise OSError(f"user {peer[1]} listens there, and the guest's user is {owner}")
        guest.settimeout(0)
    except OSError:
        guest.close()
        raise
    return guest


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Standard input as it was at the end, also after SIGTERM and where the terminal hangs up."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        modes = termios.tcgetattr(0)
    except termios.error:  # not a terminal
        modes = None
    try:
        if modes:
            tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        if modes:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, modes)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _say(text: str) -> None:
    print(f"\r{text}\r", file=sys.stderr, flush=True)


def _relay(guest: socket.socket) -> bool:
    """Until the escape, or the end of the guest: then True. What the guest does not read is dropped, as a UART does."""
    unsent = b""
    with selectors.DefaultSelector() as ready:
        ready.register(guest, selectors.EVENT_READ)
        with contextlib.suppress(PermissionError):  # epoll takes no regular file: it has its end at once
            ready.register(0, selectors.EVENT_READ)
        while True:
            ready.modify(guest, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
            for key, events in ready.select():
                if key.fd == 0:
                    typed = os.read(0, 4096)
                    before, escape, _ = typed.partition(_ESCAPE)
                    unsent = (unsent + before)[:_MOST_UNSENT]
                    if escape:
                        _send(guest, unsent)
                        return False
                    if not typed:
                        ready.unregister(0)
                elif events & selectors.EVENT_WRITE:
                    unsent = _send(guest, unsent)
                elif not _print(guest):
                    return True


def _send(guest: socket.socket, data: bytes) -> bytes:
    """What is left."""
    try:
        return data[guest.send(data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""  # it has ended, which the next read shows


def _print(guest: socket.socket) -> bool:
    try:
        data = guest.recv(1 << 16)
    except OSError:
        return False
    printed = 0
    while printed < len(data):
        printed += os.write(1, data[printed:])
    return bool(data)
