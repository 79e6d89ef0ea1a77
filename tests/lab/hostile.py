# SPDX-License-Identifier: Apache-2.0
"""A program in QEMU's place, as whoever broke out of a guest: it tries what it can reach, and prints a report."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.vm import VM

_QEMU = "/usr/bin/qemu-system-x86_64"
_MARK = "hostile: "
# What the host's distribution ships, and the kernel's own views, are no data of the host.
_PROGRAM = f"""#!/usr/bin/python3 -I
import ctypes, json, os, signal, socket, time

def error(call, *words):
    try:
        call(*words)
    except OSError as failure:
        return failure.strerror

def file(path, flags):
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))

def connect(path):
    kind = socket.SOCK_DGRAM if path.endswith("journal/socket") else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as opened:
        opened.connect(path)

def system_call(name, *words):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def own(process):
    try:
        parent = open("/proc/" + process + "/stat").read().rpartition(")")[2].split()[1]
    except FileNotFoundError:
        return False
    return int(parent) == os.getpid() or own(parent)

def foreign(process):
    return int(process) != os.getpid() and not own(process) and os.path.exists("/proc/" + process)

paths = []
for folder, folders, names in os.walk("/"):
    if folder == "/":
        folders[:] = sorted(set(folders) - {{"usr", "bin", "lib", "lib64", "proc", "sys"}})
    if folder in ("/etc", "/dev"):
        folders[:] = sorted(set(folders) - {{"alternatives", "fd"}})
    paths += [os.path.join(folder, name) for name in (*folders, *names)]
sockets = ("dbus/system_bus_socket", "systemd/private", "systemd/journal/socket", "vfagent/control.sock")
calls = {{"mount": (b"x", b"/tmp", b"tmpfs", 0, 0), "unshare": (0x10000000,), "setns": (0, 0), "reboot": (0,)}}
print("{_MARK}" + json.dumps({{
    "read": [path for path in paths if os.path.isfile(path) and not error(file, path, os.O_RDONLY)],
    "written": [path for path in paths if os.path.isfile(path) and not error(file, path, os.O_WRONLY)],
    "devices": [path for path in paths if path.startswith("/dev/vfio/") and not error(file, path, os.O_RDWR)],
    "folders": [path for path in paths if os.path.isdir(path) and os.access(path, os.W_OK)],
    "connected": [path for path in sockets if not error(connect, "/run/" + path)],
    "called": [name for name, words in calls.items() if not error(system_call, name, *words)],
    "processes": [name for name in os.listdir("/proc") if name.isdecimal() and foreign(name)],
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/self/net/dev") if ":" in line],
}}), flush=True)
signal.signal(signal.SIGUSR1, lambda *_: print("\\n".join(["<0>\\x1b[2Jflood"] * 20000), flush=True))
while True:
    time.sleep(600)
"""


@contextmanager
def replaced_qemu(vm: VM) -> Iterator[None]:
    vm.put("/root/hostile", _PROGRAM.encode(), 0o755)
    vm.run(f"mount --bind /root/hostile {_QEMU}")
    try:
        yield
    finally:
        vm.run(f"umount {_QEMU}")


def report_of(vm: VM, unit: str) -> dict[str, list[str]]:
    printed = f"journalctl -q -o cat -u {unit} | grep -m 1 '^{_MARK}'"
    vm.wait_for(printed, 90)
    report: dict[str, list[str]] = json.loads(vm.run(printed).stdout.removeprefix(_MARK))
    return {what: sorted(names) for what, names in report.items()}
