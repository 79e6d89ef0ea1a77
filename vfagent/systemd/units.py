# SPDX-License-Identifier: Apache-2.0
"""systemd and machined over D-Bus: guests' transient units.

Calls block, so they are made in workers. `load_jeepney` imports jeepney before the first of them is forked: twenty
guests need some sixty workers, and the import takes 20 ms.
"""

import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vfagent.errors import VfagentError, errno_text
from vfagent.frozen import frozen
from vfagent.model.guest_unit import (
    ENV_RULE,
    ENV_VFS,
    UNIT_PREFIX,
    UNIT_SUFFIX,
    FoundUnit,
    UnitSpec,
    escape_path,
    guest_of_unit,
)
from vfagent.model.pci import PciAddress

_SYSTEMD = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
_MACHINED = ("/org/freedesktop/machine1", "org.freedesktop.machine1", "org.freedesktop.machine1.Manager")
_DAEMON = ("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_PROPERTIES = "org.freedesktop.DBus.Properties"
UNITS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_REPLY_S = 25.0
_NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"
_NO_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"


def load_jeepney() -> None:
    """For workers to share. An agent without guests does not need it."""
    import jeepney.io.blocking  # noqa: F401


def bus_socket(address: str) -> Path | None:
    """The bus's socket, None where it has no path (D-Bus specification, "Server Addresses")."""
    if address == "SYSTEM":
        address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", _SYSTEM_BUS)
    kind, _, values = address.partition(":")
    path = dict(pair.partition("=")[::2] for pair in values.split(",")).get("path")
    return Path(path) if kind == "unix" and path and not {";", "%"} & set(address) else None


@frozen(slots=True)
class UnitState:
    """A unit's state as systemd has it. `loaded`: the unit exists."""

    loaded: bool
    active: str
    enabled: str
    result: str


class BusError(VfagentError):
    """A call failed; `name` is the D-Bus error name, "" where there was no reply."""

    def __init__(self, message: str, name: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.name = name


class NoBusError(BusError):
    """There is no bus, or it does not answer yet."""


class Systemd:
    """One connection. `address` is the system bus, or a test's own. `fds`: whether it passes descriptors."""

    def __init__(self, address: str = "SYSTEM", *, fds: bool = False) -> None:
        from jeepney.io.blocking import open_dbus_connection

        self._subscribed = False
        try:
            # jeepney's default of one second is too short on a host that starts twenty guests.
            self._bus: Any = open_dbus_connection(bus=address, enable_fds=fds, auth_timeout=_REPLY_S)
        except (OSError, KeyError, ValueError) as error:
            cause = errno_text(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            if isinstance(error, TimeoutError | BlockingIOError):  # jeepney reads without blocking once its time is up
                cause = f"no answer within {_REPLY_S:g} s"
            raise NoBusError(f"systemd: cannot connect to D-Bus: {cause}", hint="is dbus.socket active?") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.close()

    def start(self, spec: UnitSpec, timeout_s: float, fds: tuple[int, ...] = ()) -> str:
        """Start the unit and wait for its job. Returns the job's result, `done` when it runs. Raises BusError.

        `fds`, two at most, are its standard input and standard error. systemd has them open until the unit has ended,
        restarts included (service_release_resources()); 252 can pass no others to a transient unit.
        """
        properties = [(item.name, (item.signature, item.value)) for item in spec.properties]
        properties += [
            (f"Standard{name}FileDescriptor", ("h", fd)) for name, fd in zip(("Input", "Error"), fds, strict=False)
        ]
        body: tuple[Any, ...] = (spec.unit, "fail", properties, [])
        try:
            return self._job("StartTransientUnit", "ssa(sv)a(sa(sv))", body, spec.unit, timeout_s)
        except BusError as error:
            if error.name != _UNIT_EXISTS:
                raise
        # A failed unit keeps its name until it is reset. Not reset in advance: it rarely exists, and each call takes 20
        # to 50 ms of a boot.
        self.reset_failed(spec.unit)
        try:
            return self._job("StartTransientUnit", "ssa(sv)a(sa(sv))", body, spec.unit, timeout_s)
        except BusError as error:
            if error.name == _UNIT_EXISTS:  # systemd keeps a unit that another one names, and its old properties
                error.hint = f"if it has ended, another unit names it: systemctl show -p ReferencedBy {spec.unit}"
            raise

    def stop(self, unit: str, timeout_s: float) -> str:
        """Stop the unit and wait for its job. A unit that does not exist is stopped."""
        try:
            return self._job("StopUnit", "ss", (unit, "replace"), unit, timeout_s)
        except BusError as error:
            if error.name == _NO_UNIT:
                return "done"
            raise

    def reload(self, unit: str, timeout_s: float) -> int | None:
        """Reload the unit, and return the exit status of its ExecReload=; None where it has none, or was killed."""
        if self._job("ReloadUnit", "ss", (unit, "fail"), unit, timeout_s) != "done":
            return None
        [path] = self._call(_SYSTEMD, "GetUnit", "s", (unit,))
        *_, code, status = self._service(path, "ExecReload")[-1]
        return int(status) if code == os.CLD_EXITED else None

    def restarts_after_kill(self, unit: str) -> bool:
        """Whether systemd restarts it after its main process was killed (systemd.service(5), Restart=)."""
        [path] = self._call(_SYSTEMD, "GetUnit", "s", (unit,))
        return self._service(path, "Restart") in ("always", "on-failure", "on-abnormal", "on-abort")

    def kill_main(self, unit: str) -> None:
        self._call(_SYSTEMD, "KillUnit", "ssi", (unit, "main", signal.SIGKILL.value))

    def reset_failed(self, unit: str) -> None:
        """Reset its result and its restart counter."""
        try:
            self._call(_SYSTEMD, "ResetFailedUnit", "s", (unit,))
        except BusError as error:
            if error.name != _NO_UNIT:
                raise

    def guests(self, guest: str = "*") -> tuple[FoundUnit, ...]:
        """The units of all guests, or of this one.

        An inactive one has ended, and is listed as long as another unit names it. With a job it is about to start.
        """
        patterns: tuple[list[str], list[str]] = ([], [f"{UNIT_PREFIX}{guest}{UNIT_SUFFIX}"])
        [units] = self._call(_SYSTEMD, "ListUnitsByPatterns", "asas", patterns)
        guests = []
        for name, _, load, active, sub, _, path, job, *_ in units:
            if load != "not-found" and (active != "inactive" or job):
                guests.append(self._found(name, "activating" if active == "inactive" else active, sub, path))
        return tuple(guests)

    def state(self, unit: str) -> UnitState:
        """Also of a unit that is not loaded yet, or does not exist."""
        [path] = self._call(_SYSTEMD, "LoadUnit", "s", (unit,))
        names = ("LoadState", "ActiveState", "UnitFileState")
        load, active, enabled = (self._property(path, "Unit", name) for name in names)
        result = self._service(path, "Result") if load == "loaded" else ""
        return UnitState(load != "not-found", active, "masked" if load == "masked" else enabled, result)

    def device_is_there(self, path: str) -> bool:
        """Whether udev has handled the device of this path or link, and finds it ready (SYSTEMD_READY=)."""
        [unit] = self._call(_SYSTEMD, "LoadUnit", "s", (f"{escape_path(path)}.device",))
        return bool(self._property(unit, "Unit", "ActiveState") == "active")

    def _found(self, unit: str, active: str, sub: str, path: str) -> FoundUnit:
        environment = dict(word.partition("=")[::2] for word in self._service(path, "Environment"))
        vfs = tuple(PciAddress(vf) for vf in environment.get(ENV_VFS, "").split(",") if vf)
        result, pid = self._service(path, "Result"), self._service(path, "MainPID")
        restarts, started = self._service(path, "NRestarts"), self._service(path, "ExecMainStartTimestamp")
        rule, started_at = environment.get(ENV_RULE, ""), started / 1e6 if pid else None
        active = "active" if active == "reloading" else active  # it is asked whether it runs
        return FoundUnit(guest_of_unit(unit), active, sub, result, pid, vfs, rule, restarts, started_at)

    def _service(self, path: str, name: str) -> Any:
        return self._property(path, "Service", name)

    def _property(self, path: str, kind: str, name: str) -> Any:
        target = (path, _SYSTEMD[1], _PROPERTIES)
        [(_, value)] = self._call(target, "Get", "ss", (f"org.freedesktop.systemd1.{kind}", name))
        return value

    def register_machine(self, name: str, uuid: bytes, pid: int) -> None:
        """Register with machined. Machine names are host names, which have no `_`."""
        body: tuple[Any, ...] = (name.replace("_", "-"), uuid, "vfagent", "vm", pid, "")
        self._call(_MACHINED, "RegisterMachine", "sayssus", body)

    def _job(self, method: str, signature: str, body: tuple[Any, ...], unit: str, timeout_s: float) -> str:
        """The reply only says that the job is queued. A signal reports its end, possibly before the reply.

        Anybody on the bus may send us a JobRemoved: a match rule of the bus does not keep out what is sent to one
        connection. The bus vouches for the sender's unique name, so only systemd's own counts.
        """
        from jeepney import MatchRule

        owner = self._owner()
        rule = MatchRule(type="signal", sender=owner, interface=_SYSTEMD[2], member="JobRemoved", path=_SYSTEMD[0])
        if not self._subscribed:
            # Once: a second time is an error. Replies are not waited for: bus and systemd keep the order of one peer's
            # messages.
            self._send(_DAEMON, "AddMatch", "s", (rule.serialise(),))
            self._send(_SYSTEMD, "Subscribe", None, ())
            self._subscribed = True
        end = time.monotonic() + timeout_s
        with self._bus.filter(rule, bufsize=1024) as signals:
            [job] = self._call(_SYSTEMD, method, signature, body)
            while True:
                try:
                    removed = self._bus.recv_until_filtered(signals, timeout=max(0.0, end - time.monotonic()))
                except (OSError, TimeoutError) as error:
                    raise BusError(f"{unit}: {method} did not end within {timeout_s:.0f} s") from error
                if removed.body[1] == job:
                    return str(removed.body[3])

    def _owner(self) -> str:
        """systemd's unique name on the bus. Asked for each job: systemd has another after `daemon-reexec`."""
        try:
            [owner] = self._call(_DAEMON, "GetNameOwner", "s", (_SYSTEMD[1],))
        except BusError as error:
            if error.name != _NO_OWNER:
                raise
            # systemd takes its name a moment after the bus is there. The bus keeps a call to it until then.
            self._call((_SYSTEMD[0], _SYSTEMD[1], "org.freedesktop.DBus.Peer"), "Ping", None, ())
            [owner] = self._call(_DAEMON, "GetNameOwner", "s", (_SYSTEMD[1],))
        return str(owner)

    def _send(self, target: tuple[str, str, str], method: str, signature: str | None, body: tuple[Any, ...]) -> None:
        from jeepney import MessageFlag

        message = _message(target, method, signature, body)
        message.header.flags |= MessageFlag.no_reply_expected
        try:
            self._bus.send(message)
        except OSError as error:
            raise BusError(f"systemd: cannot {method}: {error}") from error

    def _call(self, target: tuple[str, str, str], method: str, signature: str | None, body: tuple[Any, ...]) -> Any:
        from jeepney import DBusErrorResponse
        from jeepney.wrappers import unwrap_msg

        try:
            message = _message(target, method, signature, body)
            return unwrap_msg(self._bus.send_and_get_reply(message, timeout=_REPLY_S))
        except DBusErrorResponse as error:
            text = error.data[0] if error.data and isinstance(error.data[0], str) else error.name
            raise BusError(f"systemd: cannot {method} {_object(body)}: {text}", error.name) from error
        except (OSError, TimeoutError) as error:
            raise BusError(f"systemd: cannot {method}: {str(error) or 'no reply'}") from error


def _message(target: tuple[str, str, str], method: str, signature: str | None, body: tuple[Any, ...]) -> Any:
    from jeepney import DBusAddress, new_method_call

    path, name, interface = target
    return new_method_call(DBusAddress(path, name, interface), method, signature, body)


def _object(body: tuple[Any, ...]) -> str:
    return body[0] if body and isinstance(body[0], str) else ""


def device_unit(address: PciAddress, root: Path = Path("/")) -> str:
    """The device unit of a PCI function that udev tagged `systemd`: its path in sysfs, escaped."""
    path = os.path.realpath(root / "sys/bus/pci/devices" / address)
    own = "/" + os.path.relpath(path, root)
    return escape_path(own) + ".device"
