# SPDX-License-Identifier: Apache-2.0
"""What a guest's QEMU printed last. The guest prints there, too, so that none of it is to be trusted."""

from systemd import journal
from vfagent.model.guest_unit import unit_name
from vfagent.model.printable import printable

_PREFIX = "qemu-system-x86_64: "  # error_vreport() of QEMU: its own messages begin with its name
_MOST_ENTRIES = 200
_LONGEST = 200


def last_line(guest: str) -> str | None:
    """QEMU's last message of this boot, None where it printed none."""
    with journal.Reader() as reader:
        reader.this_boot()
        reader.add_match(_SYSTEMD_UNIT=unit_name(guest))
        reader.seek_tail()
        for _ in range(_MOST_ENTRIES):
            entry = reader.get_previous()
            text = entry.get("MESSAGE") if entry else ""
            if not entry:
                break
            if isinstance(text, str) and text.startswith(_PREFIX):
                return printable(text.removeprefix(_PREFIX))[:_LONGEST]
    return None
