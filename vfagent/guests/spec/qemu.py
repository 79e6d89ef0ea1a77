# SPDX-License-Identifier: Apache-2.0
"""A guest as QEMU's command line. Pure.

Devices and disks are JSON objects, so that no value can end an option and begin another. The command line reaches the
unit as a file, so that systemd neither expands nor escapes anything in it.
"""

import json
import shlex
import uuid
from collections.abc import Iterator
from typing import Any

from vfagent.frozen import frozen
from vfagent.guests.spec.boot import IPXE_IMAGES, Boot, Loader
from vfagent.guests.spec.firmware import Firmware
from vfagent.guests.spec.nics import GuestNic
from vfagent.guests.spec.numa import NumaNode
from vfagent.guests.spec.vnc import VNC_PASSWORD, screen
from vfagent.model.guest_unit import GuestVf, unit_name
from vfagent.policy.types import GuestRule

QEMU = "/usr/bin/qemu-system-x86_64"
SWTPM = "/usr/bin/swtpm"
MACHINE = "q35"
COMMAND, SCRIPT, ROM, CHAP, SEED = "command", "boot.ipxe", "vf.rom", "chap-secret", "seed.iso"
SHELL = "/bin/sh"
ROOTS = "/run/vfagent/guest-roots"
TPMS = "/run/vfagent/tpm"  # as systemd/vfagent-tpm@.service has it
# The unit gets its taps as standard input and standard error (Systemd.start), and QEMU as 3 and 4.
FIRST_TAP = 3
_TAPS = ("exec 3<&0 </dev/null\n", "exec 4<&2 2>&1\n")
HUGE_SIZES: dict[bool | str, int] = {"2M": 2 << 20, "1G": 1 << 30}
_FW_CFG = "opt/org.vfagent/"
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@frozen(slots=True)
class Guest:
    """Everything that the command line and the unit are made of."""

    rule: GuestRule
    vfs: tuple[GuestVf, ...]
    boot: Boot
    kvm: bool
    uuid: str
    rom: str = ""  # the checked file
    machine: str = MACHINE
    firmware: Firmware | None = None  # None: SeaBIOS, which QEMU brings
    variables: str = ""  # the firmware's, the guest's own
    credentials: tuple[tuple[str, str], ...] = ()  # names, and root's copies of the files
    beside_udev: bool = False  # udev has not handled its VFs' groups yet, but kvm may open them
    nics: tuple[GuestNic, ...] = ()
    nodes: tuple[NumaNode, ...] = ()  # those of its VFs
    digest: str = ""  # of its rule as the policy has it, where the start has changed that
    python: tuple[str, ...] = ()  # where the helpers' Python is, if not in /usr

    @property
    def unit(self) -> str:
        return unit_name(self.rule.name)

    @property
    def qmp(self) -> str:
        return f"{self._runtime_folder}/qmp"

    @property
    def console_log(self) -> str:
        return f"{self._runtime_folder}/console.log"

    @property
    def vnc_socket(self) -> str:
        return f"{self._runtime_folder}/vnc"

    @property
    def tpm_folder(self) -> str:
        """Of the socket of its TPM."""
        return f"{TPMS}/{self.rule.name}"

    @property
    def tpm_unit(self) -> str:
        return f"vfagent-tpm@{self.rule.name}.service"

    @property
    def _runtime_folder(self) -> str:
        return runtime_folder(self.rule.name)

    @property
    def root(self) -> str:
        return f"{ROOTS}/{self.rule.name}"

    def credential(self, name: str) -> str:
        """The path of a systemd credential, which only this unit may read."""
        return f"/run/credentials/{self.unit}/{name}"


def runtime_folder(guest: str) -> str:
    return f"/run/{unit_name(guest).removesuffix('.service')}"


def console_socket(guest: str) -> str:
    return f"{runtime_folder(guest)}/console"


def oem_string(credential: str) -> str:
    """The credential of the unit with one for systemd in the guest."""
    return f"oem-{credential}"


def guest_uuid(name: str, machine_id: str) -> uuid.UUID:
    """The same for the same guest on the same host. QEMU and machined both get it."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"vfagent {machine_id} {name}")


def argv(guest: Guest) -> list[str]:
    return [
        *(QEMU, "-name", f"guest={guest.rule.name}", "-uuid", guest.uuid),
        *("-nodefaults", "-no-user-config", "-sandbox", _SANDBOX),
        *_board(guest),
        *("-chardev", f"socket,id=qmp,path={guest.qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
        *_console(guest),
        *screen(guest.rule, guest.vnc_socket, guest.credential(VNC_PASSWORD)),
        *_boot(guest),
        *_oem_strings(guest),
        *_chap(guest),
        *_tpm(guest),
        *_slots(guest),
        *_random(),
    ]


def command(guest: Guest) -> bytes:
    """For the shell, which QEMU replaces: the unit's main process is QEMU.

    The console's output goes through a pipe: QEMU can open no socket for it, which the journal's standard output is.
    Where the journal takes no more, dd ends, and what the guest prints is lost until it is started again: QEMU, which
    writes to the pipe, would otherwise wait for the journal, and so the guest. The taps are QEMU's alone.
    """
    pipe = shlex.quote(guest.console_log)
    copy = f"dd if={pipe} bs=4096 oflag=nonblock status=none 2>/dev/null && exit; sleep 1"
    lines = (
        f"rm -f {pipe}",
        f"mkfifo -m 600 {pipe} || exit 1",
        f"while [ -p {pipe} ]; do {copy}; done 3<&- 4<&- &",
        f"exec {shlex.join(argv(guest))}",
    )
    return "".join((*_TAPS[: len(guest.nics)], *(f"{line}\n" for line in lines))).encode()


def _console(guest: Guest) -> list[str]:
    """To who is connected, and in any case to the pipe."""
    where = f"path={console_socket(guest.rule.name)},server=on,wait=off"
    return [
        "-chardev",
        f"socket,id=console,{where},logfile={guest.console_log},logappend=on",
        "-serial",
        "chardev:console",
    ]


def _board(guest: Guest) -> list[str]:
    # With graphics=off, SeaBIOS and iPXE use the serial port.
    # A dump of QEMU's memory would have the guest's secrets, and be as large.
    machine = f"{guest.machine},graphics=off,vmport=off,dump-guest-core=off"
    words = ["-cpu", "host" if guest.kvm else "max", "-smp", str(guest.rule.cpus), "-m", str(guest.rule.memory_mib)]
    if guest.rule.hugepages:
        size = guest.rule.memory_mib << 20
        memory = {"qom-type": "memory-backend-memfd", "id": "memory", "size": size, "hugetlb": True, "prealloc": True}
        if guest.rule.hugepages in HUGE_SIZES:
            memory["hugetlbsize"] = HUGE_SIZES[guest.rule.hugepages]
        words += ["-object", _json(memory)]
        machine += ",memory-backend=memory"
    if guest.firmware:
        machine += ",pflash0=firmware,pflash1=variables"
        words += _flash(guest.firmware, guest.variables)
        if guest.firmware.smm:  # else the guest's kernel could write the variables of secure boot
            machine += ",smm=on"
            words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return ["-machine", machine, "-accel", "kvm" if guest.kvm else "tcg", *words]


def _flash(firmware: Firmware, variables: str) -> Iterator[str]:
    code = firmware.code_format, "firmware", firmware.code, True
    for driver, name, path, read_only in (code, (firmware.template_format, "variables", variables, False)):
        file = {"driver": "file", "filename": path}
        yield from ("-blockdev", _json({"driver": driver, "node-name": name, "read-only": read_only, "file": file}))


def _boot(guest: Guest) -> list[str]:
    match guest.boot.loader:
        case Loader.IMAGE:
            image = ["-kernel", IPXE_IMAGES[guest.rule.firmware]]
            if guest.boot.script is not None and guest.rule.firmware == "uefi":
                # QEMU passes no initrd to an EFI program. iPXE runs the rest of its command line as a script.
                return [*image, "-append", f"ipxe {guest.boot.script}"]
            return [*image, "-initrd", guest.credential(SCRIPT)]
        case Loader.KERNEL:
            kernel = guest.boot.kernel
            assert kernel is not None
            initrd = ["-initrd", kernel.initrd] if kernel.initrd else []
            append = ["-append", guest.boot.cmdline] if guest.boot.cmdline else []
            return ["-kernel", kernel.image, *initrd, *append]
        case _:
            return []


def _oem_strings(guest: Guest) -> list[str]:
    """Before that of CHAP: iPXE reads the last, whose number is their count."""
    paths = [guest.credential(oem_string(name)) for name, _ in guest.rule.credentials]
    return [word for path in paths for word in ("-smbios", f"type=11,path={path}")]


def _chap(guest: Guest) -> list[str]:
    """From a file that only this guest may read: to iPXE as an OEM string of SMBIOS, to a kernel by fw_cfg."""
    chap, secret = guest.rule.chap, guest.credential(CHAP)
    if chap is None:
        return []
    if guest.boot.loader is not Loader.KERNEL:
        return ["-smbios", f"type=11,path={secret}"]
    user = ["-fw_cfg", f"name={_FW_CFG}chap-user,string={chap.user}"]
    return [*user, "-fw_cfg", f"name={_FW_CFG}chap-secret,file={secret}"]


def _tpm(guest: Guest) -> list[str]:
    if not guest.rule.tpm:
        return []
    socket = ["-chardev", f"socket,id=tpm,path={guest.tpm_folder}/socket", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
    return [*socket, "-device", _json({"driver": "tpm-crb", "tpmdev": "tpm0"})]


def _slots(guest: Guest) -> list[str]:
    """Each NIC, VF and disk on a root port of its own: on pcie.0 a device cannot be unplugged."""
    words: list[str] = []
    standby = [slot for slot, nic in zip(_nics(guest), guest.nics, strict=True) if nic.standby_for is not None]
    others = [slot for slot, nic in zip(_nics(guest), guest.nics, strict=True) if nic.standby_for is None]
    # A standby before its VF, which QEMU hides until the guest's driver asks for it (docs/system/virtio-net-failover).
    for number, (backend, device) in enumerate((*standby, *_vfs(guest), *_disks(guest), *others), 1):
        port = {"driver": "pcie-root-port", "id": f"port{number}", "bus": "pcie.0", "chassis": number, "slot": number}
        words += ["-device", _json(port), *backend, "-device", _json({**device, "bus": f"port{number}"})]
    return words


_Slot = tuple[list[str], dict[str, Any]]
"""QEMU's options for what is behind the device, and the device."""


def _nics(guest: Guest) -> Iterator[_Slot]:
    for number, nic in enumerate(guest.nics):
        device: dict[str, Any] = {"driver": "virtio-net-pci", "id": f"nic{number}", "netdev": f"tap{number}"}
        # The loader has its own driver.
        device |= {"mac": nic.mac, "romfile": ""} | ({} if nic.standby_for is None else {"failover": True})
        yield ["-netdev", f"tap,id=tap{number},fd={FIRST_TAP + number}"], device


def _vfs(guest: Guest) -> Iterator[_Slot]:
    standby = {nic.standby_for: f"nic{number}" for number, nic in enumerate(guest.nics)}
    for number, vf in enumerate(guest.vfs):
        device: dict[str, Any] = {"driver": "vfio-pci", "id": f"vf{number}", "host": vf.address}
        if guest.boot.loader is Loader.ROM and number == 0:
            device |= {"romfile": guest.credential(ROM), "bootindex": 1}
        else:
            device |= {"rombar": 0}
        yield [], device | ({"failover_pair_id": standby[number]} if number in standby else {})


def _disks(guest: Guest) -> Iterator[_Slot]:
    for number, disk in enumerate(guest.rule.disk):
        kind = "host_device" if disk.is_device else "file"
        file = {"driver": kind, "filename": disk.path}
        name = f"disk{number}"
        blockdev: dict[str, Any] = {"driver": disk.format, "node-name": name, "read-only": disk.readonly, "file": file}
        device: dict[str, Any] = {"driver": "virtio-blk-pci", "id": f"{name}-device", "drive": name}
        if disk.shared:
            # What another guest wrote must not be hidden by this host's page cache; nor may QEMU lock the others out.
            blockdev["cache"], device["share-rw"] = {"direct": True}, True
        first = {"bootindex": 1} if number == 0 and guest.boot.loader is Loader.DISK else {}
        yield ["-blockdev", _json(blockdev)], device | first
    if guest.rule.seed:
        file = {"driver": "file", "filename": guest.credential(SEED)}
        blockdev = {"driver": "raw", "node-name": "seed", "read-only": True, "file": file}
        device = {"driver": "virtio-blk-pci", "id": "seed-device", "drive": "seed"}
        yield ["-blockdev", _json(blockdev)], device


def _random() -> list[str]:
    """Without it a guest may wait for entropy at its first boot. In a slot that no port takes."""
    device = {"driver": "virtio-rng-pci", "rng": "random", "bus": "pcie.0", "addr": "1e.0"}
    return ["-object", _json({"qom-type": "rng-builtin", "id": "random"}), "-device", _json(device)]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
