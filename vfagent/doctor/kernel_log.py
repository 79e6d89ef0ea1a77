# SPDX-License-Identifier: Apache-2.0
"""The kernel's log since boot: from its ring buffer, or from the journal where that has forgotten the beginning."""

import os
from collections.abc import Iterator
from pathlib import Path

from vfagent.store.host_files import HostFiles

_RECORD = 8192  # the kernel refuses a read that its record does not fit into
_RECORDED = ("var/log/dmesg", "var/log/kern.log")


def kernel_log(root: Path = Path("/")) -> tuple[str, ...]:
    """Lines, oldest first. Raises OSError where it may not be read. Of another root: what `dmesg` left there."""
    if root != Path("/"):
        texts = (HostFiles(root).read(path) for path in _RECORDED)
        return tuple(next((text for text in texts if text), "").splitlines())
    records = list(_ring_buffer())
    whole = bool(records) and records[0][0] == 0
    return tuple(line for _, line in records) if whole else _from_journal() or tuple(line for _, line in records)


def _ring_buffer() -> Iterator[tuple[int, str]]:
    """Sequence number and text of each record (Documentation/ABI/testing/dev-kmsg)."""
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                record = os.read(fd, _RECORD)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # overwritten while it was being read: the next one is there
            head, _, text = record.decode("utf-8", "replace").partition(";")
            yield int(head.split(",")[1]), text.partition("\n")[0]
    finally:
        os.close(fd)


def _from_journal() -> tuple[str, ...]:
    try:
        from systemd import journal
    except ImportError:
        return ()
    with journal.Reader() as reader:
        reader.this_boot()
        reader.add_match(_TRANSPORT="kernel")
        return tuple(str(entry.get("MESSAGE", "")) for entry in reader)
