# SPDX-License-Identifier: Apache-2.0
"""Which files that a policy names are read by root's service."""

import os
from pathlib import Path

import pytest

from vfagent.errors import VfagentError
from vfagent.store.trusted_files import distrust, read_trusted

FILE = "/etc/own/script"
SOMEBODY = 4242


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / FILE.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text("text")
    return path


def refused(root: Path, most: int = 100, *, secret: bool = False) -> str:
    with pytest.raises(VfagentError) as caught:
        read_trusted(root, FILE, "the input", most, secret=secret)
    assert str(caught.value).startswith(f"{FILE}: cannot use it as the input: ")
    return str(caught.value).partition("input: ")[2]


def test_a_file_of_roots_is_read(tmp_path: Path, path: Path) -> None:
    path.chmod(0o644)
    assert read_trusted(tmp_path, FILE, "the input", 4) == b"text"


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "absent"])
def test_what_is_no_regular_file_is_refused_without_blocking(tmp_path: Path, path: Path, kind: str) -> None:
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/hostname")
        case "folder":
            path.mkdir()
    expected = {"link": "it is a symbolic link", "absent": "No such file or directory"}
    assert refused(tmp_path) == expected.get(kind, "it is not a regular file")


def test_a_file_is_read_up_to_its_bound(tmp_path: Path, path: Path) -> None:
    assert refused(tmp_path, 3) == "it has more than 3 bytes"


def test_a_file_of_another_user_is_refused(tmp_path: Path, path: Path) -> None:
    os.chown(path, SOMEBODY, 0)
    assert refused(tmp_path) == f"it belongs to user {SOMEBODY}; chown root {FILE}"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, path: Path, mode: int) -> None:
    path.chmod(mode)
    assert refused(tmp_path) == f"users other than root can write it (mode {mode:04o}); chmod go-w {FILE}"


def test_a_file_whose_folder_others_can_write_is_refused(tmp_path: Path, path: Path) -> None:
    path.parent.chmod(0o777)
    assert "users other than root can write its folder" in refused(tmp_path)
    path.parent.chmod(0o1777)
    assert read_trusted(tmp_path, FILE, "the input", 4) == b"text", "in a sticky folder nobody can replace it"


def test_a_folder_behind_a_link_counts_too(tmp_path: Path, path: Path) -> None:
    place = tmp_path / "srv/open"
    place.mkdir(parents=True)
    path.parent.rename(place / "own")
    path.parent.symlink_to(place / "own")
    assert read_trusted(tmp_path, FILE, "the input", 4) == b"text"
    place.chmod(0o777)
    assert "can write its folder" in refused(tmp_path)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, path: Path) -> None:
    path.chmod(0o640)
    assert refused(tmp_path, secret=True) == f"users other than root can read it (mode 0640); chmod 0600 {FILE}"
    path.chmod(0o600)
    assert read_trusted(tmp_path, FILE, "the input", 4, secret=True) == b"text"


def test_what_is_absent_is_trusted(tmp_path: Path) -> None:
    assert distrust(tmp_path, "/etc/none") is None
