# SPDX-License-Identifier: Apache-2.0
"""udev: its database, and its events as the PCI functions that they are about."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyudev

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress, is_pci_address

TAG = "vfagent"
QUEUE = "run/udev/queue"  # exists while udev has events to handle (udev_queue_get_queue_is_empty(3))
STORED = "run/udev/data"  # a file for each device that udev has initialized, "+pci:0000:01:00.0" for a PCI function


class KernelUdevDatabase:
    def __init__(self) -> None:
        self._context = pyudev.Context()

    def properties(self, subsystem: str, name: str) -> Mapping[str, str] | None:
        """pyudev reads each property at its first use."""
        try:
            device = pyudev.Devices.from_name(self._context, subsystem, name)
        except pyudev.DeviceNotFoundError:
            return None
        except ValueError:
            return {}  # a netdev's name may be any bytes but is text for pyudev; udev's own names are text
        return device.properties if device.is_initialized else None


class NoUdevDatabase:
    """For another root: every device counts as initialized, and only ID_PATH is known, from the device's name."""

    def properties(self, subsystem: str, name: str) -> Mapping[str, str]:
        # udev's path_id, where no platform device is above the PCI host bridge, as on PCs.
        return {"ID_PATH": f"pci-{name}"} if subsystem == "pci" else {}


@frozen(slots=True)
class UdevEvent:
    """An event of a PCI function, or of a netdev or other device of that function."""

    action: str
    subsystem: str
    address: PciAddress
    device: str


_BUFFER = 1 << 20  # a thousand events
_SO_RCVBUFFORCE = 33


class UdevMonitor:
    """Events that udev has finished with, by a descriptor.

    pyudev's poll() raises on POLLERR before it reads, so an overflow would never clear (pyudev#194). After any error
    `restart` makes a new monitor and calls `on_lost`: any device may have changed.
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
        """The events in the queue. Raises OSError after an overflow: then call `restart`.

        Raises ValueError for a device whose name is not UTF-8. That event is lost; the next one can be read.
        """
        while (device := self._monitor.poll(timeout=0)) is not None:
            address = _pci_parent(device.sys_path)
            if address:
                yield UdevEvent(device.action or "", device.subsystem or "", address, device.sys_name)


def _shrink_buffer(fd: int) -> None:
    """libudev's own 128 MiB would be read event by event, where one reconcile of everything does the same.

    pyudev's own call raises after an earlier errno: libudev returns 1 for success.
    """
    # Without CAP_NET_ADMIN the buffer is small anyway.
    with socket.socket(fileno=os.dup(fd)) as monitor, contextlib.suppress(OSError):
        monitor.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)


def _pci_parent(sys_path: str) -> PciAddress | None:
    """The last PCI function on a device's path. By the path alone: the device may be gone already."""
    return next((PciAddress(part) for part in reversed(sys_path.split("/")) if is_pci_address(part)), None)
