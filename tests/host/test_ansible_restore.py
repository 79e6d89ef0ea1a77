# SPDX-License-Identifier: Apache-2.0
"""The shell scripts of the Ansible role, killed at each change they make: a complete policy is always there."""

import itertools
import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tests.rules.project import ROOT

TASKS = ROOT / "packaging/ansible/roles/vfagent/tasks"
COMMANDS = ("cp", "mkdir", "mv", "rm")
CHANGES = "write,copy_file_range,?rename,?renameat,renameat2,?unlink,unlinkat,?mkdir,mkdirat"
GOOD = {"policy.toml": "good\n", "policy.d/10-site.toml": "site\n", "policy.d/99-link.toml": "site\n"}
FAILED = {"policy.toml": "failed\n", "policy.d/10-site.toml": "changed\n", "policy.d/20-new.toml": "new\n"}
# Runs one command of the script, the one with the number given, until the change with the number given.
WRAPPER = f"""#!/bin/sh
set -- /bin/${{0##*/}} "$@"
echo >>"$COUNT"
if test "$(wc -l <"$COUNT")" = "$COMMAND"; then
    strace --output=/dev/null --inject="{CHANGES}:signal=KILL:when=$CHANGE" "$@"
    status=$?
    test $status -lt 128 || kill -KILL 0
    exit $status
fi
exec "$@"
"""


def script(file: str, task: str, etc: Path) -> str:
    """Without sync: it takes seconds on a busy machine, and a kill loses nothing that was written."""
    shell = re.search(rf"- name: {task}\n  ansible\.builtin\.shell: \|\n((?:    .*\n)+)", (TASKS / file).read_text())
    assert shell
    assert "/etc/" in shell[1]
    return textwrap.dedent(shell[1]).replace("/etc/", f"{etc}/").replace("sync --file-system", ":")


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in name:
            path.symlink_to("10-site.toml")
        else:
            path.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    """What the service reads."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.toml")}


def run(text: str) -> None:
    subprocess.run(["sh", "-c", text], check=True, capture_output=True)


def kills(folder: Path, file: str, task: str, **files: dict[str, str]) -> Iterator[Path]:
    """A new /etc with these folders for each change of the script, at which it was killed."""
    programs = folder / "programs"
    programs.mkdir()
    for name in COMMANDS:
        (programs / name).write_text(WRAPPER)
        (programs / name).chmod(0o755)
    for command in itertools.count(1):
        for change in itertools.count(1):
            etc = folder / f"etc-{command}-{change}"
            for name, held in files.items():
                fill(etc / {"present": "vfagent", "copy": ".vfagent.before"}[name], held)
            count = etc / "count"
            numbers = {"COUNT": str(count), "COMMAND": str(command), "CHANGE": str(change)}
            environment = {**os.environ, **numbers, "PATH": f"{programs}:{os.environ['PATH']}"}
            argv = ["sh", "-c", script(file, task, etc)]
            done = subprocess.run(argv, env=environment, start_new_session=True, capture_output=True, check=False)
            if done.returncode == 0:
                break
            assert done.returncode == -9, done.stderr
            yield etc
        if len(count.read_text().splitlines()) < command:
            return


def test_each_file_is_restored_and_new_ones_are_removed(tmp_path: Path) -> None:
    fill(tmp_path / "vfagent", FAILED)
    fill(tmp_path / ".vfagent.before", GOOD)
    run(script("restore.yml", "Restore the previous files", tmp_path))
    assert contents(tmp_path / "vfagent") == contents(tmp_path / ".vfagent.before") == GOOD
    assert (tmp_path / "vfagent/policy.d/99-link.toml").is_symlink()


def test_a_restore_that_is_killed_leaves_the_copy_and_no_file_in_part(tmp_path: Path) -> None:
    killed = 0
    for etc in kills(tmp_path, "restore.yml", "Restore the previous files", present=FAILED, copy=GOOD):
        killed += 1
        assert contents(etc / ".vfagent.before") == GOOD
        present = contents(etc / "vfagent")
        assert "policy.toml" in present
        assert all(text in (GOOD.get(name), FAILED.get(name)) for name, text in present.items())
        run(script("restore.yml", "Restore the previous files", etc))
        assert contents(etc / "vfagent") == GOOD
    assert killed > 8


def test_a_copy_that_is_killed_is_complete_or_absent(tmp_path: Path) -> None:
    killed = 0
    for etc in kills(tmp_path, "policy.yml", "Copy the present policy", present=GOOD, copy=FAILED):
        killed += 1
        assert contents(etc / "vfagent") == GOOD
        assert contents(etc / ".vfagent.before") in ({}, FAILED, GOOD)
        run(script("policy.yml", "Copy the present policy", etc))
        assert contents(etc / ".vfagent.before") == GOOD
        assert sorted(path.name for path in etc.iterdir() if path.name != "count") == [".vfagent.before", "vfagent"]
    assert killed > 8
