# SPDX-License-Identifier: Apache-2.0
"""Our own memory: no more pages than are used, and what is free back to the kernel."""

import contextlib
import ctypes
import gc
from functools import cache

_PR_SET_THP_DISABLE = 41  # linux/prctl.h


@cache
def _libc() -> ctypes.CDLL:
    """One for all time: each is a class of its own, which only the garbage collector frees."""
    return ctypes.CDLL(None)


def small_pages() -> None:
    """Of this process and its children. Where all get huge pages (`always`, as Debian's kernels have it), khugepaged
    makes one of 2 MiB that are half used some minutes after the start, and the other half is resident too.
    """
    with contextlib.suppress(AttributeError):
        _libc().prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def give_back() -> None:
    """Costs a fraction of a millisecond. glibc by itself keeps all below the topmost block in use (malloc_trim(3))."""
    with contextlib.suppress(AttributeError):  # another libc, which has no such call
        _libc().malloc_trim(0)


def collect() -> None:
    """Free what Python keeps until a full collection; costs five microseconds for each VF of the host.

    That is up to 2,000 freed tuples of each length (Objects/tupleobject.c). tuple(generator) frees into other lengths
    than it takes from, so that these stocks grow for hours; and the collector begins by itself only for garbage.
    """
    gc.collect()
