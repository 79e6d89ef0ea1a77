# SPDX-License-Identifier: Apache-2.0
"""A unit that runs a guest of 512 bytes under KVM, and succeeds if that guest does. Pure."""

from vfagent.guests.spec.qemu import QEMU
from vfagent.guests.spec.untrusted import NO_BUS, UNTRUSTED_OUTPUT
from vfagent.model.guest_unit import Property, UnitSpec

PROBE_S = 20.0
_STOP_S = 2.0
_UNIT = "vfagent-kvm-probe.service"
_DISK = "/run/credentials/vfagent-kvm-probe.service/disk"
# SeaBIOS does not boot from a disk of less than one cylinder, so the geometry is set to smaller ones.
_DRIVE = "virtio-blk-pci,drive=disk,bootindex=1,lcyls=1,lheads=1,lsecs=1"
_PORT, _VALUE = 0xF4, 0x10
# mov al, VALUE; out PORT, al; again: hlt; jmp again
_CODE = bytes([0xB0, _VALUE, 0xE6, _PORT, 0xF4, 0xEB, 0xFD])
_SECTOR = _CODE.ljust(510, b"\0") + b"\x55\xaa"


def kvm_probe() -> UnitSpec:
    disk = f"driver=raw,node-name=disk,read-only=on,file.driver=file,file.filename={_DISK}"
    argv = [
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "kvm"),
        *("-cpu", "host", "-m", "64", "-blockdev", disk, "-device", _DRIVE),
        *("-device", f"isa-debug-exit,iobase={_PORT},iosize=4"),
    ]
    return UnitSpec(
        _UNIT,
        (
            Property("Description", "s", "Whether KVM runs a guest"),
            Property("Type", "s", "oneshot"),
            Property("TimeoutStartUSec", "t", int(PROBE_S * 1e6)),
            # A QEMU that hangs in KVM ignores SIGTERM.
            Property("TimeoutStopUSec", "t", int(_STOP_S * 1e6)),
            Property("ExecStart", "a(sasb)", [(QEMU, argv, False)]),
            # isa-debug-exit: the exit status for a value that is written to the port.
            Property("SuccessExitStatus", "(aiai)", ([_VALUE << 1 | 1], [])),
            Property("SetCredential", "a(say)", [("disk", _SECTOR)]),
            Property("DynamicUser", "b", value=True),
            Property("SupplementaryGroups", "as", ["kvm"]),
            Property("DevicePolicy", "s", "closed"),
            Property("DeviceAllow", "a(ss)", [("/dev/kvm", "rw")]),
            Property("CapabilityBoundingSet", "t", 0),
            Property("PrivateNetwork", "b", value=True),
            Property("ProtectHome", "s", "yes"),
            NO_BUS,
            *UNTRUSTED_OUTPUT,
            Property("CollectMode", "s", "inactive-or-failed"),
        ),
    )
