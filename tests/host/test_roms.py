# SPDX-License-Identifier: Apache-2.0
"""ROMs: built by a real make from a fake tree, cached, and copied from the users' files."""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.fake_ipxe import DRIVER, fake_ipxe, rom
from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import fake_systemd
from vfagent.cli.main import main
from vfagent.errors import VfagentError
from vfagent.guests.ipxe_tree import open_tree
from vfagent.guests.rom_build import known, provide
from vfagent.guests.rom_cache import RomStore
from vfagent.guests.spec.rom import RomWish
from vfagent.model.pci import PciAddress

WISH = RomWish("8086:10ca", "bios", script="#!ipxe\nautoboot\n")
SOURCE = "/usr/src/ipxe"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    with fake_systemd(tmp_path) as (address, _):
        yield address


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return fake_ipxe(tmp_path / SOURCE.lstrip("/"))


def builds(root: Path) -> int:
    return sum(len(path.read_text().split()) for path in root.glob("var/cache/*/*/tree/builds"))


def refused(bus: str, wish: RomWish, root: Path, source: str | None = SOURCE) -> str:
    with pytest.raises(VfagentError) as caught:
        provide(bus, wish, source, root)
    assert "\n" not in str(caught.value)
    return f"{caught.value} ({caught.value.hint})"


def test_a_rom_contains_the_guests_script_and_is_built_once(bus: str, tree: Path, tmp_path: Path) -> None:
    assert known(WISH, SOURCE, tmp_path) is None
    path = provide(bus, WISH, SOURCE, tmp_path)
    assert path.read_bytes() == rom() + b"#!ipxe\nautoboot\n"
    assert provide(bus, WISH, SOURCE, tmp_path) == path == known(WISH, SOURCE, tmp_path)
    assert builds(tmp_path) == 1
    [facts] = RomStore(tmp_path).roms()
    assert (facts.hardware, facts.firmware, facts.version) == ("8086:10ca", "bios", "2.0.1")
    assert not list(tree.rglob("bin")), "the user's tree is never written to"


def test_another_script_makes_another_rom_from_the_same_objects(bus: str, tree: Path, tmp_path: Path) -> None:
    first = provide(bus, WISH, SOURCE, tmp_path)
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/own.ipxe").write_text("#!ipxe\nshell\n")
    second = provide(bus, RomWish("8086:10ca", "bios", script_file="/etc/own.ipxe"), SOURCE, tmp_path)
    assert second.read_bytes().endswith(b"shell\n")
    assert first.exists()
    assert len(list(tmp_path.glob("var/cache/*/*/tree/builds"))) == 1


def test_a_changed_tree_is_rebuilt_and_a_removed_tree_is_not_needed(bus: str, tree: Path, tmp_path: Path) -> None:
    old = provide(bus, WISH, SOURCE, tmp_path)
    (tree / "src/drivers/net/vf.c").write_text(DRIVER + "/* fixed */\n")
    new = provide(bus, WISH, SOURCE, tmp_path)
    assert new != old
    shutil.rmtree(tree)
    assert provide(bus, WISH, SOURCE, tmp_path) == new


def test_the_digest_is_of_the_contents(bus: str, tree: Path, tmp_path: Path) -> None:
    """Not of sizes and times, which whoever writes the tree can choose."""
    driver = tree / "src/drivers/net/vf.c"
    before, times = open_tree(tree).digest, driver.stat()
    driver.write_text(DRIVER.replace("82576 VF", "82576 vf"))
    os.utime(driver, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert driver.stat().st_size == times.st_size
    assert open_tree(tree).digest != before


def test_a_tree_never_gets_what_another_tree_built(bus: str, tree: Path, tmp_path: Path) -> None:
    """A build runs the tree's own code, which may write to all that its user may write to."""
    provide(bus, WISH, SOURCE, tmp_path)
    [first] = tmp_path.glob("var/cache/*/*")
    (tree / "src/drivers/net/vf.c").write_text(DRIVER + "/* hostile */\n")
    provide(bus, WISH, SOURCE, tmp_path)
    [second] = tmp_path.glob("var/cache/*/*")
    assert first != second, "each tree has a cache of its own, and the old one is removed"


@pytest.mark.parametrize("kind", ["fifo", "device", "endless"])
def test_a_tree_with_an_odd_file_is_refused_without_blocking(bus: str, tree: Path, tmp_path: Path, kind: str) -> None:
    path = tree / "src/drivers/net/odd.c"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    why = "it has more than 64 MiB" if kind == "endless" else "it is not a regular file"
    assert f"odd.c: {why} (make a fresh clone of it)" in refused(bus, WISH, tmp_path)


def test_a_link_in_a_tree_is_not_followed(bus: str, tree: Path, tmp_path: Path) -> None:
    (tree / "src/drivers/net/zero.c").symlink_to("/dev/zero")
    (tree / "src/drivers/net/up").symlink_to("..")
    assert provide(bus, WISH, SOURCE, tmp_path).exists()


def test_a_build_s_endless_output_is_not_read_whole(tmp_path: Path) -> None:
    store = RomStore(tmp_path)
    store.folder.mkdir(parents=True)
    with store.log.open("wb") as log:
        log.truncate(1 << 40)
        log.seek(1 << 40)
        log.write(b"\nvf.c:1: error: \x1b[31mbad\n")
    assert store.progress() == f"{1 << 30} KiB of output"
    assert store.failure() == "vf.c:1: error: [31mbad"


def test_the_newest_is_what_was_built_last_whatever_the_clock_says(
    bus: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.guests.rom_cache._MOST_ROMS", 1)
    old = provide(bus, WISH, SOURCE, tmp_path)
    monkeypatch.setattr("time.time", lambda: 1e6)  # a machine with an empty clock battery
    (tree / "src/drivers/net/vf.c").write_text(DRIVER + "/* fixed */\n")
    new = provide(bus, WISH, SOURCE, tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
    assert known(WISH, None, tmp_path) == new


def test_an_error_names_what_is_missing(bus: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no driver there lists 15b3:101e (give its guests a guest.kernel)" in refused(
        bus, RomWish("15b3:101e", "bios", ""), tmp_path
    )
    assert "neither ipxe.rom nor agent.ipxe_source is set" in refused(bus, WISH, tmp_path, None)
    assert "src/Makefile: No such file or directory" in refused(bus, WISH, tmp_path, "/usr/src/none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no make and no gcc and no perl on this host (install gcc" in refused(bus, WISH, tmp_path)


def test_a_failed_build_reports_its_errors_and_leaves_nothing(bus: str, tree: Path, tmp_path: Path) -> None:
    (tree / "src/broken").touch()
    assert "cannot build bin/808610ca.rom: vf.c:7: error: no such thing" in refused(bus, WISH, tmp_path)
    assert RomStore(tmp_path).roms() == []
    (tree / "src/broken").unlink()
    assert provide(bus, WISH, SOURCE, tmp_path).exists()


def test_an_unwritable_cache_is_an_error_with_its_path(bus: str, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "var/lib/vfagent").mkdir(parents=True)
    (tmp_path / "var/lib/vfagent/rom-cache").write_text("")
    assert "rom-cache: cannot store the ROM bin/808610ca.rom there: File exists" in refused(bus, WISH, tmp_path)


def test_a_rom_built_for_another_device_is_refused(bus: str, tmp_path: Path) -> None:
    fake_ipxe(tmp_path / SOURCE.lstrip("/"), rom(device=0x10C9))
    assert "is for 8086:10c9, and the VF is 8086:10ca" in refused(bus, WISH, tmp_path)
    assert RomStore(tmp_path).roms() == []


OWN = RomWish("8086:10ca", "bios", file="/usr/share/roms/own.rom")


def own(root: Path, data: bytes | None = None) -> Path:
    path = root / "usr/share/roms/own.rom"
    path.parent.mkdir(parents=True)
    path.write_bytes(rom() if data is None else data)
    return path


def test_a_users_rom_is_copied(tmp_path: Path) -> None:
    path = own(tmp_path)
    copy = provide("", OWN, None, tmp_path)
    path.write_bytes(b"another")
    assert copy.read_bytes() == rom()
    assert copy.stat().st_mode & 0o077 == 0


def test_a_rom_must_not_be_reached_by_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(rom())
    path = own(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert "it is a symbolic link" in refused("", OWN, tmp_path)
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/own.rom").write_bytes(rom())
    assert "elsewhere, which is not below /etc/vfagent/" in refused("", OWN, tmp_path)


def test_a_rom_that_other_users_can_write_is_refused(tmp_path: Path) -> None:
    own(tmp_path).chmod(0o666)
    assert "users other than root can write it" in refused("", OWN, tmp_path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"#!/bin/sh\n" * 10, "is not a PCI expansion ROM"),
        (b"\x55\xaa".ljust(512, b"\0"), "is not a PCI expansion ROM"),
        (rom(0x15B3, 0x1018), "is for 15b3:1018, and the VF is 8086:10ca"),
        (rom(kind=3), "has no image for bios"),
        (b"", "is not a PCI expansion ROM"),
    ],
)
def test_a_file_that_is_not_a_rom_for_the_vf_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    own(tmp_path, data)
    assert f"cannot use it as the guest's ROM: it {why}" in refused("", OWN, tmp_path)


def test_a_fifo_is_refused_without_blocking(tmp_path: Path) -> None:
    path = own(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert "it is not a regular file" in refused("", OWN, tmp_path)


POLICY = """
[agent]
ipxe_source = "/usr/src/ipxe"
[[pf]]
name = "a"
match = { driver = "igb" }
vfs = 2
[[pf.vf]]
index = "*"
driver = "vfio-pci"
[[guest]]
name = "x"
vfs = ["a:0"]
ipxe = { address = "dhcp", loader = "rom" }
"""


@pytest.fixture
def root(tmp_path: Path, bus: str, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose NIC has no VFs yet. Their vendor and device IDs are known already."""
    files = FakeKernel(tmp_path)
    files.tree.policy(POLICY)
    files.tree.add_pf(PciAddress("0000:01:00.0"))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
    return tmp_path


def say(root: Path, *words: str) -> int:
    return main([*words[:1], "--root", str(root), *words[1:]])


def test_roms_can_be_built_before_there_are_vfs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(root, "rom", "list")
    assert "guest x: needs bin/808610ca.rom, which is not built yet" in capsys.readouterr().out
    assert say(root, "rom", "build") == 0
    assert ".rom: for guest x, " in capsys.readouterr().out
    say(root, "rom", "list")
    shown = capsys.readouterr().out
    assert "iPXE 2.0.1" in shown
    assert "guest x: boots from " in shown
    assert "VF 8086:10ca: iPXE's igbvf drives it" in shown
    assert "; the image for bios has a driver; the image for uefi has a driver; the source tree has a driver" in shown
    say(root, "rom", "list", "--json")
    listed = json.loads(capsys.readouterr().out)
    images = {"bios": True, "uefi": True}
    assert listed["vfs"] == [{"hardware": "8086:10ca", "driver": "igbvf", "in_images": images, "in_source": True}]
    assert [rom["hardware"] for rom in listed["roms"]] == ["8086:10ca"]


def test_rom_build_reports_why_it_failed(root: Path, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(tree)
    assert say(root, "rom", "build", "x") == 1
    assert "guest x: " in (message := capsys.readouterr().err)
    assert "src/Makefile: No such file or directory" in message
    assert say(root, "rom", "build", "nobody") == 1
    assert "guest nobody: there is no such guest, allowed are x" in capsys.readouterr().err


@pytest.mark.parametrize("facts", ["[" * 100_000, "{", "7", "null"])
def test_damaged_facts_of_a_rom_count_as_absent(tmp_path: Path, facts: str) -> None:
    cache = RomStore(tmp_path)
    cache.folder.mkdir(parents=True)
    (cache.folder / "damaged.json").write_text(facts)
    assert cache.roms() == []
