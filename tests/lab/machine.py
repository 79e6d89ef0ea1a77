# SPDX-License-Identifier: Apache-2.0
"""The VM's hardware, as QEMU's command line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.lab.nic import Card, Options
from tests.lab.qemu import IMAGE, SSH_PORT, VM

PORTS = tuple(f"rp{number}" for number in range(1, 9))
MANAGEMENT_MAC = "52:54:00:1a:b0:00"
# no_timer_check: on a busy machine the kernel may take an emulated timer for broken and panic.
KERNEL = (
    "console=ttyS0 loglevel=4 root=/dev/vda rw intel_iommu=on iommu=pt mitigations=off nokaslr audit=0 no_timer_check"
    " fsck.mode=skip systemd.show_status=auto lsm=landlock,lockdown,yama,apparmor"
)
MEMORY_LIMIT_MIB = 2816


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware of one VM. `cards` are by port."""

    accel: str
    memory_mib: int
    kernel: str = ""
    payload: bool = False
    cards: Mapping[str, Card] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.memory_mib >= MEMORY_LIMIT_MIB:
            raise ValueError("from 2.75 GiB on, the firmware places VF BARs where the VFs do not work")

    def arguments(self) -> list[str]:
        disks = [*_disk("root", "root.qcow2", "qcow2")]
        if self.payload:
            disks += _disk("payload", "payload.tar", "raw")
        return [*self._board(), *self._boot(), *disks, *_management(), *self._slots(), *self.extra]

    def drives(self) -> tuple[str, ...]:
        """The files in the VM's folder that hold the cards' namespaces."""
        parts = (card.parts(bus) for bus, card in self.cards.items())
        return tuple(f"{namespace['drive']}.raw" for part in parts for namespace in part.namespaces)

    def _board(self) -> list[str]:
        kvm = self.accel == "kvm"
        return [
            *("-machine", "q35,sata=off,smbus=off,i8042=off,vmport=off"),
            *("-accel", "kvm" if kvm else "tcg,thread=multi,tb-size=512"),
            *("-cpu", "host" if kvm else "max,svm=off", "-smp", "2", "-m", str(self.memory_mib)),
            *("-nodefaults", "-display", "none", "-device", "intel-iommu,intremap=on"),
        ]

    def _boot(self) -> list[str]:
        console = f"socket,id=console,path={VM}/console,server=on,wait=off,logfile={VM}/console.log"
        return [
            *("-qmp", f"unix:{VM}/qmp,server=on,wait=off"),
            *("-chardev", console, "-serial", "chardev:console"),
            *("-kernel", f"{IMAGE}/vmlinuz", "-initrd", f"{IMAGE}/initrd"),
            *("-append", f"{KERNEL} {self.kernel}".strip()),
        ]

    def _slots(self) -> list[str]:
        arguments: list[str] = []
        for number, name in enumerate(PORTS, 1):
            # A chassis and a slot for each port: each card is in its own IOMMU groups.
            port: Options = {"driver": "pcie-root-port", "id": name, "bus": "pcie.0"}
            arguments += ["-device", json.dumps(port | {"chassis": number, "slot": number})]
        for bus, card in self.cards.items():
            parts = card.parts(bus)
            arguments += [word for netdev in parts.netdevs for word in ("-netdev", json.dumps(netdev))]
            arguments += [word for device in parts.devices for word in ("-device", json.dumps(device))]
            for namespace in parts.namespaces:
                arguments += ["-drive", _drive(str(namespace["drive"])), "-device", json.dumps(namespace)]
        return arguments


def _drive(name: str) -> str:
    return f"if=none,id={name},file={VM}/{name}.raw,format=raw,cache=unsafe"


def _disk(name: str, file: str, form: str) -> list[str]:
    drive = f"if=none,id={name},file={VM}/{file},format={form},cache=unsafe"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def _management() -> list[str]:
    forward = f"hostfwd=tcp:127.0.0.1:{SSH_PORT}-10.0.2.15:22"
    device = f"virtio-net-pci,netdev=mgmt,mac={MANAGEMENT_MAC},romfile="
    return ["-netdev", f"user,id=mgmt,restrict=on,{forward}", "-device", device]
