# SPDX-License-Identifier: Apache-2.0
"""`report`: what is in its archive, and that its tree plans as the host does."""

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.host.tree import Tree
from tests.unit.cli.trees import PF
from vfagent.cli.anonymous import Anonymous
from vfagent.cli.main import main
from vfagent.kernel.offline_tree import SysfsRtnl
from vfagent.model.network import DEFAULT_ROUTE

MAC = "02:00:00:00:00:01"


@pytest.fixture
def written(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder of an archive that was written with these options, and unpacked."""
    monkeypatch.setattr("vfagent.cli.report._command", lambda argv: f"{' '.join(argv[-3:])} of node1\n")

    def write(*options: str) -> Path:
        archive = tmp_path / "r.tar.gz"
        result = command("report", "--output", str(archive), *options)
        assert (result.status, result.out) == (0, f"{archive}\n"), result.err
        assert archive.stat().st_mode & 0o777 == 0o600
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path / "unpacked")
        (folder,) = (tmp_path / "unpacked").iterdir()
        return folder

    return write


def test_the_tree_of_a_report_plans_as_the_host(
    command: Any, tree: Tree, written: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in what netlink alone shows: a PF that carries the default route."""
    tree.policy((tree.root / "etc/vfagent/policy.toml").read_text().replace("vfs = 2", "vfs = 4"))
    ifindex = int((tree.root / "sys/class/net/ens1/ifindex").read_text())
    with monkeypatch.context() as host:
        host.setattr(SysfsRtnl, "management", lambda _: {ifindex: DEFAULT_ROUTE})
        here = command("plan")
        folder = written("--yes")
    assert DEFAULT_ROUTE in here.out
    capsys.readouterr()
    assert main(["plan", "--root", str(folder / "tree")]) == here.status == 3
    assert capsys.readouterr().out == here.out
    for name in ("versions.txt", "list.txt", "plan.txt", "status.txt", "doctor.txt", "journal.txt"):
        assert (folder / name).stat().st_size > 0


def test_an_anonymous_report_has_no_mac_of_the_host(tree: Tree, written: Any) -> None:
    (tree.root / "etc/hostname").write_text("node1\n")
    folder = written("--anonymise")
    texts = [file.read_text() for file in folder.rglob("*") if file.is_file()]
    assert not any(MAC in text or re.search(r"\bnode1\b", text) for text in texts)
    assert any("journalctl" in text or "of host" in text for text in texts)


def test_without_a_terminal_names_and_addresses_need_a_yes(command: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vfagent.cli.report._command", " ".join)
    result = command("report", "--output", str(tmp_path / "r.tar.gz"))
    assert (result.status, result.out) == (1, "")
    assert "--anonymise without them" in result.err
    assert not (tmp_path / "r.tar.gz").exists()


def test_a_report_is_never_written_over_a_file_or_through_a_link(
    command: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("vfagent.cli.report._command", " ".join)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    result = command("report", "--yes", "--output", str(tmp_path / "link"))
    assert (result.status, (tmp_path / "elsewhere").exists()) == (1, False)
    assert "EEXIST" in result.err


def test_the_same_address_becomes_the_same_word_everywhere() -> None:
    hidden = Anonymous({"node1": "host"}, key=b"k")
    text = hidden.text("node1 52:54:00:bb:00:01 at 192.0.2.7/24, again 52:54:00:BB:00:01 192.0.2.7 2001:db8::7/64")
    name, mac, _, address, _, other, again, six = text.replace(",", "").split()
    assert (name, address.partition("/")[0], mac) == ("host", again, other.lower())
    assert mac != "52:54:00:bb:00:01"
    assert int(mac[:2], 16) & 3 == 0x52 & 3
    assert (address[:3], six[:2], six[-3:]) == ("10.", "fd", "/64")
    assert hidden.text('"52:54:00:bb:00:{index:02x}"') == f'"{mac[:-2]}{{index:02x}}"'
    same = f"PF {PF} at 12:34:56, ::1, 127.0.0.1, 00:00:00:00:00:00"
    assert hidden.text(same) == same
