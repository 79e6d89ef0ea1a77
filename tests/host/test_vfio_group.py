# SPDX-License-Identifier: Apache-2.0
"""Who can open the node of a VFIO group before, while and after it is open to kvm. A plain file has the same rules."""

import grp
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfagent.kernel import vfio_group

KVM, OTHER, NOBODY = "daemon", "nogroup", 65534
GROUP = 14
ACL = "system.posix_acl_access"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As devtmpfs makes it, in a folder that others can enter. Another group stands for kvm, which may not exist."""
    monkeypatch.setattr(vfio_group, "_KVM", KVM)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        made = Path(name, f"dev/vfio/{GROUP}")
        made.parent.mkdir(parents=True)
        made.touch(mode=0o600)
        yield made


def opened(node: Path) -> bool:
    return vfio_group.open_to_kvm(GROUP, node.parents[2])


def can_open(node: Path, group: str) -> bool:
    argv = ["sh", "-c", 'exec 3<>"$0"', str(node)]
    gid = grp.getgrnam(group).gr_gid
    done = subprocess.run(argv, user=NOBODY, group=gid, extra_groups=[], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def test_a_group_is_opened_to_kvm_only(node: Path) -> None:
    assert not can_open(node, KVM)
    assert opened(node)
    assert (can_open(node, KVM), can_open(node, OTHER)) == (True, False)


def test_opening_a_group_twice_is_harmless(node: Path) -> None:
    assert opened(node)
    assert opened(node)


@pytest.mark.parametrize("group", [KVM, OTHER])
def test_the_group_that_udev_sets_later_can_open_it(node: Path, group: str) -> None:
    assert opened(node)
    shutil.chown(node, group=group)
    node.chmod(0o660)
    assert can_open(node, group)


def test_a_mode_that_udev_sets_later_applies(node: Path) -> None:
    assert opened(node)
    node.chmod(0o600)
    assert not can_open(node, KVM)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o640, 0o660])
def test_a_node_with_another_mode_is_left_alone(node: Path, mode: int) -> None:
    node.chmod(mode)
    assert not opened(node)
    assert node.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(("group", "mode"), [(KVM, 0o660), ("root", 0o666)])
def test_a_node_that_a_udev_rule_of_the_host_opens_stays_as_it_is(node: Path, group: str, mode: int) -> None:
    shutil.chown(node, group=group)
    node.chmod(mode)
    assert opened(node)
    assert vfio_group.opened_to_kvm(node.parents[2]) == set()
    assert node.stat().st_mode & 0o777 == mode


def test_a_group_is_taken_back_as_the_kernel_made_it(node: Path) -> None:
    assert opened(node)
    assert vfio_group.opened_to_kvm(node.parents[2]) == {GROUP}
    vfio_group.close_to_kvm(GROUP, node.parents[2])
    assert vfio_group.opened_to_kvm(node.parents[2]) == set()
    assert (node.stat().st_mode & 0o777, os.listxattr(node)) == (0o600, [])
    assert not can_open(node, KVM)


def test_an_acl_of_somebody_else_is_not_taken_for_a_managed_one(node: Path) -> None:
    assert opened(node)
    theirs = os.getxattr(node, ACL).replace(struct.pack("<HHI", 2, 6, 0), b"")  # without the entry for root
    os.setxattr(node, ACL, theirs)
    assert can_open(node, KVM)
    assert vfio_group.opened_to_kvm(node.parents[2]) == set()


def test_a_group_without_a_node_is_not_open(node: Path) -> None:
    node.unlink()
    assert not opened(node)
    assert not vfio_group.udev_has_come(GROUP, node.parents[2])


def test_without_a_group_kvm_nothing_is_opened(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vfio_group, "_KVM", "no-such-group")
    assert not opened(node)
    assert node.stat().st_mode & 0o777 == 0o600
