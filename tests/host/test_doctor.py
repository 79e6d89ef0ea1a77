# SPDX-License-Identifier: Apache-2.0
"""`doctor` with calls that hang, files that may not be read, and special files."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.fake_systemd import fake_systemd
from tests.host.tree import put
from tests.unit.doctor.hosts import PF, healthy
from vfagent.cli.main import main
from vfagent.doctor.gather import gather_facts
from vfagent.doctor.kernel_log import kernel_log
from vfagent.doctor.other_managers import other_managers
from vfagent.doctor.worker_calls import NoResult, call, call_all
from vfagent.errors import VfagentError
from vfagent.store.host_files import HostFiles, facts_in
from vfagent.systemd.units import Systemd, UnitState

NOBODY = 65534


@contextmanager
def nobody() -> Iterator[None]:
    """Runs without root's permissions."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; those of pytest belong to root alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def hang() -> int:
    time.sleep(100)
    return 0


def refuse() -> int:
    raise VfagentError("systemd: cannot talk to it")


# Calls in workers


def test_a_call_that_hangs_does_not_delay_the_others() -> None:
    started = time.monotonic()
    results = call_all({"hangs": hang, "one": lambda: 1, "refuses": refuse, "two": lambda: [2]}, 0.5)
    assert time.monotonic() - started < 3
    assert results == {
        "hangs": NoResult("no answer within 0.5 s", timed_out=True),
        "one": 1,
        "refuses": NoResult("systemd: cannot talk to it"),
        "two": [2],
    }


def test_the_results_of_many_calls_are_in_the_order_of_the_calls() -> None:
    results = call_all({number: lambda number=number: number * number for number in range(40)}, 10)  # type: ignore[misc]
    assert list(results.items()) == [(number, number * number) for number in range(40)]


def test_a_large_result_is_complete() -> None:
    assert call(lambda: "x" * 3_000_000, 10) == "x" * 3_000_000


def test_a_worker_that_dies_has_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert call(lambda: os._exit(3), 5) == NoResult("worker exited with status 3")


# Files


def test_a_file_in_an_inaccessible_folder_counts_as_absent(open_folder: Path) -> None:
    """As in the service, which has no access to the host's /tmp."""
    (open_folder / "usr/bin").mkdir(parents=True)
    put(open_folder / "closed/disk", "")
    (open_folder / "closed").chmod(0)
    with nobody():
        assert facts_in(open_folder)("/closed/disk") is None


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    files = HostFiles(tmp_path)
    assert [files.read(name) for name in ("fifo", "folder", "null", "absent")] == [None] * 4
    assert files.denied == set()


def test_a_link_does_not_lead_out_of_a_copied_tree(tmp_path: Path) -> None:
    put(tmp_path / "secret", "x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("../secret")
    put(tmp_path / "tree/file", "y")
    files = HostFiles(tmp_path / "tree")
    assert (files.read("link"), files.read("file")) == (None, "y")


def test_paths_that_may_not_be_read_are_recorded(open_folder: Path) -> None:
    put(open_folder / "etc/libvirt/qemu/vm.xml", "<domain/>")
    (open_folder / "etc/libvirt/qemu/vm.xml").chmod(0o600)
    put(open_folder / "etc/driverctl.d/x", "")
    (open_folder / "etc/driverctl.d").chmod(0o700)
    files = HostFiles(open_folder)
    with nobody():
        assert list(other_managers(files)) == []
    assert files.denied == {"/etc/libvirt/qemu/vm.xml", "/etc/driverctl.d"}


def test_a_file_hides_files_of_its_name_in_later_folders(tmp_path: Path) -> None:
    text = "[Link]\nSR-IOVVirtualFunctions=4\n"
    put(tmp_path / "usr/lib/systemd/network/10-a.link", text)
    put(tmp_path / "usr/lib/systemd/network/20-b.link", text)
    put(tmp_path / "etc/systemd/network/10-a.link", "[Link]\n")
    paths = [file.path for _, file in other_managers(HostFiles(tmp_path))]
    assert paths == ["/usr/lib/systemd/network/20-b.link"]


# The kernel, and systemd


def test_the_kernel_log_is_read_to_its_end() -> None:
    lines = kernel_log()
    assert len(lines) > 10
    assert not any(line.startswith(" SUBSYSTEM=") for line in lines)


def test_a_unit_state_has_systemds_words(tmp_path: Path) -> None:
    with fake_systemd(tmp_path) as (address, _), Systemd(address) as systemd:
        assert systemd.state("vfagent.service") == UnitState(
            loaded=True, active="failed", enabled="enabled", result="exit-code"
        )
        assert systemd.state("none.service") == UnitState(loaded=False, active="inactive", enabled="", result="")


# The verb


def test_doctor_changes_nothing(tmp_path: Path) -> None:
    tree = healthy(tmp_path)

    def everything() -> dict[str, tuple[float, int]]:
        statuses = (path.lstat() for path in sorted(tree.root.rglob("*")))
        return {str(number): (status.st_mtime_ns, status.st_size) for number, status in enumerate(statuses)}

    before = everything()
    assert main(["doctor", "--root", str(tree.root)]) == 0
    assert everything() == before


def test_doctor_without_root_lists_what_it_did_not_check(open_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = healthy(open_folder)
    put(tree.root / "etc/libvirt/qemu/vm.xml", "<hostdev/>")
    (tree.root / "etc/libvirt/qemu").chmod(0o700)
    with nobody():
        assert main(["doctor", "--root", str(tree.root)]) == 0
    out = capsys.readouterr().out
    assert "not checked: /etc/libvirt/qemu" in out
    assert out.endswith("no errors; root can check more\n")


def test_a_policy_that_may_not_be_read_is_not_invalid(open_folder: Path) -> None:
    tree = healthy(open_folder)
    (tree.root / "etc/vfagent/policy.toml").chmod(0o600)
    with nobody():
        facts = gather_facts(tree.root)
    assert facts.policy is None
    assert facts.policy_problems == ()
    assert any(entry.object == "policy" for entry in facts.not_checked)


def test_doctor_never_reads_numvfs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tree's sriov_numvfs is a FIFO: reading it would time out and be reported."""
    tree = healthy(tmp_path)
    assert (tree.device(PF) / "sriov_numvfs").is_fifo()
    assert main(["doctor", "--root", str(tree.root)]) == 0
    assert "in time" not in capsys.readouterr().out
