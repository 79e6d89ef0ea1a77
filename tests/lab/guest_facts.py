# SPDX-License-Identifier: Apache-2.0
"""A guest's state according to vfagent, and its console in the journal."""

import json
import shlex

from tests.lab.vm import VM


def guest(vm: VM, name: str) -> dict[str, object]:
    guests = json.loads(vm.run("vfagent guest list --json", check=False).stdout or '{"guests": []}')["guests"]
    return next((dict(entry) for entry in guests if entry["name"] == name), {"phase": None})


def phase(vm: VM, name: str) -> object:
    return guest(vm, name)["phase"]


def wait_printed(vm: VM, name: str, text: str, *, since: str = "", timeout: float = 180) -> None:
    """Waits until the guest has printed this text on its serial console, which is in the journal."""
    wait_logged(vm, f"vfagent-guest-{name}.service", text, since=since, timeout=timeout)


def wait_logged(vm: VM, unit: str, text: str, *, since: str = "", timeout: float = 180) -> None:
    """Waits until the unit's journal has this text."""
    after = f"--since '{since}'" if since else ""
    follow = f"journalctl -a -o cat -f -n all -u {unit} {after} 2>/dev/null"
    # Followed, not polled: in emulation each journalctl takes a second of the guest's CPU time.
    command = shlex.quote(f"grep -qm1 -e {shlex.quote(text)} < <({follow})")
    vm.run(f"timeout {timeout} bash -c {command}", timeout=timeout + 30)
