# SPDX-License-Identifier: Apache-2.0
"""Runs in the VM: waits for PFs to appear and for their VFs to be ready, and prints when they were.

    recorder.py COUNT SECONDS PF...

It only listens: kernel and udev events, link notifications and the driver's log lines give the times. A PF is ready
when COUNT VFs are bound to vfio-pci, each has its MAC and VLAN, and the PF is up.

If BENCH_GUEST names a unit, it starts that unit when the first PF's first VF is ready.
"""

import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time

COUNT, LIMIT_S, PFS = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
GUEST = os.environ.get("BENCH_GUEST", "")
_SERVICE = "/sys/fs/cgroup/system.slice/vfagent.service/cpu.stat"
_SET = re.compile(rb"^[^;]*;igb (\S+): (?:setting MAC \S+|Setting VLAN \d+, QOS \S+) on VF (\d+)")
_PF = re.compile(rb"/([0-9a-f:.]+)/net/")


def uevents(group: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
    opened.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
    opened.bind((0, group))
    return opened


def links() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    opened.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    opened.bind((0, 1))
    return opened


def processor_time() -> dict[str, float]:
    """CPU seconds so far: user and system time of vfagent's processes, and the idle time of all CPUs."""
    try:
        with open(_SERVICE) as file:
            stat = dict(line.split() for line in file)
    except OSError:
        stat = {}
    with open("/proc/stat") as file:
        idle = int(file.readline().split()[4]) / os.sysconf("SC_CLK_TCK")
    return {"user": int(stat.get("user_usec", 0)) / 1e6, "system": int(stat.get("system_usec", 0)) / 1e6, "idle": idle}


def kernel_log() -> int:
    """A descriptor of /dev/kmsg, positioned at its end."""
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(fd, 0, os.SEEK_END)
    return fd


class Pf:
    def __init__(self, address: str) -> None:
        self.address = address
        self.appeared = self.announced = self.up = self.set_last = self.bound_last = 0.0
        self.settings, self.bound = set[tuple[bytes, bool]](), set[str]()
        self.ifindex = 0
        self.first = f"{address[:8]}10.0"  # the first VF of an 82576

    @property
    def done(self) -> bool:
        return len(self.settings) == 2 * COUNT and len(self.bound) == COUNT and self.up > 0

    @property
    def first_is_ready(self) -> bool:
        return {(b"0", True), (b"0", False)} <= self.settings and self.first in self.bound and self.up > 0

    @property
    def ready(self) -> float:
        return max(self.up, self.set_last, self.bound_last)

    def times(self) -> dict[str, object]:
        return {
            "done": self.done,
            "ready": self.ready,
            "announced": self.announced,
            "from_netdev_s": self.ready - self.appeared,
            "from_udev_s": self.ready - self.announced,
            "up_s": self.up - self.announced,
            "set_s": self.set_last - self.announced,
            "bound_s": self.bound_last - self.announced,
            "counts": [len(self.settings), len(self.bound)],
        }


class Record:
    def __init__(self) -> None:
        self.kernel, self.udev, self.links = uevents(1), uevents(2), links()
        self.log = kernel_log()
        self.before = self.after = dict[str, float]()
        self.pfs = {address: Pf(address) for address in PFS}
        self.guest = GUEST
        self.starting: subprocess.Popen[bytes] | None = None

    def read(self) -> None:
        end = time.monotonic() + LIMIT_S
        while not all(pf.done for pf in self.pfs.values()) and time.monotonic() < end:
            ready, _, _ = select.select([self.kernel, self.udev, self.links, self.log], [], [], 1.0)
            for fd in ready:
                self._take(fd, time.monotonic())
            if self.guest and self.pfs[PFS[0]].first_is_ready:
                self.starting = subprocess.Popen(["systemctl", "start", "--no-block", self.guest])
                self.guest = ""
        self.after = processor_time()

    def _take(self, fd: object, at: float) -> None:
        if fd is self.log:
            self._take_log(os.read(self.log, 8192), at)
        elif fd is self.links:
            self._take_link(self.links.recv(1 << 16), at)
        elif fd is self.kernel:
            self._take_uevent(self.kernel.recv(1 << 16), at)
        elif (pf := self._new_netdev(self.udev.recv(1 << 16))) and not pf.announced:
            pf.announced = at
            self.before = self.before or processor_time()

    def _new_netdev(self, data: bytes) -> Pf | None:
        """The PF whose netdev this event announces."""
        match = _PF.search(data) if b"SUBSYSTEM=net" in data and b"ACTION=add" in data else None
        return self.pfs.get(match[1].decode()) if match else None

    def _take_uevent(self, data: bytes, at: float) -> None:
        if (pf := self._new_netdev(data)) and not pf.appeared:
            pf.appeared = at
            pf.ifindex = int(re.findall(rb"IFINDEX=(\d+)", data)[0])
        elif data.startswith(b"bind@") and b"DRIVER=vfio-pci" in data:
            self._bound(data.split(b"\0")[0].decode().rpartition("/")[2], at)

    def _bound(self, vf: str, at: float) -> None:
        # The VFs of an 82576 are on its own bus.
        for pf in self.pfs.values():
            if pf.address[:7] == vf[:7]:
                pf.bound.add(vf)
                pf.bound_last = at

    def _take_link(self, data: bytes, at: float) -> None:
        _, kind, _, _, _ = struct.unpack_from("=IHHII", data)
        _, _, _, index, flags, _ = struct.unpack_from("=BBHiII", data, 16)
        for pf in self.pfs.values():
            if kind == 16 and index == pf.ifindex and flags & 1 and not pf.up:
                pf.up = at

    def _take_log(self, line: bytes, at: float) -> None:
        match = _SET.match(line)
        if match and (pf := self.pfs.get(match[1].decode())):
            pf.settings.add((match[2], b"MAC" in line))
            pf.set_last = at


record = Record()
print("recording", flush=True)
record.read()
pfs = record.pfs.values()
first = min(pf.announced for pf in pfs)
print(
    json.dumps(
        {
            "all_s": max(pf.ready for pf in pfs) - first,
            **next(iter(pfs)).times(),
            "all": all(pf.done for pf in pfs),
            "cpu": {name: record.after[name] - was for name, was in record.before.items()},
        }
    )
)
if record.starting:
    record.starting.wait()  # systemd would end it with this unit
