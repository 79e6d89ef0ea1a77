# SPDX-License-Identifier: Apache-2.0
"""The kernel log since boot: from the ring buffer, or from the journal if the ring buffer has lost its beginning."""

import os
from collections.abc import Iterator
from pathlib import Path

from vfagent.store.host_files import HostFiles

_RECORD = 8192  # a read fails with EINVAL if the record does not fit
_RECORDED = ("var/log/dmesg", "var/log/kern.log")


def kernel_log(root: Path = Path("/")) -> tuple[str, ...]:
    """Lines, oldest first. Raises OSError if reading is denied. Below another root: a saved dmesg."""
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
                continue  # EPIPE: the record was overwritten; the next read continues
            head, _, text = record.decode("utf-8", "replace").partition(";")
            yield int(head.split(",")[1]), text.partition("\n")[0]
    finally:
        os.close(fd)


def _from_journal() -> tuple[str, ...]:
    from systemd.journal import Reader  # late: only where the ring buffer lacks its beginning

    with Reader() as reader:
        reader.this_boot()
        reader.add_match(_TRANSPORT="kernel")
        return tuple(str(entry.get("MESSAGE", "")) for entry in reader)
