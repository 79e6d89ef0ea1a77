# SPDX-License-Identifier: Apache-2.0
"""The forms in which `check` reports."""

import json
from typing import Any

import pytest

from tests.host.tree import Tree

MISTAKES = '[[pf]]\nname = "storage"\nmatch.driver = "igb"\n\tvsf = 4 # \x7f\n'
WARNED = '[[pf]]\nname = "storage"\nmatch.driver = "igb"\n[[pf.vlan]]\nid = 10\nname = "v10"\n'


def test_a_terminal_gets_the_source_with_a_mark_and_a_summary(command: Any, tree: Tree, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    tree.policy(WARNED.replace("[[pf.vlan]]", "vsf = 4\n[[pf.vlan]]"))
    result = command("check", "--format", "page")
    assert result.status == 4
    lines = result.out.splitlines()
    assert lines[0].startswith('error: pf "storage".vsf: found an unknown key, did you mean "vfs"?')
    place = next(number for number, line in enumerate(lines) if line.startswith("  --> "))
    assert lines[place] == f"  --> {tree.root}/etc/vfagent/policy.toml:4:1"
    assert lines[place + 1 : place + 3] == ["4 | vsf = 4", "  | ^"]
    assert lines[-1] == "1 error, 0 notes: the policy is invalid"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_of_the_text_is_wider_than_the_terminal(
    command: Any, tree: Tree, monkeypatch: Any, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    tree.policy(f'[[pf]]\nname = "a"\nmatch = {{ driver = "igb" }}\nvfs = {" " * 300}"4"\n# {"x" * 300}\n')
    lines = command("check", "--format", "page").out.splitlines()
    assert not [line for line in lines if len(line) > columns and "-->" not in line]
    source, mark = (line for line in lines if " | " in line)
    assert source[mark.index("^")] == '"'


def test_a_terminal_gets_no_control_characters_of_a_file(command: Any, tree: Tree) -> None:
    tree.policy(MISTAKES.replace("\x7f", "\x1b[31m"))
    assert "\x1b" not in command("check", "--format", "page").out


def test_json_is_one_object_with_places_and_rules(command: Any, tree: Tree) -> None:
    tree.policy(WARNED.replace("[[pf.vlan]]", "vsf = 4\n[[pf.vlan]]"))
    result = command("check", "--format", "json")
    assert result.status == 4
    shown = json.loads(result.out)
    (problem,) = shown["problems"]
    assert (shown["format"], shown["valid"], shown["digest"]) == (1, False, None)
    assert (problem["line"], problem["column"], problem["key"], problem["rule"]) == (4, 1, "pf[0].vsf", "storage")


def test_json_of_a_valid_policy_has_its_digest_and_notes(command: Any, tree: Tree) -> None:
    tree.policy(WARNED)
    result = command("check", "--format", "json")
    shown = json.loads(result.out)
    assert (result.status, shown["valid"], shown["problems"]) == (0, True, [])
    assert shown["files"] == [f"{tree.root}/etc/vfagent/policy.toml"]
    assert len(shown["digest"]) == 12
    (note,) = shown["notes"]
    assert (note["line"], note["column"], note["key"], note["rule"]) == (3, 1, "pf[0].match", "storage")
    assert "may match several ports" in note["text"]


def test_github_gets_annotations_that_a_text_cannot_break(command: Any, tree: Tree) -> None:
    tree.policy('[[pf]]\nname = "a%b"\nmatch.driver = "igb"\n')
    (line,) = command("check", "--format", "github").out.splitlines()
    assert line.startswith(f'::error file={tree.root}/etc/vfagent/policy.toml,line=2,col=8::pf "a%25b".name: ')
    assert '"a%25b"' in line


def test_a_file_that_is_not_there_is_an_error_in_each_form(command: Any, tree: Tree) -> None:
    for form in ("page", "short", "json", "github"):
        result = command("check", "--format", form, f"{tree.root}/absent.toml")
        assert result.status == 1
        assert "ENOENT" in result.out + result.err
