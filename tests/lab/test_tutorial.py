# SPDX-License-Identifier: Apache-2.0
"""Runs each command of the tutorial and compares its output with the page.

In the page's output, `…` stands for any text, and each white space for any other.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.lab.install import REPOSITORY, vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM

PAGE = REPOSITORY / "docs/tutorial.md"
PROMPT = "lab# "


@dataclass(frozen=True, slots=True)
class Typed:
    command: str
    shown: str

    def fits(self, output: str) -> bool:
        parts = [re.escape(" ".join(part.split())) for part in self.shown.split("…")]
        return re.fullmatch(r"\s*" + r".*".join(parts) + r"\s*", " ".join(output.split()), re.DOTALL) is not None


def typed(page: str) -> Iterator[Typed]:
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", page):
        for part in re.split(rf"(?m)^{PROMPT}", block)[1:]:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                more, _, shown = shown.partition("\n")
                command = f"{command}\n{more}"
            yield Typed(command, shown)


@pytest.fixture
def vm(warm: Callable[..., VM]) -> VM:
    """The VM of `make lab`."""
    policy = (REPOSITORY / "config/examples/lab.toml").read_text()
    hold = {"/usr/local/bin/hold-vf": Entry(VF_USER, 0o755)}
    machine = warm([Igb("igb0")], vfagent_tree(policy, hold))
    machine.run("systemctl start vfagent.service")
    return machine


@pytest.mark.long
def test_each_command_of_the_tutorial_prints_what_the_page_shows(vm: VM) -> None:
    commands = list(typed(PAGE.read_text()))
    assert len(commands) > 15
    for step in commands:
        # Both streams in their order, as on a terminal.
        output = vm.run(f"exec 2>&1; cd; {step.command}\n", check=False, timeout=120).stdout
        assert step.fits(output), f"{PROMPT}{step.command}\n{output}\n--- the page shows:\n{step.shown}"


@pytest.mark.parametrize(
    ("shown", "output", "fits"),
    [
        ("a  b\n", "a b\n", True),
        ("pid …, ready", "pid 123, ready\n", True),
        ("…", "", True),
        ("", "an error\n", False),
        ("a b", "a b c", False),
    ],
)
def test_the_output_is_compared_with_the_page(shown: str, output: str, fits: bool) -> None:  # noqa: FBT001
    assert Typed("x", shown).fits(output) is fits
