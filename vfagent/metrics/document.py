# SPDX-License-Identifier: Apache-2.0
"""The reference of vfagent-metrics(7), from the declarations: `python3 -m vfagent.metrics.document`.

With the page as input on stdin it prints the page with its reference made anew.
"""

import sys
from collections.abc import Iterator

from vfagent.metrics import vf_traffic
from vfagent.metrics.families import Family
from vfagent.metrics.page import SUBJECTS

BEGIN = "<!-- Made by python3 -m vfagent.metrics.document; edit vfagent/metrics instead. -->\n"
END = "<!-- End of what was made. -->\n"
_TITLES = ("The agent", "The policy", "PFs", "VFs", "Guests", "Traffic of VFs")


def reference() -> str:
    return "\n".join(_sections())


def page_with_reference(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + reference() + "\n" + END + rest.partition(END)[2]


def _sections() -> Iterator[str]:
    for title, subject in zip(_TITLES, (*SUBJECTS, vf_traffic), strict=True):
        yield f"## {title}\n"
        yield from (_entry(family) for family in subject.FAMILIES)


def _entry(family: Family) -> str:
    labels = f" Labels: {', '.join(family.labels)}." if family.labels else ""
    return f"**{_escaped(family.name)}** ({family.kind})\n:   {_escaped(family.help + labels)}\n"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")


if __name__ == "__main__":
    sys.stdout.write(page_with_reference(sys.stdin.read()))
