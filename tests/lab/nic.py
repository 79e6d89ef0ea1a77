# SPDX-License-Identifier: Apache-2.0
"""SR-IOV cards that QEMU emulates, as -netdev and -device options."""

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Protocol

from tests.lab.qemu import VM

Options = dict[str, object]


@dataclass(frozen=True, slots=True)
class Parts:
    """QEMU options, in the order in which they are added."""

    netdevs: tuple[Options, ...]
    devices: tuple[Options, ...]
    # Namespaces of an NVMe PF, each with a drive of its own: they are there from the start, and only there.
    namespaces: tuple[Options, ...] = ()
    # QEMU 11.1 removes the PF but never its VFs: the port cannot be used again.
    spends_port: bool = False

    @property
    def pf(self) -> str:
        """QEMU's id of the device that is unplugged."""
        return str(self.devices[-1]["id"])


class Card(Protocol):
    """A PCI card with a PF."""

    @property
    def name(self) -> str: ...

    def parts(self, bus: str) -> Parts: ...


def _tap(name: str) -> Options:
    return {"type": "tap", "id": f"{name}-wire", "script": f"{VM}/ifup", "downscript": "no"}


def _mac(name: str, function: int = 0) -> str:
    """The MAC depends on the name, so that each VM has the same MACs."""
    octets = sha256(name.encode()).digest()[:2]
    return f"52:54:00:{octets[0]:02x}:{octets[1]:02x}:{function:02x}"


@dataclass(frozen=True, slots=True)
class Igb:
    """Intel 82576: 8086:10c9, with up to 7 VFs."""

    name: str = "igb0"
    mac: str = ""

    def parts(self, bus: str) -> Parts:
        device: Options = {"driver": "igb", "id": self.name, "bus": bus}
        device |= {"netdev": f"{self.name}-wire", "mac": self.mac or _mac(self.name)}
        return Parts((_tap(self.name),), (device,))


@dataclass(frozen=True, slots=True)
class ReachedIgb:
    """The same, with an address at which the VM can be reached from its QEMU's loopback; no frame there has a tag."""

    ADDRESS: ClassVar[str] = "10.0.3.15/24"
    SSH: ClassVar[int] = 2223
    name: str = "igb0"

    def parts(self, bus: str) -> Parts:
        forward = {"str": f"tcp:127.0.0.1:{self.SSH}-{self.ADDRESS.partition('/')[0]}:22"}
        wire: Options = {"type": "user", "id": f"{self.name}-wire", "net": "10.0.3.0/24", "restrict": True}
        device: Options = {"driver": "igb", "id": self.name, "bus": bus, "netdev": f"{self.name}-wire"}
        return Parts((wire | {"hostfwd": [forward]},), (device | {"mac": _mac(self.name)},))


@dataclass(frozen=True, slots=True)
class VirtioPf:
    """virtio-net with VFs, all of them 1af4:1041."""

    name: str = "virtio0"
    vfs: int = 4

    def parts(self, bus: str) -> Parts:
        functions = [self._function(bus, number) for number in range(self.vfs, -1, -1)]
        wires = tuple(_tap(f"{self.name}-{number}") for number in range(self.vfs, -1, -1))
        return Parts(wires, tuple(functions), spends_port=True)

    def _function(self, bus: str, number: int) -> Options:
        # The VFs of an unplugged PF remain, and still refer to the PF's id.
        pf = f"{self.name}-{bus}"
        # Without iommu_platform the card's DMA bypasses the IOMMU.
        device: Options = {"driver": "virtio-net-pci", "bus": bus, "addr": f"0x0.0x{number:x}"}
        device |= {"netdev": f"{self.name}-{number}-wire", "mac": _mac(self.name, number)}
        device |= {"iommu_platform": True, "romfile": ""}
        device |= {"sriov-pf": pf} if number else {"id": pf}
        return device


@dataclass(frozen=True, slots=True)
class NvmePf:
    """An NVMe controller with VFs: a PF that is no NIC."""

    name: str = "nvme0"
    vfs: int = 4
    # Each can be attached to one controller, a VF's.
    namespaces: int = 0

    def parts(self, bus: str) -> Parts:
        subsystem: Options = {"driver": "nvme-subsys", "id": f"{self.name}-subsys"}
        device: Options = {"driver": "nvme", "id": self.name, "bus": bus, "serial": self.name}
        device |= {"subsys": f"{self.name}-subsys", "sriov_max_vfs": self.vfs}
        # QEMU requires two queues and one interrupt per VF to be reserved.
        device |= {"sriov_vq_flexible": 2 * self.vfs, "sriov_vi_flexible": self.vfs}
        return Parts((), (subsystem, device), tuple(self._namespace(nsid) for nsid in range(1, self.namespaces + 1)))

    def _namespace(self, nsid: int) -> Options:
        namespace: Options = {"driver": "nvme-ns", "bus": self.name, "drive": f"{self.name}-{nsid}", "nsid": nsid}
        return namespace | {"shared": False, "detached": True}
