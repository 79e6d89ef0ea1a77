# SPDX-License-Identifier: Apache-2.0
"""udev: what it stored of devices, and its events as "look at this PF again"."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyudev

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress, is_pci_address

TAG = "vfagent"
QUEUE = "run/udev/queue"  # there while udev has events to handle (udev_queue_get_queue_is_empty(3))
STORED = "run/udev/data"  # what udev keeps of each device that it has handled, "+pci:0000:01:00.0" of a PCI one


class KernelUdevDatabase:
    def __init__(self) -> None:
        self._context = pyudev.Context()

    def properties(self, subsystem: str, name: str) -> Mapping[str, str] | None:
        """Each is looked up when it is asked for."""
        try:
            device = pyudev.Devices.from_name(self._context, subsystem, name)
        except pyudev.DeviceNotFoundError:
            return None
        except ValueError:
            return {}  # a netdev's name need be no text, but for pyudev; the kernel and udev give none of these
        return device.properties if device.is_initialized else None


class NoUdevDatabase:
    """Of another root's tree: nothing is known but what a name tells, and nothing is waited for."""

    def properties(self, subsystem: str, name: str) -> Mapping[str, str]:
        # udev's path_id, where no platform device is above the PCI host bridge, as on PCs.
        return {"ID_PATH": f"pci-{name}"} if subsystem == "pci" else {}


@frozen(slots=True)
class UdevEvent:
    """What happened to which PCI function; of a netdev's event, the function it belongs to."""

    action: str
    subsystem: str
    address: PciAddress
    device: str


_BUFFER = 1 << 20  # a thousand events
_SO_RCVBUFFORCE = 33


class UdevMonitor:
    """Events that udev has finished with, by descriptor.

    pyudev's poll() raises on POLLERR before it reads, so an overflow would never clear (pyudev#194). Here any
    error makes a new monitor, and the caller is told to look at everything again.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._monitor = self._start()

    def _start(self) -> Any:
        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by_tag(TAG)
        monitor.start()
        _shrink_buffer(monitor.fileno())
        return monitor

    def fileno(self) -> int:
        return int(self._monitor.fileno())

    def restart(self) -> None:
        self._monitor = self._start()
        self._on_lost()

    def drain(self) -> Iterator[UdevEvent]:
        """Every event that is there now. Raises OSError after an overflow: then `restart`.

        Raises ValueError for an event of a name that is no text; that one is gone then, and the next can be read.
        """
        while (device := self._monitor.poll(timeout=0)) is not None:
            address = _pci_parent(device.sys_path)
            if address:
                yield UdevEvent(device.action or "", device.subsystem or "", address, device.sys_name)


def _shrink_buffer(fd: int) -> None:
    """libudev's own 128 MiB would be read event by event, where one look at everything tells the same.

    pyudev's way raises by whatever errno was left behind: libudev answers 1 for success.
    """
    with socket.socket(fileno=os.dup(fd)) as same, contextlib.suppress(OSError):  # without rights it is small anyway
        same.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)


def _pci_parent(sys_path: str) -> PciAddress | None:
    """The last PCI function on a device's path; the device itself may be gone already."""
    return next((PciAddress(part) for part in reversed(sys_path.split("/")) if is_pci_address(part)), None)
