# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: waits for a PF to appear and for its VFs to be ready, and prints when both were.

It takes no part: kernel and udev events, link notifications and the driver's own log lines carry the times. Ready
is when the last of these has happened: 7 VFs bound to vfio-pci, each with MAC and VLAN, and the PF up.
"""

import json
import os
import re
import select
import socket
import struct
import sys
import time

PF, COUNT, LIMIT_S = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
_SET = re.compile(rb"^[^;]*;igb " + PF.encode() + rb": (?:setting MAC \S+|Setting VLAN \d+, QOS \S+) on VF (\d+)")


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


def kernel_log() -> int:
    """Its descriptor, at the end."""
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(fd, 0, os.SEEK_END)
    return fd


class Record:
    def __init__(self) -> None:
        self.kernel, self.udev, self.links = uevents(1), uevents(2), links()
        self.log = kernel_log()
        self.appeared = self.announced = self.up = self.set_last = self.bound_last = 0.0
        self.settings, self.bound = set[tuple[bytes, bytes]](), set[str]()
        self.ifindex = 0

    def done(self) -> bool:
        return len(self.settings) == 2 * COUNT and len(self.bound) == COUNT and self.up > 0

    def read(self) -> None:
        end = time.monotonic() + LIMIT_S
        while not self.done() and time.monotonic() < end:
            ready, _, _ = select.select([self.kernel, self.udev, self.links, self.log], [], [], 1.0)
            for fd in ready:
                self._take(fd, time.monotonic())

    def _take(self, fd: object, at: float) -> None:
        if fd is self.log:
            self._take_log(os.read(self.log, 8192), at)
        elif fd is self.links:
            self._take_link(self.links.recv(1 << 16), at)
        elif fd is self.kernel:
            self._take_uevent(self.kernel.recv(1 << 16), at)
        elif self._is_pf_netdev(self.udev.recv(1 << 16)) and not self.announced:
            self.announced = at

    def _is_pf_netdev(self, data: bytes) -> bool:
        return b"SUBSYSTEM=net" in data and b"ACTION=add" in data and f"/{PF}/net/".encode() in data

    def _take_uevent(self, data: bytes, at: float) -> None:
        if self._is_pf_netdev(data) and not self.appeared:
            self.appeared = at
            self.ifindex = int(re.findall(rb"IFINDEX=(\d+)", data)[0])
        elif data.startswith(b"bind@") and b"DRIVER=vfio-pci" in data:
            self.bound.add(data.split(b"\0")[0].decode().rpartition("/")[2])
            self.bound_last = at

    def _take_link(self, data: bytes, at: float) -> None:
        _, kind, _, _, _ = struct.unpack_from("=IHHII", data)
        _, _, _, index, flags, _ = struct.unpack_from("=BBHiII", data, 16)
        if kind == 16 and index == self.ifindex and flags & 1 and not self.up:
            self.up = at

    def _take_log(self, line: bytes, at: float) -> None:
        found = _SET.match(line)
        if found:
            self.settings.add((found[1], b"mac" if b"MAC" in line else b"vlan"))
            self.set_last = at


record = Record()
print("recording", flush=True)
record.read()
ready = max(record.up, record.set_last, record.bound_last)
found = {
    "done": record.done(),
    "announced": record.announced,
    "from_netdev_s": ready - record.appeared,
    "from_udev_s": ready - record.announced,
    "up_s": record.up - record.announced,
    "set_s": record.set_last - record.announced,
    "bound_s": record.bound_last - record.announced,
    "counts": [len(record.settings), len(record.bound)],
}
print(json.dumps(found))
