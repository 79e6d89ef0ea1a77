# SPDX-License-Identifier: Apache-2.0
"""Who can open the node of a VFIO group before and after kvm is let at it. A file's rules are the same."""

import grp
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfagent.host import vfio_group

KVM, OTHER, NOBODY = "daemon", "nogroup", 65534


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As devtmpfs makes it, where others can reach it; group kvm need not be here."""
    monkeypatch.setattr(vfio_group, "_KVM", KVM)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = folder / "14"
        made.touch(mode=0o600)
        yield made


def can_open(node: Path, group: str) -> bool:
    argv = ["sh", "-c", 'exec 3<>"$0"', str(node)]
    gid = grp.getgrnam(group).gr_gid
    done = subprocess.run(argv, user=NOBODY, group=gid, extra_groups=[], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def test_a_group_is_opened_to_kvm_and_to_nobody_else(node: Path) -> None:
    assert vfio_group.closed(node)
    assert not can_open(node, KVM)
    assert vfio_group.open_to_kvm(node)
    assert not vfio_group.closed(node)
    assert (can_open(node, KVM), can_open(node, OTHER)) == (True, False)


def test_what_udev_gives_it_later_holds(node: Path) -> None:
    assert vfio_group.open_to_kvm(node)
    node.chmod(0o600)
    assert vfio_group.closed(node)
    assert not can_open(node, KVM)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o640, 0o666])
def test_a_group_that_somebody_has_changed_is_left_alone(node: Path, mode: int) -> None:
    node.chmod(mode)
    assert not vfio_group.open_to_kvm(node)
    assert node.stat().st_mode & 0o777 == mode


def test_a_group_that_is_not_to_be_seen_is_not_open(node: Path) -> None:
    absent = node.with_name("15")
    assert vfio_group.closed(absent)
    assert not vfio_group.open_to_kvm(absent)


def test_without_a_group_kvm_nothing_is_opened(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vfio_group, "_KVM", "no-such-group")
    assert not vfio_group.open_to_kvm(node)
    assert vfio_group.closed(node)
