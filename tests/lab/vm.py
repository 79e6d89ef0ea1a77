# SPDX-License-Identifier: Apache-2.0
"""A lab VM: boots, runs commands, plugs and unplugs cards."""

import contextlib
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.lab.accel import accelerator
from tests.lab.folder import Folder
from tests.lab.image import Image, host
from tests.lab.image import hypervisor as hypervisor_image
from tests.lab.machine import PORTS, Machine
from tests.lab.nic import Card
from tests.lab.payload import Content, archive, tree_of
from tests.lab.qemu import IMAGE, Place
from tests.lab.qmp import Qmp
from tests.lab.remote import Remote

DRIVE_BYTES = 64 << 20


class CommandError(RuntimeError):
    """A command in the VM failed."""


class VM:
    """A context manager: QEMU ends with it, or with this process."""

    alive: ClassVar[list["VM"]] = []

    def __init__(
        self,
        nics: Sequence[Card] = (),
        payload: Mapping[str, Content] | Path | None = None,
        *,
        suite: str = "trixie",
        hypervisor: bool = False,
        image: Image | None = None,
        memory_mib: int = 2560,
        extra_qemu: Sequence[str] = (),
        extra_kernel: str = "",
    ) -> None:
        self.suite = suite
        self.image = image or (hypervisor_image(suite) if hypervisor else host(suite))
        self._folder = Folder()
        self.folder = self._folder.path
        self.console = self.folder / "console.log"
        self.payload = tree_of(payload or {})
        self.cards: dict[str, Card] = dict(zip(PORTS, nics, strict=False))
        self._machine = Machine(accelerator(self.image), memory_mib, extra_kernel, extra=tuple(extra_qemu))
        self._spent: set[str] = set()
        self._boot_begin = 0
        self._place: Place | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._remote: Remote | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ssh()
            self._arrange()
        except BaseException:
            self.kill()
            raise
        return self

    def _arrange(self) -> None:
        """Runs after ssh is up and before the VM is used."""

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

    @property
    def machine(self) -> Machine:
        """The hardware that QEMU starts with."""
        return replace(self._machine, payload=bool(self.payload), cards=self.cards)

    def start(self) -> None:
        """Starts QEMU, and returns before the VM has booted."""
        if self.payload:
            (self.folder / "payload.tar").write_bytes(archive(self.payload))
        place = Place(self.image.tools, self.folder, {self.image.directory: IMAGE})
        place.make_overlay(f"{IMAGE}/disk.raw", "raw")
        for name in self.machine.drives():
            with (self.folder / name).open("wb") as drive:
                drive.truncate(DRIVE_BYTES)
        self._launch(place, self.machine.arguments())

    def _launch(self, place: Place, arguments: list[str]) -> None:
        self._place = place
        self._process = place.start(arguments)
        VM.alive.append(self)
        self._remote = Remote(self.folder, self.image.key, self._process.pid)
        self._qmp = self._connect_qmp()

    def _connect_qmp(self) -> Qmp:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self._check_runs()
            # The socket's file exists a moment before QEMU listens.
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return Qmp(self.folder / "qmp")
            time.sleep(0.02)
        raise TimeoutError("QEMU opens no QMP socket")

    def _check_runs(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"QEMU does not run: {(self.folder / 'qemu.log').read_text()}")

    def wait_ssh(self, timeout: float = 180) -> None:
        """Waits until commands can be run; the boot may not be finished."""
        deadline = time.monotonic() + timeout
        try:
            # An attempt before sshd listens takes its whole time limit.
            self.wait_for(self._announced, timeout)
            self.remote.connect(deadline)
        except TimeoutError as error:
            raise TimeoutError(f"no ssh within {timeout} s; console:\n{self.console_tail()}") from error

    def _announced(self) -> bool:
        self._check_runs()
        return b"lab: ssh is up" in self.console.read_bytes()[self._boot_begin :]

    def wait_boot(self, timeout: float = 180) -> str:
        """Waits until systemd has no jobs left; returns its state, running or degraded."""
        return self.run("systemctl is-system-running --wait", check=False, timeout=timeout).stdout.strip()

    def console_tail(self, lines: int = 40) -> str:
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def run(
        self, command: str, *, check: bool = True, timeout: float = 60, data: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell command in the VM."""
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
        """Copies files into the VM's root."""
        self.run("tar -x -C /", data=archive(tree_of(tree)))

    def wait_for(self, condition: str | Callable[[], object], timeout: float = 60) -> None:
        """Polls a command in the VM until it succeeds, or a function until it returns something true."""
        if isinstance(condition, str):
            # Each turn takes CPU time of the emulated VM.
            loop = f"until {{ {condition}; }} >/dev/null 2>&1; do sleep 0.3; done"
            self.run(f"timeout {timeout} sh -c {shlex.quote(loop)}", timeout=timeout + 30)
            return
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{condition} does not hold after {timeout} s")
            time.sleep(0.3)

    def address(self, card: Card) -> str:
        """The PCI address of a card's PF."""
        return f"0000:{PORTS.index(self._port(card)) + 1:02x}:00.0"

    def _port(self, card: Card) -> str:
        return next(port for port, other in self.cards.items() if other.name == card.name)

    def hotplug(self, card: Card, timeout: float = 60) -> str:
        """Plugs a card into a free port, and returns its PF's address once the VM's kernel has it."""
        self.plug(card)
        self.wait_for(f"test -e /sys/bus/pci/devices/{self.address(card)}", timeout)
        return self.address(card)

    def plug(self, card: Card) -> None:
        """Plugs a card into a free port, and runs no command in the VM."""
        bus = next(port for port in PORTS if port not in self.cards and port not in self._spent)
        parts = card.parts(bus)
        for netdev in parts.netdevs:
            self.qmp.execute("netdev_add", netdev)
        for device in parts.devices:
            self.qmp.execute("device_add", device)
        self.cards[bus] = card

    def unplug(self, card: Card, timeout: float = 60) -> None:
        """Requests the card from the VM, and waits until it is gone."""
        self.request(card)
        self.wait_unplugged(card, timeout)

    def request(self, card: Card) -> None:
        """Requests the card from the VM; it is gone when its kernel has let go of it."""
        self.qmp.execute("device_del", {"id": card.parts(self._port(card)).pf})

    def wait_unplugged(self, card: Card, timeout: float = 60) -> None:
        port = self._port(card)
        parts = card.parts(port)
        self.qmp.wait_event("DEVICE_DELETED", timeout, device=parts.pf)
        for netdev in parts.netdevs:
            self.qmp.execute("netdev_del", {"id": netdev["id"]})
        del self.cards[port]
        if parts.spends_port:
            self._spent.add(port)

    def reboot(self, timeout: float = 180) -> None:
        """Reboots, and waits until ssh answers again."""
        self.run("systemctl reboot", check=False)
        self.qmp.wait_event("RESET", timeout, guest=True)
        self._boot_begin = self.console.stat().st_size
        self.remote.close()
        self.wait_ssh(timeout)

    def power_cycle(self, timeout: float = 180) -> None:
        """Power off and on, with the same disk and cards, until ssh answers.

        For measured boots: a QEMU that runs through a reboot has the translated code of the old kernel, and drops it
        piece by piece, every second or third time all of it at once: 10 to 11.4 s instead of 7.3 to 8.3.
        """
        self.shutdown(timeout)
        self._disconnect()
        self.payload, self._boot_begin = {}, 0  # the disk has it
        assert self._place is not None
        self._launch(self._place, self.machine.arguments())
        self.wait_ssh(timeout)

    def shutdown(self, timeout: float = 120) -> None:
        """Powers the VM off, and waits for QEMU's end."""
        self.run("systemctl poweroff", check=False)
        if self._process:
            self._process.wait(timeout)

    def kill(self) -> None:
        """Ends QEMU at once, and removes the VM's folder."""
        self._disconnect()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._folder.remove()

    def _disconnect(self) -> None:
        if self in VM.alive:
            VM.alive.remove(self)
        if self._remote:
            self._remote.close()
        if self._qmp:
            self._qmp.close()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
