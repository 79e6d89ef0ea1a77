# SPDX-License-Identifier: Apache-2.0
"""Transient units over a real bus, with a fake systemd."""

import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jeepney import DBusAddress, HeaderFields, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

from tests.host.fake_systemd import NAME, fake_systemd, private_bus
from vfagent.model.guest_unit import FoundUnit, Property, UnitSpec, escape_path
from vfagent.model.pci import PciAddress
from vfagent.systemd.units import BusError, Systemd, device_unit

VF = PciAddress("0000:01:10.0")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    with fake_systemd(tmp_path) as bus_and_log:
        yield bus_and_log


def calls(log: Path, member: str) -> list[Any]:
    lines = (json.loads(line) for line in log.read_text().splitlines())
    return [body for name, body in lines if name == member]


def spec(name: str) -> UnitSpec:
    environment = Property("Environment", "as", [f"VFAGENT_VFS={VF}", "VFAGENT_RULE=abc"])
    command = Property("ExecStart", "a(sasb)", [("/bin/true", ["/bin/true", "-x"], False)])
    files = Property("SetCredential", "a(say)", [("boot.ipxe", b"#!ipxe\n")])
    return UnitSpec(f"vfagent-guest-{name}.service", (environment, command, files, Property("UMask", "u", 0o77)))


def test_start_sends_the_properties_and_waits_for_its_own_job(place: tuple[str, Path]) -> None:
    address, log = place
    with Systemd(address) as systemd:
        assert systemd.start(spec("x"), 5) == "done"
    [(unit, mode, properties, aux)] = calls(log, "StartTransientUnit")
    assert (unit, mode, aux) == ("vfagent-guest-x.service", "fail", [])
    assert dict(properties)["ExecStart"] == ["a(sasb)", [["/bin/true", ["/bin/true", "-x"], False]]]
    assert dict(properties)["SetCredential"] == ["a(say)", [["boot.ipxe", "#!ipxe\n"]]]


def test_descriptors_are_the_units_standard_input_and_error(place: tuple[str, Path], tmp_path: Path) -> None:
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("first", "second")]
    with Systemd(place[0], fds=True) as systemd:
        assert systemd.start(spec("x"), 5, tuple(fds)) == "done"
    for fd in fds:
        os.close(fd)
    [(_, _, properties, _)] = calls(place[1], "StartTransientUnit")
    assert dict(properties)["StandardInputFileDescriptor"] == ["h", str(tmp_path / "first")]
    assert dict(properties)["StandardErrorFileDescriptor"] == ["h", str(tmp_path / "second")]


def test_one_connection_serves_several_jobs(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert [systemd.start(spec("x"), 5), systemd.stop("vfagent-guest-x.service", 5)] == ["done", "done"]
        assert systemd.start(spec("x"), 5) == "done"


def test_start_returns_the_result_of_a_failed_job(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert systemd.start(spec("broken"), 5) == "failed"


@contextmanager
def forger(address: str) -> Iterator[None]:
    """Another user of the bus, who tells everybody that each of the first jobs failed, again and again."""
    stop = threading.Event()
    manager = DBusAddress("/org/freedesktop/systemd1", NAME, f"{NAME}.Manager")

    def forge() -> None:
        bus: Any = open_dbus_connection(bus=address)
        with bus:
            while not stop.is_set():
                reply = bus.send_and_get_reply(message_bus.ListNames())
                for name in (name for name in reply.body[0] if name.startswith(":") and name != bus.unique_name):
                    for job in range(1, 4):
                        body = (job, f"/org/freedesktop/systemd1/job/{job}", "any.service", "failed")
                        signal_ = new_signal(manager, "JobRemoved", "uoss", body)
                        signal_.header.fields[HeaderFields.destination] = name
                        bus.send(signal_)

    thread = threading.Thread(target=forge)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_only_systemd_tells_how_a_job_ended(place: tuple[str, Path]) -> None:
    with forger(place[0]), Systemd(place[0]) as systemd:
        assert systemd.start(spec("slow"), 20) == "done"


def test_systemd_is_waited_for_when_the_bus_is_there_before_it(tmp_path: Path) -> None:
    with private_bus(tmp_path) as address, Systemd(address) as systemd:
        with pytest.raises(BusError, match=r"cannot Ping") as caught:
            systemd.start(spec("x"), 5)
        assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"  # no activation on this bus


def test_a_job_that_does_not_end_is_an_error(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd, pytest.raises(BusError, match=r"StartTransientUnit did not end within 1 s"):
        systemd.start(spec("silent"), 1)


def test_an_existing_unit_is_an_error_of_its_own(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        systemd.start(spec("x"), 5)
        with pytest.raises(BusError, match=r"cannot StartTransientUnit vfagent-guest-x\.service") as caught:
            systemd.start(spec("x"), 5)
    assert caught.value.name == "org.freedesktop.systemd1.UnitExists"


def test_a_failed_unit_is_started_again(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        systemd.start(spec("x"), 5)
        [failed] = systemd.guests()
        os.kill(failed.pid, signal.SIGKILL)
        while systemd.guests()[0].active != "failed":  # it takes a moment to end
            time.sleep(0.01)
        assert systemd.start(spec("x"), 5) == "done"
        [started] = systemd.guests()
    assert (started.active, started.result) == ("active", "success")
    assert started.pid != failed.pid


def test_a_unit_reports_its_vfs_and_its_rule(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert systemd.guests() == ()
        systemd.start(spec("x"), 5)
        [unit] = systemd.guests()
        assert unit == FoundUnit("x", "active", "", "success", unit.pid, (VF,), "abc", 0, unit.started_at)
        assert unit.started_at
        assert time.time() - unit.started_at < 60


def test_a_unit_that_does_not_exist_counts_as_stopped(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert systemd.stop("vfagent-guest-x.service", 5) == "done"
        systemd.reset_failed("vfagent-guest-x.service")


def test_a_machine_is_registered_under_a_host_name(place: tuple[str, Path]) -> None:
    address, log = place
    with Systemd(address) as systemd:
        systemd.register_machine("node_1", bytes(16), 4711)
    assert calls(log, "RegisterMachine") == [["node-1", "\0" * 16, "vfagent", "vm", 4711, ""]]


def test_without_a_bus_the_error_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"cannot connect to D-Bus: ENOENT \(") as caught:
        Systemd(f"unix:path={tmp_path}/none")
    assert caught.value.hint == "is dbus.socket active?"


@contextmanager
def unanswering(address: str) -> Iterator[int]:
    """Stops the bus's process: it still accepts connections, but does not answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.removeprefix("unix:path="))
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)


def test_a_slow_bus_is_waited_for(place: tuple[str, Path]) -> None:
    """As at a boot, where systemd accepts connections for it before it runs."""
    with unanswering(place[0]) as pid:
        later = threading.Timer(1.5, os.kill, (pid, signal.SIGCONT))
        later.start()
        with Systemd(place[0]) as systemd:
            assert systemd.guests() == ()
        later.join()


def test_a_bus_that_does_not_answer_is_an_error(place: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.systemd.units._REPLY_S", 0.3)
    with unanswering(place[0]), pytest.raises(BusError, match=r"connect to D-Bus: no answer within 0\.3 s"):
        Systemd(place[0])


def test_a_bus_without_systemd_is_an_error(tmp_path: Path) -> None:
    with private_bus(tmp_path) as address, Systemd(address) as systemd, pytest.raises(BusError):
        systemd.guests()


@pytest.mark.parametrize(
    ("path", "escaped"),
    [
        ("/sys/devices/pci0000:00/0000:01:10.0", "sys-devices-pci0000:00-0000:01:10.0"),
        ("/sys//a-b/.c/", r"sys-a\x2db-.c"),
        ("/.hidden/ü", r"\x2ehidden-\xc3\xbc"),
    ],
)
def test_paths_are_escaped_as_systemd_does(path: str, escaped: str) -> None:
    assert escape_path(path) == escaped


def test_a_vfs_device_unit_is_named_by_its_path_in_sysfs(tmp_path: Path) -> None:
    devices = tmp_path / "sys/bus/pci/devices"
    devices.mkdir(parents=True)
    (devices / VF).symlink_to(f"../../../devices/pci0000:00/0000:00:01.0/{VF}")
    assert device_unit(VF, tmp_path) == f"sys-devices-pci0000:00-0000:00:01.0-{VF}.device"
