# SPDX-License-Identifier: Apache-2.0
"""What vfagent and systemd say of a guest."""

import json
import shlex

from tests.lab.vm import VM


def guest(vm: VM, name: str) -> dict[str, object]:
    guests = json.loads(vm.run("vfagent guest list --json", check=False).stdout or "[]")
    return next((dict(one) for one in guests if one["name"] == name), {"phase": None})


def phase(vm: VM, name: str) -> object:
    return guest(vm, name)["phase"]


def wait_said(vm: VM, name: str, text: str, *, since: str = "", timeout: float = 180) -> None:
    """Until the guest has said this on its serial console, which the journal has."""
    wait_logged(vm, f"vfagent-guest-{name}.service", text, since=since, timeout=timeout)


def wait_logged(vm: VM, unit: str, text: str, *, since: str = "", timeout: float = 180) -> None:
    """Until the journal has this of the unit."""
    after = f"--since '{since}'" if since else ""
    follow = f"journalctl -a -o cat -f -n all -u {unit} {after} 2>/dev/null"
    # Followed, not polled: in emulation each journalctl takes a second from the guest that is waited for.
    said = shlex.quote(f"grep -qm1 -e {shlex.quote(text)} < <({follow})")
    vm.run(f"timeout {timeout} bash -c {said}", timeout=timeout + 30)
