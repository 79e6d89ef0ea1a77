# SPDX-License-Identifier: Apache-2.0
"""Runs in the VM: the same kernel calls one after the other, in the best known order, for PFs that it is given.

    straight.py COUNT PF...

Everything is imported and open before a PF appears, so that only the calls are measured. Each PF has a process.
"""

import os
import socket
import sys

from pyroute2 import IPRoute

COUNT, PFS = int(sys.argv[1]), sys.argv[2:]


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)


def announced(pf: str, data: bytes) -> bool:
    return b"SUBSYSTEM=net" in data and b"ACTION=add" in data and f"/{pf}/net/".encode() in data


def wait_for(pf: str, events: socket.socket) -> None:
    """Waits until udev announces its netdev, unless it exists already, as at boot."""
    if not os.path.exists(f"/sys/bus/pci/devices/{pf}/net"):
        while not announced(pf, events.recv(1 << 16)):
            pass


def serve(pf: str) -> None:
    base = f"/sys/bus/pci/devices/{pf}"
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
    events.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    events.bind((0, 2))
    ip = IPRoute()
    ip.link("get", index=1, ext_mask=1)
    print("waiting", flush=True)
    wait_for(pf, events)
    write(f"{base}/sriov_drivers_autoprobe", "0")
    write(f"{base}/sriov_numvfs", str(COUNT))
    (name,) = os.listdir(f"{base}/net")
    ifindex = socket.if_nametoindex(name)
    ip.link("set", index=ifindex, state="up")
    for index in range(COUNT):
        settings = {"vf": index, "mac": f"52:54:00:bb:00:{index:02x}", "vlan": {"vlan": 10, "qos": 0}}
        ip.link("set", index=ifindex, vf=settings)
    for index in range(COUNT):
        address = os.path.basename(os.readlink(f"{base}/virtfn{index}"))
        write(f"/sys/bus/pci/devices/{address}/driver_override", "vfio-pci")
        write("/sys/bus/pci/drivers_probe", address)


children = []
for pf in PFS:
    if not (pid := os.fork()):
        serve(pf)
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
