# SPDX-License-Identifier: Apache-2.0
"""`status --watch` on a terminal: the last status as a screen, redrawn as it changes."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vfagent.cli.screen import Terminal, screen
from vfagent.frozen import frozen
from vfagent.model.status import Status

_EVERY_S = 1.0
_ALTERNATE_SCREEN, _FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # without a cursor
_HOME, _END_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


@frozen(slots=True)
class Source:
    """The status, whether the service runs, and a remark on the policy on disk."""

    read: Callable[[], Status | None]
    alive: Callable[[], bool]
    remark: Callable[[Status], str | None]


def watch(file: Path, source: Source, out: TextIO, *, colour: bool) -> None:
    """Until interrupted, also while the service is stopped. `file` is read each time it has been replaced."""
    status, seen = None, None
    with _alternate_screen(out):
        while True:
            if (stamp := _stamp(file)) != seen:
                status, seen = source.read() or status, stamp
            remark = source.remark(status) if status else None
            out.write(_draw(status, remark, colour=colour, running=stamp is not None and source.alive()))
            out.flush()
            time.sleep(_EVERY_S)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        info = file.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns


def _draw(status: Status | None, remark: str | None, *, colour: bool, running: bool) -> str:
    """Written over the old screen: clearing it first would flicker."""
    size = shutil.get_terminal_size()
    terminal = Terminal(size.columns, size.lines - (not running), colour, time.monotonic())
    lines = screen(status, terminal, remark) if status else []
    if not running:
        lines.insert(0, "the service is not running (systemctl start vfagent)"[: size.columns])
    return _HOME + "".join(f"{line}{_END_OF_LINE}\r\n" for line in lines) + _REST


@contextmanager
def _alternate_screen(out: TextIO) -> Iterator[None]:
    """The terminal's alternate screen; the first one comes back at the end, also after SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    out.write(_ALTERNATE_SCREEN)
    try:
        yield
    finally:
        out.write(_FIRST_SCREEN)
        out.flush()
        signal.signal(signal.SIGTERM, before)
