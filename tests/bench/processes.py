# SPDX-License-Identifier: Apache-2.0
"""CPU time, memory and connections of a process, from /proc."""

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Of a process, and of its children that have ended."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> float:
    """Of a process and its children. Proportional: what forked workers share with it counts once."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(_pss_kib, (pid, *map(int, children)))) / 1024


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def connections(pid: int) -> int:
    """TCP connections of the process's network namespace that are open."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] not in ("0A", "06") for row in rows)  # LISTEN, TIME_WAIT
