# SPDX-License-Identifier: Apache-2.0
"""`report`: what is in its archive, and that its tree plans as the host does."""

import os
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
from vfagent.policy.inline_texts import without_inline_texts
from vfagent.store.policy_files import load

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


def test_an_anonymous_report_has_no_mac_in_its_paths_and_links(tree: Tree, written: Any) -> None:
    name = f"enx{MAC.replace(':', '')}"
    named = tree.root / "sys/class/net" / name
    (tree.root / "sys/class/net/ens1").rename(named)
    link = tree.device(PF) / "net"
    if (link / "ens1").exists():
        (link / "ens1").rename(link / name)
    folder = written("--anonymise")
    paths = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    targets = [os.readlink(path) for path in folder.rglob("*") if path.is_symlink()]
    assert any("enx" in path for path in paths)
    assert not any(name in text for text in (*paths, *targets))


def test_a_report_has_no_seed_and_no_credential_of_the_policy(tree: Tree, written: Any) -> None:
    guest = """
[[guest]]
name = "web"
vfs = ["all:0"]
[guest.kernel]
image = "/boot/vmlinuz"
[guest.seed]
user_data = '''
password: s3cret
'''
meta_data = "/etc/meta"
[guest.credentials]
token = "s3cret"
key = "/etc/key"
"""
    tree.policy((tree.root / "etc/vfagent/policy.toml").read_text() + guest)
    folder = written("--yes")
    policy = (folder / "tree/etc/vfagent/policy.toml").read_text()
    assert (policy.count("s3cret"), policy.count("left out by vfagent report")) == (0, 2)
    assert dict(load(folder / "tree").guest[0].credentials)["key"] == "/etc/key"
    assert not any("s3cret" in file.read_text() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "text",
    [
        '[[guest]]\nseed = { user_data = """s3cret\n',
        '[[guest]]\nseed.user_data = "s3cret"\nseed.user_data = "other"\n',
    ],
)
def test_of_a_policy_that_is_not_toml_only_the_beginning_is_reported(text: str) -> None:
    left = without_inline_texts(f"version = 1\n{text}")
    assert left.startswith("version = 1\n[[guest]]\n")
    assert "s3cret" not in left
    assert "The rest is left out" in left


@pytest.mark.parametrize("text", ["[[guest]]\ncredentials.key = s3cret\n", '[guest]\nseed = ["s3cret", "s3cret"]\n'])
def test_a_secret_in_a_policy_that_is_not_valid_is_left_out_too(text: str) -> None:
    assert "s3cret" not in without_inline_texts(text)


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
    assert "it is there already" in result.err
    assert sorted(path.name for path in tmp_path.iterdir() if "r.tar" in path.name) == []


def test_the_same_address_becomes_the_same_word_everywhere() -> None:
    hidden = Anonymous({"node1": "host"}, key=b"k")
    text = hidden.text("node1 52:54:00:bb:00:01 at 192.0.2.7/24, again 52:54:00:BB:00:01 192.0.2.7 2001:db8::7/64")
    name, mac, _, address, _, other, again, six = text.replace(",", "").split()
    assert (name, address.partition("/")[0], mac) == ("host", again, other.lower())
    assert mac != "52:54:00:bb:00:01"
    assert int(mac[:2], 16) & 3 == 0x52 & 3
    assert (address[:3], six[:2], six[-3:]) == ("10.", "fd", "/64")
    assert hidden.text('"52:54:00:bb:00:{index:02x}"') == f'"{mac[:-2]}{{index:02x}}"'
    assert hidden.text("from 192.0.2.7. And 2001:db8::7: no") == f"from {again}. And {six[:-3]}: no"
    same = f"PF {PF} at 12:34:56, ::1, 127.0.0.1, 00:00:00:00:00:00"
    assert hidden.text(same) == same


def test_a_mac_is_the_same_in_each_form() -> None:
    texts = ("52:54:00:bb:00:01", "52-54-00-BB-00-01", "525400bb0001", "enx525400bb0001", "digest f81a6a42c71b")
    hidden = Anonymous({}, texts, key=b"k")
    colons, dashes, bare, name, digest = map(hidden.text, texts)
    assert (dashes, bare, name) == (colons.replace(":", "-"), colons.replace(":", ""), f"enx{bare}")
    assert (colons[-2:], digest) == ("01", "digest f81a6a42c71b")
    assert bare != "525400bb0001"


def test_a_guid_is_the_same_in_each_form() -> None:
    texts = ("50:6b:4b:03:00:cc:12:34", "506b:4b03:00cc:1234", "0x506b4b0300cc1234")
    octets, fours, bare = map(Anonymous({}, texts, key=b"k").text, texts)
    assert octets != texts[0]
    assert bare == f"0x{octets.replace(':', '')}" == f"0x{fours.replace(':', '')}"
