# SPDX-License-Identifier: Apache-2.0
"""Transient units over a real bus, with a systemd that is made up."""

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

from tests.host.fake_systemd import VERSION, fake_systemd, private_bus
from vfagent.model.guest_unit import FoundUnit, Property, UnitSpec
from vfagent.model.pci import PciAddress
from vfagent.systemd.units import BusError, Systemd, device_unit, escape_path

VF = PciAddress("0000:01:10.0")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    with fake_systemd(tmp_path) as found:
        yield found


def calls(log: Path, member: str) -> list[Any]:
    lines = (json.loads(line) for line in log.read_text().splitlines())
    return [body for name, body in lines if name == member]


def spec(name: str) -> UnitSpec:
    environment = Property("Environment", "as", [f"VFAGENT_VFS={VF}", "VFAGENT_RULE=abc"])
    command = Property("ExecStart", "a(sasb)", [("/bin/true", ["/bin/true", "-x"], False)])
    files = Property("SetCredential", "a(say)", [("boot.ipxe", b"#!ipxe\n")])
    return UnitSpec(f"vfagent-guest-{name}.service", (environment, command, files, Property("UMask", "u", 0o77)))


def test_a_unit_is_made_as_it_is_given_and_its_own_job_awaited(place: tuple[str, Path]) -> None:
    address, log = place
    with Systemd(address) as systemd:
        assert systemd.start(spec("x"), 5) == "done"
    [(unit, mode, properties, aux)] = calls(log, "StartTransientUnit")
    assert (unit, mode, aux) == ("vfagent-guest-x.service", "fail", [])
    assert dict(properties)["ExecStart"] == ["a(sasb)", [["/bin/true", ["/bin/true", "-x"], False]]]
    assert dict(properties)["SetCredential"] == ["a(say)", [["boot.ipxe", "#!ipxe\n"]]]


@pytest.mark.parametrize(
    ("version", "name", "command"),
    [
        ("252.39-1~deb12u1", "ExecStart", ["/bin/true", ["/bin/true", "a$$b"], False]),
        ("257.9-1~deb13u1", "ExecStartEx", ["/bin/true", ["/bin/true", "a$b"], ["no-env-expand"]]),
    ],
)
def test_a_dollar_in_a_command_is_one_after_a_daemon_reload_too(
    place: tuple[str, Path], version: str, name: str, command: list[Any]
) -> None:
    address, log = place
    log.with_name(VERSION).write_text(version)
    one = spec("x")
    written = Property("ExecStart", "a(sasb)", [("/bin/true", ["/bin/true", "a$$b"], False)])
    properties = tuple(written if found.name == "ExecStart" else found for found in one.properties)
    with Systemd(address) as systemd:
        systemd.start(UnitSpec(one.unit, properties), 5)
    [(_, _, made, _)] = calls(log, "StartTransientUnit")
    assert {key: value[1] for key, value in made if key.startswith("ExecStart")} == {name: [command]}


def test_one_connection_is_good_for_several_jobs(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert [systemd.start(spec("x"), 5), systemd.stop("vfagent-guest-x.service", 5)] == ["done", "done"]
        assert systemd.start(spec("x"), 5) == "done"


def test_a_job_that_fails_says_so(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert systemd.start(spec("broken"), 5) == "failed"


def test_a_job_without_an_end_is_not_waited_for_for_ever(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd, pytest.raises(BusError, match=r"no end of StartTransientUnit within 1 s"):
        systemd.start(spec("silent"), 1)


def test_a_unit_that_is_there_is_told_apart(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        systemd.start(spec("x"), 5)
        with pytest.raises(BusError, match=r"cannot StartTransientUnit vfagent-guest-x\.service") as caught:
            systemd.start(spec("x"), 5)
    assert caught.value.name == "org.freedesktop.systemd1.UnitExists"


def test_a_unit_that_failed_is_started_anew(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        systemd.start(spec("x"), 5)
        [failed] = systemd.guests()
        os.kill(failed.pid, signal.SIGKILL)
        assert systemd.start(spec("x"), 5) == "done"
        [found] = systemd.guests()
    assert (found.active, found.result) == ("active", "success")
    assert found.pid != failed.pid


def test_units_tell_what_they_were_started_for(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert systemd.guests() == ()
        systemd.start(spec("x"), 5)
        [found] = systemd.guests()
        assert found == FoundUnit("x", "active", "", "success", found.pid, (VF,), "abc", 0, found.started_at)
        assert found.started_at
        assert time.time() - found.started_at < 60


def test_what_is_not_there_is_stopped(place: tuple[str, Path]) -> None:
    with Systemd(place[0]) as systemd:
        assert systemd.stop("vfagent-guest-x.service", 5) == "done"
        systemd.reset_failed("vfagent-guest-x.service")


def test_machined_gets_a_host_name(place: tuple[str, Path]) -> None:
    address, log = place
    with Systemd(address) as systemd:
        systemd.register_machine("node_1", bytes(16), 4711)
    assert calls(log, "RegisterMachine") == [["node-1", "\0" * 16, "vfagent", "vm", 4711, ""]]


def test_without_a_bus_the_error_says_what_to_look_for(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"cannot talk to it over D-Bus: ENOENT \(") as caught:
        Systemd(f"unix:path={tmp_path}/none")
    assert caught.value.hint == "is dbus.socket there?"


@contextmanager
def held_up(address: str) -> Iterator[int]:
    """The bus takes connections, and answers none: its process, which is stopped."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(address.removeprefix("unix:path="))
        pid, _, _ = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    os.kill(pid, signal.SIGSTOP)
    yield pid
    os.kill(pid, signal.SIGCONT)


def test_a_bus_that_takes_its_time_is_waited_for(place: tuple[str, Path]) -> None:
    """As at a boot, where systemd takes connections for it before it runs."""
    with held_up(place[0]) as pid:
        later = threading.Timer(1.5, os.kill, (pid, signal.SIGCONT))
        later.start()
        with Systemd(place[0]) as systemd:
            assert systemd.guests() == ()
        later.join()


def test_a_bus_that_does_not_answer_is_told_apart(place: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.systemd.units._REPLY_S", 0.3)
    with held_up(place[0]), pytest.raises(BusError, match=r"over D-Bus: no answer within 0\.3 s"):
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


def test_a_vfs_device_unit_is_named_by_where_it_hangs(tmp_path: Path) -> None:
    devices = tmp_path / "sys/bus/pci/devices"
    devices.mkdir(parents=True)
    (devices / VF).symlink_to(f"../../../devices/pci0000:00/0000:00:01.0/{VF}")
    assert device_unit(VF, tmp_path) == f"sys-devices-pci0000:00-0000:00:01.0-{VF}.device"
