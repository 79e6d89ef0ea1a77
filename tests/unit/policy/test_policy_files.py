# SPDX-License-Identifier: Apache-2.0
"""Which files are accepted as policy files."""

import os
import socket
from pathlib import Path

import pytest

from tests.unit.policy.trees import bridge, bridges, problems, write
from vfagent.errors import PolicyError
from vfagent.store.policy_files import load, load_files

ETC = "etc/vfagent"


def problem_of(tmp_path: Path, content: str | bytes) -> str:
    write(tmp_path, f"{ETC}/policy.toml", content)
    (line,) = problems(tmp_path)
    return line.removeprefix("/etc/vfagent/")


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    assert not load_files([write(tmp_path, "policy.toml", "#" * (1 << 20))]).pf
    text = problem_of(tmp_path, "#" * (1 << 20) + "\n")
    assert text == "policy.toml: found more than 1048576 bytes, allowed is at most 1 MiB"


def test_files_of_more_than_a_mebibyte_together_are_refused(tmp_path: Path) -> None:
    write(tmp_path, f"{ETC}/policy.toml", "#" * (1 << 19))
    write(tmp_path, f"{ETC}/policy.d/10.toml", "#" * (1 << 19))
    assert not load(tmp_path).pf
    write(tmp_path, f"{ETC}/policy.d/20.toml", "#\n")
    [line] = problems(tmp_path)
    text = "found more than 1048576 bytes in all files together, allowed is at most 1 MiB"
    assert line == f"/etc/vfagent/policy.d/20.toml: {text}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a = 1\n\0", "policy.toml:2:1: found a NUL byte at offset 6, allowed is text"),
        (
            b"\xef\xbb\xbf# hello",
            "policy.toml:1:1: found a byte order mark, allowed is UTF-8 without one (sed -i '1s/^\\xef\\xbb\\xbf//')",
        ),
        (
            "# hello".encode("utf-16"),
            "policy.toml:1:1: found a byte order mark of UTF-16, allowed is UTF-8 (iconv -f UTF-16 -t UTF-8)",
        ),
        (
            "# ä\n# x\xe9".encode("latin-1"),
            "policy.toml:1:3: found byte 0xe4 at offset 2, allowed is UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)",
        ),
        (
            b"# \xc3\xa4\n# x\xff",
            "policy.toml:2:4: found byte 0xff at offset 8, allowed is UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)",
        ),
        (b"\x7fELF\x02\x01\x01\x00", "policy.toml:1:8: found a NUL byte at offset 7, allowed is text"),
        ("x = " + "[" * 100_000, "policy.toml:1:37: found nesting deeper than 32"),
        ("x" + ".x" * 100_000 + " = 1", "policy.toml:1:67: found nesting deeper than 32"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_its_location(tmp_path: Path, content: str | bytes, text: str) -> None:
    assert problem_of(tmp_path, content) == text


def test_text_that_is_not_toml_is_refused_with_its_location(tmp_path: Path) -> None:
    assert problem_of(tmp_path, 'a = 1\nb = "x\n').startswith(
        "policy.toml:2:5: not TOML: found a string without its closing"
    )
    assert problem_of(tmp_path, "a = 1\na = 2\n").startswith("policy.toml:2:")
    assert problem_of(tmp_path, "a = 1\nb = [").startswith("policy.toml:2:6: not TOML: ")
    assert problem_of(tmp_path, "a = " + "9" * 5000).startswith("policy.toml: not TOML: Exceeds the limit")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Invalid value (at line 3, column 10)", "policy.toml:3:10: not TOML: Invalid value"),
        ("Expected ']' (at end of document)", "policy.toml:2:4: not TOML: Expected ']'"),
        ("Something else", "policy.toml: not TOML: Something else"),
    ],
)
def test_the_location_is_read_from_a_parser_s_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, text: str
) -> None:
    def fail(_: str) -> dict[str, object]:
        raise ValueError(message)

    monkeypatch.setattr("vfagent.store.policy_files.tomli.loads", fail)
    assert problem_of(tmp_path, "???\n!!!") == text


def test_a_parser_s_recursion_error_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> dict[str, object]:
        raise RecursionError

    monkeypatch.setattr("vfagent.store.policy_files.tomli.loads", fail)
    assert problem_of(tmp_path, "") == "policy.toml: found nesting too deep to parse"


def test_an_unreadable_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vfagent.store.policy_files.os.open", refuse)
    assert problem_of(tmp_path, "") == "policy.toml: cannot read it: EACCES (Permission denied)"


def test_a_dangling_link_is_reported(tmp_path: Path) -> None:
    (tmp_path / ETC).mkdir(parents=True)
    (tmp_path / ETC / "policy.toml").symlink_to("gone.toml")
    assert problems(tmp_path) == [
        "/etc/vfagent/policy.toml: found a symbolic link to 'gone.toml', which does not exist, allowed is"
        " a regular file"
    ]


def test_a_link_to_itself_is_reported(tmp_path: Path) -> None:
    (tmp_path / ETC).mkdir(parents=True)
    (tmp_path / ETC / "policy.toml").symlink_to("policy.toml")
    assert problems(tmp_path)[0].startswith("/etc/vfagent/policy.toml: cannot read it: ELOOP")


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / ETC).mkdir(parents=True)
    os.mkfifo(tmp_path / ETC / "policy.toml")
    assert problems(tmp_path) == ["/etc/vfagent/policy.toml: found a FIFO, allowed is a regular file"]


def test_a_folder_with_a_file_s_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / ETC / "policy.d/10.toml").mkdir(parents=True)
    assert problems(tmp_path) == ["/etc/vfagent/policy.d/10.toml: found a folder, allowed is a regular file"]


def test_a_socket_with_a_file_s_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("policy.toml")
        with pytest.raises(PolicyError, match="ENXIO"):
            load_files([tmp_path / "policy.toml"])


def test_a_device_is_refused() -> None:
    with pytest.raises(PolicyError, match="/dev/zero: found a character device, allowed is a regular file"):
        load_files([Path("/dev/zero")])


def test_a_file_with_a_folder_s_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, f"{ETC}/policy.d", "")
    assert problems(tmp_path) == ["/etc/vfagent/policy.d: cannot list it: ENOTDIR (Not a directory)"]


def test_a_drop_in_that_disappears_before_it_is_read_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, f"{ETC}/policy.d/10.toml", bridge("br0"))
    write(tmp_path, f"{ETC}/policy.d/20.toml", bridge("br1"))
    opened = os.open

    def open_late(path: Path, flags: int) -> int:
        (tmp_path / ETC / "policy.d/20.toml").unlink(missing_ok=True)
        return opened(path, flags)

    monkeypatch.setattr("vfagent.store.policy_files.os.open", open_late)
    assert bridges(load(tmp_path)) == ["br0"]


def test_a_file_given_by_name_must_exist(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"gone\.toml: cannot read it: ENOENT"):
        load_files([tmp_path / "gone.toml"])


def test_a_file_name_cannot_break_a_line_of_the_message(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a\nb\udcff.toml".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"), "x ="
    )
    with pytest.raises(PolicyError) as caught:
        load_files([path])
    assert "a\\x0ab\\xff.toml:1:4: not TOML" in caught.value.problems[0]


def test_the_name_of_another_file_cannot_break_a_line_of_the_message(tmp_path: Path) -> None:
    paths = [write(tmp_path, name, bridge("br0")) for name in ("a\nb.toml", "c.toml")]
    with pytest.raises(PolicyError) as caught:
        load_files(paths)
    (line,) = caught.value.problems
    assert line.endswith('a\\x0ab.toml:2: bridge "br0".name')
