# SPDX-License-Identifier: Apache-2.0
"""Evidence of a failed test: the VM's logs, units, links and processes."""

from pathlib import Path

from tests.lab.vm import VM

COMMANDS = {
    "journal.txt": "journalctl --no-pager -o short-monotonic -b",
    "dmesg.txt": "dmesg",
    "units.txt": "systemctl --no-pager list-units --all; systemctl --no-pager status vfagent.service",
    "status.json": "vfagent status --json",
    "list.json": "vfagent list --json",
    "plan.txt": "vfagent plan",
    "link.txt": "ip -d link; bridge -d link; ip address",
    "lspci.txt": "lspci -nnk",
    "processes.txt": "ps axo pid,ppid,stat,wchan:32,args",
}
# Printed with the test's output.
SUMMARY = "systemctl --plain --no-legend --failed; journalctl --no-pager -o short-monotonic -b -p warning -n 25"


def summary(vm: VM) -> str:
    return _output(vm, SUMMARY) if vm.remote.connected() else vm.console_tail()


def collect(vm: VM, folder: Path) -> Path:
    """Writes it all into a folder; a command that fails leaves its error there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (vm.console, vm.folder / "qemu.log"):
        if path.exists():
            (folder / path.name).write_bytes(path.read_bytes())
    if vm.remote.connected():
        for name, command in COMMANDS.items():
            (folder / name).write_text(_output(vm, command))
    return folder


def _output(vm: VM, command: str) -> str:
    try:
        done = vm.run(command, check=False, timeout=60)
    except Exception as error:
        return f"{command}: {error}\n"
    return done.stdout + done.stderr
