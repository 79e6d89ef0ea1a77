# SPDX-License-Identifier: Apache-2.0
"""The unit that tries KVM."""

from typing import Any

from vfagent.guests.spec.kvm_probe import kvm_probe

PROPERTIES: dict[str, Any] = {item.name: item.value for item in kvm_probe().properties}


def test_its_disk_has_a_boot_sector() -> None:
    [(name, disk)] = PROPERTIES["SetCredential"]
    assert (name, len(disk), disk[-2:]) == ("disk", 512, b"\x55\xaa")


def test_only_the_guests_own_exit_status_is_success() -> None:
    # QEMU's isa-debug-exit ends with twice the value plus one; a QEMU that fails ends with 1.
    [(_, argv, ignored)] = PROPERTIES["ExecStart"]
    assert PROPERTIES["SuccessExitStatus"] == ([0x21], [])
    assert "isa-debug-exit,iobase=244,iosize=4" in argv
    assert not ignored


def test_the_disk_has_an_explicit_geometry() -> None:
    [(_, argv, _)] = PROPERTIES["ExecStart"]
    assert any("lcyls=1,lheads=1,lsecs=1" in word for word in argv)


def test_it_has_the_kvm_device_and_a_timeout() -> None:
    assert PROPERTIES["DeviceAllow"] == [("/dev/kvm", "rw")]
    assert PROPERTIES["TimeoutStartUSec"] == 20_000_000


def test_a_hung_qemu_is_killed_before_the_call_times_out() -> None:
    """SIGTERM after TimeoutStartUSec, SIGKILL after TimeoutStopUSec; the job's end is waited for 50 s."""
    assert PROPERTIES["TimeoutStartUSec"] + 2 * PROPERTIES["TimeoutStopUSec"] < 30_000_000
