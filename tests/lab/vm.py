# SPDX-License-Identifier: Apache-2.0
"""A lab VM: boots, takes commands, gets cards plugged and unplugged."""

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.lab import qemu
from tests.lab.accel import accelerator
from tests.lab.folder import Folder
from tests.lab.image import Image, host
from tests.lab.nic import Card, Options
from tests.lab.payload import Content, archive, tree_of
from tests.lab.qmp import Qmp
from tests.lab.remote import Remote

PORTS = 8
MANAGEMENT_MAC = "52:54:00:1a:b0:00"
KERNEL = (
    "console=ttyS0 loglevel=4 root=/dev/vda rw intel_iommu=on iommu=pt mitigations=off nokaslr audit=0"
    " fsck.mode=skip systemd.show_status=auto lsm=landlock,lockdown,yama,apparmor"
)


class CommandError(RuntimeError):
    """A command in the guest failed."""


class VM:
    """Use it as a context manager: QEMU ends with it, or with this process."""

    alive: ClassVar[list["VM"]] = []

    def __init__(
        self,
        nics: Sequence[Card] = (),
        payload: Mapping[str, Content] | Path | None = None,
        *,
        suite: str = "trixie",
        memory_mib: int = 2560,
        extra_qemu: Sequence[str] = (),
        extra_kernel: str = "",
    ) -> None:
        if memory_mib >= 2816:
            raise ValueError("from 2.75 GiB on, the firmware places VF BARs where the VFs do not work")
        self.image: Image = host(suite)
        self.accel = accelerator(self.image)
        self._folder = Folder()
        self.folder = self._folder.path
        self.console = self.folder / "console.log"
        self._ports: dict[str, Card] = {f"rp{n}": nic for n, nic in enumerate(nics, 1)}
        self._payload = tree_of(payload or {})
        self._memory_mib = memory_mib
        self._extra_qemu = list(extra_qemu)
        self._kernel = f"{KERNEL} {extra_kernel}".strip()
        self._boot_begin = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._remote: Remote | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ssh()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def qmp(self) -> Qmp:
        if self._qmp is None:
            raise RuntimeError("the VM does not run")
        return self._qmp

    @property
    def remote(self) -> Remote:
        if self._remote is None:
            raise RuntimeError("the VM does not run")
        return self._remote

    def start(self) -> None:
        """Starts QEMU, and returns before the guest has booted."""
        qemu.make_overlay(self.image, self.folder)
        arguments = self._machine() + self._disks() + self._management() + self._cards()
        self._process = qemu.start(self.image, self.folder, arguments + self._extra_qemu)
        VM.alive.append(self)
        self._remote = Remote(self.folder, self.image.key, self._process.pid)
        self._qmp = self._connect_qmp()

    def _connect_qmp(self) -> Qmp:
        path, deadline = self.folder / "qmp", time.monotonic() + 30
        while not path.exists():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"QEMU did not start: {(self.folder / 'qemu.log').read_text()}")
            time.sleep(0.02)
        return Qmp(path)

    def _machine(self) -> list[str]:
        accel = "kvm" if self.accel == "kvm" else "tcg,thread=multi,tb-size=512"
        cpu = "host" if self.accel == "kvm" else "max,svm=off"
        return [
            *("-machine", "q35,sata=off,smbus=off,i8042=off,vmport=off", "-accel", accel, "-cpu", cpu, "-smp", "2"),
            *("-m", str(self._memory_mib), "-nodefaults", "-display", "none"),
            *("-device", "intel-iommu,intremap=on"),
            *("-qmp", f"unix:{qemu.VM}/qmp,server=on,wait=off"),
            *("-chardev", f"socket,id=console,path={qemu.VM}/console,server=on,wait=off,logfile={qemu.VM}/console.log"),
            *("-serial", "chardev:console"),
            *("-kernel", f"{qemu.IMAGE}/vmlinuz", "-initrd", f"{qemu.IMAGE}/initrd"),
            *("-append", self._kernel),
        ]

    def _disks(self) -> list[str]:
        arguments = self._disk("root", f"{qemu.VM}/root.qcow2", "qcow2")
        if self._payload:
            (self.folder / "payload.tar").write_bytes(archive(self._payload))
            arguments += self._disk("payload", f"{qemu.VM}/payload.tar", "raw")
        return arguments

    def _disk(self, name: str, path: str, form: str) -> list[str]:
        drive = f"if=none,id={name},file={path},format={form},cache=unsafe"
        return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]

    def _management(self) -> list[str]:
        forward = f"hostfwd=tcp:127.0.0.1:{qemu.SSH_PORT}-10.0.2.15:22"
        device = f"virtio-net-pci,netdev=mgmt,mac={MANAGEMENT_MAC},romfile="
        return ["-netdev", f"user,id=mgmt,restrict=on,{forward}", "-device", device]

    def _cards(self) -> list[str]:
        arguments: list[str] = []
        for number in range(1, PORTS + 1):
            port: Options = {"driver": "pcie-root-port", "id": f"rp{number}", "bus": "pcie.0"}
            port |= {"chassis": number, "slot": number}
            arguments += ["-device", json.dumps(port)]
        for bus, card in self._ports.items():
            parts = card.parts(bus)
            arguments += [word for netdev in parts.netdevs for word in ("-netdev", json.dumps(netdev))]
            arguments += [word for device in parts.devices for word in ("-device", json.dumps(device))]
        return arguments

    def wait_ssh(self, timeout: float = 180) -> None:
        """Until commands can be run; the boot may still go on."""
        deadline = time.monotonic() + timeout
        try:
            # An attempt that comes too early costs its whole time limit.
            self.wait_for(self._announced, timeout)
            self.remote.connect(deadline)
        except TimeoutError as error:
            raise TimeoutError(f"no ssh within {timeout} s; console:\n{self.console_tail()}") from error

    def _announced(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"QEMU has ended: {(self.folder / 'qemu.log').read_text()}")
        return b"lab: ssh is up" in self.console.read_bytes()[self._boot_begin :]

    def wait_boot(self, timeout: float = 180) -> str:
        """Until systemd has no jobs left; gives its state, running or degraded."""
        return self.run("systemctl is-system-running --wait", check=False, timeout=timeout).stdout.strip()

    def console_tail(self, lines: int = 40) -> str:
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def run(
        self, command: str, *, check: bool = True, timeout: float = 60, data: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell command in the guest."""
        done = self.remote.run(command, data, timeout)
        result = subprocess.CompletedProcess(command, done.returncode, _text(done.stdout), _text(done.stderr))
        if check and done.returncode:
            raise CommandError(f"{command}: exit {done.returncode}\n{result.stdout}{result.stderr}")
        return result

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.run(f"install -D -m {mode:o} /dev/stdin {shlex.quote(path)}", data=data)

    def get(self, path: str) -> bytes:
        done = self.remote.run(f"cat {shlex.quote(path)}", None, 60)
        if done.returncode:
            raise CommandError(f"{path}: {_text(done.stderr)}")
        return done.stdout

    def put_tree(self, tree: Mapping[str, Content] | Path) -> None:
        """Lays files over the guest's root."""
        self.run("tar -x -C /", data=archive(tree_of(tree)))

    def wait_for(self, condition: str | Callable[[], object], timeout: float = 60) -> None:
        """Polls a command in the guest until it succeeds, or a function until it gives something true."""
        if isinstance(condition, str):
            loop = f"until {condition}; do sleep 0.1; done"
            self.run(f"timeout {timeout} sh -c {shlex.quote(loop)}", timeout=timeout + 30)
            return
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition} does not hold after {timeout} s")
            time.sleep(0.1)

    def hotplug(self, card: Card) -> None:
        """Puts a card into a free port; the guest notices it later."""
        free = (f"rp{number}" for number in range(1, PORTS + 1) if f"rp{number}" not in self._ports)
        bus = next(free)
        parts = card.parts(bus)
        for netdev in parts.netdevs:
            self.qmp.execute("netdev_add", netdev)
        for device in parts.devices:
            self.qmp.execute("device_add", device)
        self._ports[bus] = card

    def unplug(self, card: Card, timeout: float = 60) -> None:
        """Asks the guest for the card, and waits until it is gone."""
        bus = next(bus for bus, other in self._ports.items() if other.name == card.name)
        self.qmp.execute("device_del", {"id": card.name})
        self.qmp.wait_event("DEVICE_DELETED", timeout, device=card.name)
        for netdev in card.parts(bus).netdevs:
            self.qmp.execute("netdev_del", {"id": netdev["id"]})
        del self._ports[bus]

    def reboot(self, timeout: float = 180) -> None:
        """Until ssh answers again."""
        self.run("systemctl reboot", check=False)
        self.qmp.wait_event("RESET", timeout, guest=True)
        self._boot_begin = self.console.stat().st_size
        self.remote.close()
        self.wait_ssh(timeout)

    def shutdown(self, timeout: float = 120) -> None:
        """Powers the guest off, and waits for QEMU's end."""
        self.run("systemctl poweroff", check=False)
        if self._process:
            self._process.wait(timeout)

    def kill(self) -> None:
        """Ends QEMU at once, and removes the VM's folder."""
        if self in VM.alive:
            VM.alive.remove(self)
        if self._remote:
            self._remote.close()
        if self._qmp:
            self._qmp.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._folder.remove()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
