# SPDX-License-Identifier: Apache-2.0
"""A private bus with a fake systemd that logs each call: `python -m … ADDRESS ROOT`.

A guest is a `sleep`: SIGTERM ends it cleanly, anything else is a crash. It holds its VFs, and has a cgroup.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

NAME = "org.freedesktop.systemd1"
MANAGER = DBusAddress("/org/freedesktop/systemd1", NAME, f"{NAME}.Manager")
PROJECT = Path(__file__).parents[2]
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>
"""
FAULTS, BEGUN, RUN_STATES, AWAY, QUEUED = "bus-faults", "begun", "run-states", "away-devices", "queued"
ABSENT = {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}
LOADED = {
    "/loaded/vfagent_2eservice": {
        "LoadState": "loaded",
        "ActiveState": "failed",
        "UnitFileState": "enabled",
        "Result": "exit-code",
    }
}


def _as_text(data: Any) -> str:
    """Of a descriptor, the file that it is open on."""
    if isinstance(data, bytes):
        return data.decode("latin-1")
    with data.to_file("rb") as file:
        return os.readlink(f"/proc/self/fd/{file.fileno()}")


class Unit:
    """`failed`: its process has crashed. `gone`: it has ended, by SIGTERM."""

    def __init__(self, name: str, properties: dict[str, Any], root: Path) -> None:
        self.properties = properties
        self.process, self.started_at = subprocess.Popen(["sleep", "1000"]), time.time()
        environment = dict(word.split("=") for word in properties.get("Environment", []))
        self.enables = [root / f"sys/bus/pci/devices/{vf}/enable" for vf in environment["VFAGENT_VFS"].split(",")]
        self.cgroup = root / "sys/fs/cgroup/machine.slice" / name
        self.cgroup.mkdir(parents=True)
        self.hold("1")

    def hold(self, text: str) -> None:
        for path in self.enables:
            if path.exists():
                path.write_text(text)

    @property
    def failed(self) -> bool:
        return self.process.poll() not in (None, -signal.SIGTERM)

    @property
    def gone(self) -> bool:
        if self.process.poll() is not None and self.cgroup.exists():
            self.cgroup.rmdir()
            self.hold("0")
        return self.process.poll() == -signal.SIGTERM


def run_to_end(properties: dict[str, Any], cache: Path) -> bool:
    """A oneshot service, with its credentials, its cache and its output where systemd would put them."""
    [(program, words, _)] = properties["ExecStart"]
    folders = [cache / name for name in properties.get("CacheDirectory", [])]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as credentials:
        for name, path in properties.get("LoadCredential", []):
            Path(credentials, name).write_bytes(Path(path).read_bytes())
        env = os.environ | {"CACHE_DIRECTORY": ":".join(map(str, folders)), "CREDENTIALS_DIRECTORY": credentials}
        private = "/var/cache/private"
        argv = [program, *(word.replace("$$", "$").replace(private, str(cache)) for word in words[1:])]
        out, log = (properties.get(f"Standard{stream}FileToTruncate", os.devnull) for stream in ("Output", "Error"))
        with open(out, "wb") as stdout, open(log, "wb") as stderr:
            return subprocess.run(argv, env=env, stdout=stdout, stderr=stderr, check=False).returncode == 0


class FakeSystemd:
    """`silent` units get no JobRemoved, `slow` ones a late one; `broken` ones fail; a unit that is there is refused."""

    def __init__(self, address: str, root: Path) -> None:
        self.bus: Any = open_dbus_connection(bus=address, enable_fds=True)
        self.root, self.log = root, root / "calls"
        self.units: dict[str, Unit] = {}
        self.ended: dict[str, Unit] = {}  # as long as another unit names them
        self.jobs = 0
        self.sender, self.subscribed = "", set[str]()
        self.oneshot: tuple[str, dict[str, Any]] | None = None
        for name in (NAME, "org.freedesktop.machine1"):
            self.bus.send_and_get_reply(message_bus.RequestName(name))

    def serve(self) -> None:
        print("ready", flush=True)
        signal.signal(signal.SIGTERM, self._leave)
        while True:
            message = self.bus.receive()
            if message.header.message_type is MessageType.method_call:
                self.answer(message)

    def _leave(self, *_: object) -> None:
        for unit in self.units.values():
            unit.process.kill()
            unit.process.wait()
        sys.exit(0)

    def answer(self, message: Any) -> None:
        member = message.header.fields[HeaderFields.member]
        with self.log.open("a") as log:
            print(json.dumps([member, message.body], default=_as_text), file=log)
        for name in [name for name, unit in self.units.items() if unit.gone]:
            self.ended[name] = self.units.pop(name)
        self._collect()
        self.sender = message.header.fields[HeaderFields.sender]
        fault = self._fault(member)
        if fault == "unanswered":
            return
        try:
            if fault == "refused":
                raise LookupError("Failed")
            path = message.header.fields[HeaderFields.path]
            target = (path,) if member == "Get" else ()
            signature, body = getattr(self, member)(*target, *message.body)
            if fault == "lost":
                raise LookupError("Failed")
        except LookupError as error:
            self.bus.send(new_error(message, f"{NAME}.{error.args[0]}", "s", (f"Unit: {error.args[0]}.",)))
            return
        self.bus.send(new_method_return(message, signature, body))
        if self.oneshot:
            self._run_oneshot(*self.oneshot)

    def _fault(self, member: str) -> str | None:
        """How this call fails, once: "refused", "lost" (done, but the reply is an error), or "unanswered"."""
        script = self.root / FAULTS
        faults: dict[str, str] = json.loads(script.read_text()) if script.exists() else {}
        fault = faults.pop(member, None)
        if fault:
            script.with_suffix(".new").write_text(json.dumps(faults))
            script.with_suffix(".new").replace(script)
        return fault

    def _run_oneshot(self, unit: str, properties: dict[str, Any]) -> None:
        """After the reply, as it may take longer than a reply is waited for."""
        self.oneshot = None
        result = "done" if run_to_end(properties, self.root / "var/cache") else "failed"
        job = (self.jobs, f"/org/freedesktop/systemd1/job/{self.jobs}", unit, result)
        self.bus.send(new_signal(MANAGER, "JobRemoved", "uoss", job))

    def _job(self, unit: str) -> tuple[str, tuple[str]]:
        self.jobs += 1
        path = f"/org/freedesktop/systemd1/job/{self.jobs}"
        result = "failed" if "broken" in unit else "dependency" if "alone" in unit else "done"
        if "slow" in unit:
            time.sleep(1)
        others = (self.jobs + 100, f"{path}00", "other.service", "done")
        for body in (others, (self.jobs, path, unit, result)):
            if "silent" not in unit and self.sender in self.subscribed:
                # Before the reply, which systemd may do too.
                self.bus.send(new_signal(MANAGER, "JobRemoved", "uoss", body))
        return "o", (path,)

    def Ping(self) -> tuple[None, tuple[()]]:  # noqa: N802
        return None, ()

    def Subscribe(self) -> tuple[None, tuple[()]]:  # noqa: N802
        if self.sender in self.subscribed:
            raise LookupError("AlreadySubscribed")
        self.subscribed.add(self.sender)
        return None, ()

    def _collect(self) -> None:
        """systemd drops an ended unit, unless another one names it (unit_may_gc(), UNIT_ATOM_REFERENCED_BY)."""
        named: set[str] = set()
        for unit in self.units.values():
            for key in ("After", "Before", "BindsTo", "Requires", "Wants"):
                named.update(unit.properties.get(key, []))
        self.ended = {name: unit for name, unit in self.ended.items() if name in named}

    def StartTransientUnit(self, unit: str, mode: str, properties: list[Any], aux: list[Any]) -> Any:  # noqa: N802
        if unit in {**self.units, **self.ended}:
            raise LookupError("UnitExists")
        values = {name: value for name, (_, value) in properties}
        if unit.startswith("vfagent-rom-build-"):
            self.jobs += 1
            self.oneshot = (unit, values)
            return "o", (f"/org/freedesktop/systemd1/job/{self.jobs}",)
        self.units[unit] = Unit(unit, values, self.root)
        with (self.root / BEGUN).open("a") as begun:
            print(unit, file=begun)
        return self._job(unit)

    def StopUnit(self, unit: str, mode: str) -> Any:  # noqa: N802
        self._end(unit)
        return self._job(unit)

    def ReloadUnit(self, unit: str, mode: str) -> Any:  # noqa: N802
        """ExecReload= of a guest: its exit status is in a file of the test's."""
        if "ExecReload" not in self.units[unit].properties:
            raise LookupError("JobTypeNotApplicable")
        return self._job(unit)

    def GetUnit(self, unit: str) -> Any:  # noqa: N802
        return "o", (f"/unit/{list(self.units).index(unit)}",)

    def KillUnit(self, unit: str, whom: str, number: int) -> Any:  # noqa: N802
        assert whom == "main"
        self.units[unit].process.send_signal(number)
        return None, ()

    def ResetFailedUnit(self, unit: str) -> Any:  # noqa: N802
        if unit in self.units and self.units[unit].failed:
            self._end(unit)
        return None, ()

    def _end(self, unit: str) -> None:
        if unit not in self.units:
            raise LookupError("NoSuchUnit")
        ended = self.ended[unit] = self.units.pop(unit)
        ended.process.terminate()
        ended.process.wait()
        assert ended.gone or ended.failed
        self._collect()

    def ListUnitsByPatterns(self, states: list[str], patterns: list[str]) -> Any:  # noqa: N802
        rows = [
            (name, "", "loaded", self._active(name, unit), "", "", f"/unit/{number}", self._queued(name), "", "/")
            for number, (name, unit) in enumerate({**self.units, **self.ended}.items())
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        return "a(ssssssouso)", (rows,)

    def _active(self, name: str, unit: Unit) -> str:
        if name in self.ended or self._queued(name):
            return "inactive"
        return "failed" if unit.failed else "active"

    def _queued(self, name: str) -> int:
        """The number of its job that has not begun."""
        file = self.root / QUEUED
        return 1 if file.exists() and name in file.read_text().split() else 0

    def LoadUnit(self, unit: str) -> Any:  # noqa: N802
        return "o", (f"/loaded/{re.sub('[^a-zA-Z0-9]', lambda char: f'_{ord(char[0]):02x}', unit)}",)

    def Get(self, path: str, interface: str, name: str) -> Any:  # noqa: N802
        if path.endswith("_2edevice"):
            away = self.root / AWAY
            gone = away.exists() and path in away.read_text()
            return "v", (("s", "inactive" if gone else "active"),)
        if path.startswith("/loaded/"):
            return "v", (("s", LOADED.get(path, ABSENT)[name]),)
        name_of, unit = list({**self.units, **self.ended}.items())[int(path.rpartition("/")[2])]
        values = {
            "Environment": ("as", unit.properties["Environment"]),
            "Result": ("s", "signal" if unit.failed else "success"),
            "MainPID": ("u", 0 if unit.failed else unit.process.pid),
            "NRestarts": ("u", 0),
            "ExecMainStartTimestamp": ("t", int(unit.started_at * 1e6)),
            "Restart": ("s", unit.properties.get("Restart", "no")),
            "ExecReload": ("a(sasbttttuii)", [("/ask", ["/ask"], True, 0, 0, 0, 0, 0, *self._asked(name_of))]),
        }
        return "v", (values[name],)

    def _asked(self, unit: str) -> tuple[int, int]:
        """How ask-guest ended: si_code and si_status."""
        file = self.root / RUN_STATES
        states: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        return os.CLD_EXITED, states.get(unit, 64)

    def RegisterMachine(self, *about: Any) -> Any:  # noqa: N802
        return "o", ("/machine",)


@contextmanager
def private_bus(folder: Path, name: str = "bus") -> Iterator[str]:
    """The address of a bus that ends with the test."""
    address = f"unix:path={folder}/{name}"
    (folder / "bus.conf").write_text(CONFIG.format(socket=folder / name))
    argv = ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--print-address"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        daemon.stdout.readline()
        yield address
        daemon.terminate()


@contextmanager
def fake_systemd(folder: Path) -> Iterator[tuple[str, Path]]:
    """A bus with a systemd: its address, and the log of what it was asked. `folder` is a host's root.

    Whoever is early waits for systemd, as the bus has it for this name (bus_activation_activate_service() in D-Bus'
    bus/activation.c): the socket has its name once that is there.
    """
    log = folder / "calls"
    log.touch()
    with private_bus(folder, "early-bus") as address:
        argv = [sys.executable, "-m", "tests.host.fake_systemd", address, str(folder)]
        with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            (folder / "early-bus").rename(folder / "bus")
            yield f"unix:path={folder}/bus", log
            process.terminate()
            for path in folder.glob("sys/fs/cgroup/machine.slice/*"):
                path.rmdir()


if __name__ == "__main__":
    FakeSystemd(sys.argv[1], Path(sys.argv[2])).serve()
