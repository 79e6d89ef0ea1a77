# SPDX-License-Identifier: Apache-2.0
"""`check` and `schema`: output and exit status."""

from pathlib import Path
from typing import Any

import pytest

from tests.host.tree import Tree, put
from vfagent.store.policy_files import load


def test_check_of_a_valid_policy_counts_its_rules(command: Any, tree: Tree) -> None:
    result = command("check")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"{tree.root}/etc/vfagent/policy.toml: valid: 1 PF rule")


def test_check_ends_with_the_digest_that_status_and_metrics_show(command: Any, tree: Tree) -> None:
    digest = load(tree.root).digest
    assert command("check").out.rstrip().endswith(f"0 guests, 0 bridges; digest {digest}")
    assert command("check", str(tree.root / "etc/vfagent/policy.toml")).out.rstrip().endswith(f"digest {digest}")


def test_check_notes_a_policy_that_others_can_write(command: Any, tree: Tree) -> None:
    (tree.root / "etc/vfagent/policy.toml").chmod(0o666)
    result = command("check")
    assert result.status == 0
    path = "/etc/vfagent/policy.toml"
    why = f"users other than root can write it (mode 0666); chmod go-w {path}"
    assert result.err == f"note: {path}: a policy file: {why}\n"


def test_check_notes_a_screen_that_others_can_open(command: Any, tree: Tree) -> None:
    pf = '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\nvfs = 2\n[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\n'
    tree.policy(pf + '[[guest]]\nname = "web"\nvfs = ["a:0"]\nipxe.address = "dhcp"\nvnc = "127.0.0.1:0"\n')
    result = command("check")
    assert result.status == 0, result.err
    place = f'{tree.root}/etc/vfagent/policy.toml:12:7: guest "web".vnc'
    assert result.err == f"note: {place}: all users of this host can open its screen at 127.0.0.1:0\n"


def test_check_notes_what_is_rarely_meant(command: Any, tree: Tree) -> None:
    put(tree.root / "etc/vfagent/policy.d/10-more.conf", "")
    put(
        tree.root / "etc/vfagent/policy.d/20-vlan.toml",
        '[[pf]]\nname = "v"\nmatch.driver = "ice"\nvlan = [{id = 9, name = "v9"}]\n',
    )
    result = command("check")
    assert result.status == 0
    several, misnamed = result.err.splitlines()
    place = f'{tree.root}/etc/vfagent/policy.d/20-vlan.toml:3:1: pf "v".match'
    assert several.startswith(f"note: {place}: may match several ports")
    path = f"{tree.root}/etc/vfagent/policy.d/10-more.conf"
    assert misnamed == f"note: {path}: is not read, as its name does not end in .toml"


def test_check_reports_all_problems_at_once(command: Any, tree: Tree) -> None:
    tree.policy('[[pf]]\nname = "a"\nvsf = 1\nmtu = "big"\n')
    result = command("check")
    assert result.status == 4
    assert len(result.err.splitlines()) >= 2


def test_check_reads_the_files_it_is_given(command: Any, tmp_path: Path) -> None:
    put(tmp_path / "other.toml", "[[pf]]\nname = 7\n")
    result = command("check", str(tmp_path / "other.toml"))
    assert result.status == 4
    assert "other.toml:2:" in result.err


def test_check_of_a_missing_file_is_an_error_with_its_name(command: Any, tmp_path: Path) -> None:
    result = command("check", str(tmp_path / "absent.toml"))
    assert result.status == 1
    assert result.err == (
        f"{tmp_path}/absent.toml: cannot read it: ENOENT (No such file or directory)\n"
        "  (name a file that is there; vfagent check alone reads this host's own policy)\n"
    )


def test_check_of_a_file_without_permission_is_an_error_not_an_invalid_policy(
    command: Any, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    put(tree.root / "etc/vfagent/policy.d/10.toml", "x = 1\n")
    monkeypatch.setattr("vfagent.store.policy_files.os.open", refuse)
    result = command("check")
    assert (result.status, result.out) == (1, "")
    assert result.err.splitlines() == [
        f"{tree.root}/etc/vfagent/policy.toml: cannot read it: EACCES (Permission denied)",
        f"{tree.root}/etc/vfagent/policy.d/10.toml: cannot read it: EACCES (Permission denied)",
        "  (run it as root)",
    ]


def test_schema_is_json_of_the_policy(command: Any) -> None:
    result = command("schema")
    assert result.status == 0
    assert {"agent", "pf", "bridge", "guest"} <= set(result.json["properties"])
