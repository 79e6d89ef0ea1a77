# SPDX-License-Identifier: Apache-2.0
"""This process's own memory: no more pages than it uses, and free ones returned to the kernel."""

import contextlib
import ctypes
import gc
from functools import cache

_PR_SET_THP_DISABLE = 41  # linux/prctl.h


@cache
def _libc() -> ctypes.CDLL:
    """Made once: each CDLL is a class of its own, which only the garbage collector frees."""
    return ctypes.CDLL(None)


def small_pages() -> None:
    """No transparent huge pages for this process and its children. With `always`, the default of Debian's kernels,
    khugepaged merges 2 MiB that are half used some minutes after the start, and the other half becomes resident too.
    """
    with contextlib.suppress(AttributeError):
        _libc().prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def give_back() -> None:
    """Return free memory to the kernel, in less than a millisecond. By itself glibc keeps what is below the topmost
    block in use (malloc_trim(3)): without this, nothing of 16 MB that clients used (2026-12-01; a test shows it).
    """
    with contextlib.suppress(AttributeError):  # a libc without this call
        _libc().malloc_trim(0)


def collect() -> None:
    """Free what Python keeps until a full collection. That takes five microseconds for each VF of the host.

    It keeps up to 2,000 freed tuples of each length (Objects/tupleobject.c). tuple(generator) frees other lengths than
    it allocates, so these free lists grow for hours; and only garbage makes the collector run by itself.
    """
    gc.unfreeze()
    gc.collect()


def share() -> None:
    """Before a fork, in microseconds: until `collect`, a collection does not write to what there is now, so that the
    child shares these pages for as long as it runs.
    """
    gc.freeze()
