# SPDX-License-Identifier: Apache-2.0
"""`status --watch` on a terminal: the screen of the last status, drawn again as it changes."""

import os
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
_OTHER_SCREEN, _FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # and no cursor on it
_HOME, _END_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


@frozen(slots=True)
class Source:
    """What is shown: the status, whether the service runs, and what is to be said beside the status."""

    read: Callable[[], Status | None]
    alive: Callable[[], bool]
    remark: Callable[[Status], str | None]


def watch(file: Path, source: Source, out: TextIO) -> None:
    """Until interrupted; a service that stops is waited for. `file` is read when it has been replaced."""
    status, seen = None, None
    with _screen_of_its_own(out):
        while True:
            if (found := _stamp(file)) != seen:
                status, seen = source.read() or status, found
            remark = source.remark(status) if status else None
            out.write(_drawn(status, remark, running=found is not None and source.alive()))
            out.flush()
            time.sleep(_EVERY_S)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _drawn(status: Status | None, remark: str | None, *, running: bool) -> str:
    """Over what is there: a screen that is cleared first flickers."""
    size = shutil.get_terminal_size()
    terminal = Terminal(size.columns, size.lines - (not running), not os.environ.get("NO_COLOR"), time.monotonic())
    lines = screen(status, terminal, remark) if status else []
    if not running:
        lines.insert(0, "the service is not running (systemctl start vfagent)"[: size.columns])
    return _HOME + "".join(f"{line}{_END_OF_LINE}\r\n" for line in lines) + _REST


@contextmanager
def _screen_of_its_own(out: TextIO) -> Iterator[None]:
    """What was on the terminal is there again afterwards, also after SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    out.write(_OTHER_SCREEN)
    try:
        yield
    finally:
        out.write(_FIRST_SCREEN)
        out.flush()
        signal.signal(signal.SIGTERM, before)
