# SPDX-License-Identifier: Apache-2.0
"""Who can open the guests' screens by VNC."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.guests.spec.vnc import Reach, opened_to, reach


def screen_open(facts: Facts) -> Iterator[Finding]:
    for rule in facts.guests:
        who = opened_to(rule)
        if who is None:
            continue
        clear = " over an unencrypted connection" if reach(rule) is Reach.NETWORK else ""
        yield Finding(
            "screen-open",
            Severity.NOTE if reach(rule) is Reach.HOST and rule.vnc_password else Severity.WARNING,
            f"guest {rule.name}",
            who,
            f"they see its screen and type there{clear}; its QEMU reaches what the host's network reaches",
            'vnc = "unix", which only root can open: vfagent.toml(5) says how a viewer reaches it',
        )
