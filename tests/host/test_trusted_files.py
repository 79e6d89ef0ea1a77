# SPDX-License-Identifier: Apache-2.0
"""Which files that a policy names are read by root's service."""

import os
import stat
from pathlib import Path

import pytest

from vfagent.errors import VfagentError
from vfagent.store.policy_files import load
from vfagent.store.policy_trust import untrusted_files
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


def test_a_folder_between_two_links_counts_too(tmp_path: Path, path: Path) -> None:
    between = tmp_path / "srv/between"
    between.mkdir(parents=True)
    (between / "own").symlink_to(path.parent)
    (tmp_path / "etc/first").symlink_to("../srv/between")
    assert distrust(tmp_path, "/etc/first/own/script") is None
    between.chmod(0o777)
    assert "users other than root can write its folder" in str(distrust(tmp_path, "/etc/first/own/script"))


def test_links_without_an_end_are_followed_only_so_far(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert distrust(tmp_path, "/a") is None


def untrusted_of(root: Path, policy: str) -> list[str]:
    policy_file = root / "etc/vfagent/policy.toml"
    policy_file.parent.mkdir(parents=True, exist_ok=True)
    pf = '[[pf]]\nname = "a"\nmatch = { pci = "*" }\nvfs = 2\n[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\n'
    policy_file.write_text(pf + policy)
    (root / "etc/group").write_text("root:x:0:\nkvm:x:993:\n")
    return list(map(str, untrusted_files(load(root), root)))


@pytest.mark.parametrize(
    ("owner", "group", "mode", "why"),
    [
        (0, 993, 0o660, None),
        (0, 0, 0o644, None),
        (0, 993, 0o666, "all users can write it (mode 0666); chmod o-w /srv/web.img"),
        (0, 7, 0o660, "group 7 can write it (mode 0660); chgrp kvm /srv/web.img"),
        (SOMEBODY, 993, 0o600, f"it belongs to user {SOMEBODY}; chown root /srv/web.img"),
    ],
)
def test_a_disk_image_is_roots_and_group_kvm_alone_may_write_it(
    tmp_path: Path, owner: int, group: int, mode: int, why: str | None
) -> None:
    image = tmp_path / "srv/web.img"
    image.parent.mkdir()
    image.touch()
    os.chown(image, owner, group)
    image.chmod(mode)
    untrusted = untrusted_of(tmp_path, '[[guest]]\nname = "web"\nvfs = ["a:0"]\ndisk = [{ path = "/srv/web.img" }]\n')
    assert untrusted == ([f"/srv/web.img (a disk of guest web): {why}"] if why else [])


@pytest.mark.parametrize("way", ["folder", "link"])
def test_a_disk_image_that_others_can_replace_is_reported(tmp_path: Path, way: str) -> None:
    (tmp_path / "srv/open").mkdir(parents=True)
    (tmp_path / "srv/open").chmod(0o777)
    (tmp_path / "srv/open/web1.img").touch()
    (tmp_path / "srv/web1.img").symlink_to("open/web1.img")
    path = {"folder": "/srv/open/web{index}.img", "link": "/srv/web{index}.img"}[way]
    rule = f'[[guest]]\nname = "web{{index}}"\neach = "a:*"\ndisk = [{{ path = "{path}" }}]\n'
    [untrusted] = untrusted_of(tmp_path, rule)
    assert untrusted.startswith(
        f"{path.format(index=1)} (a disk of guest web1): users other than root can write its folder "
    )


def test_a_block_device_needs_no_owner(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    os.mknod(tmp_path / "srv/disk", 0o666 | stat.S_IFBLK, os.makedev(7, 0))
    (tmp_path / "srv/disk").chmod(0o666)
    rule = '[[guest]]\nname = "web"\nvfs = ["a:0"]\ndisk = [{{ path = "{}" }}]\n'
    assert untrusted_of(tmp_path, rule.format("/srv/disk")) == []
    assert untrusted_of(tmp_path, rule.format("/dev/vg/web")) == []


def test_a_secret_of_a_guest_of_each_is_found(tmp_path: Path) -> None:
    secret = tmp_path / "etc/vfagent/chap1"
    secret.parent.mkdir(parents=True)
    secret.write_text("open\n")
    secret.chmod(0o644)
    rule = '[[guest]]\nname = "web{index}"\neach = "a:*"\nipxe.address = "dhcp"\n'
    chap = 'chap = { user = "me", secret = "/etc/vfagent/chap{index}" }\n'
    [untrusted] = untrusted_of(tmp_path, rule + chap)
    assert untrusted.startswith("/etc/vfagent/chap1 (the CHAP secret of guest web1): users other than root can read it")


def test_the_files_that_a_disk_image_is_based_on_count_too(tmp_path: Path) -> None:
    base = tmp_path / "srv/base.img"
    base.parent.mkdir()
    base.touch()
    base.chmod(0o666)
    disk = 'disk = [{ path = "/srv/web.img", format = "qcow2", backing = ["/srv/base.img"] }]\n'
    [untrusted] = untrusted_of(tmp_path, f'[[guest]]\nname = "web"\nvfs = ["a:0"]\n{disk}')
    assert untrusted.startswith("/srv/base.img (a disk of guest web): all users can write it")
