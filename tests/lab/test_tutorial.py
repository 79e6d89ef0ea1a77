# SPDX-License-Identifier: Apache-2.0
"""The tutorial, typed as it stands: each command does what the page shows.

In what is shown, `…` stands for any text; spaces and line ends count alike.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.lab.install import REPOSITORY, vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.vf_user import HOLDER
from tests.lab.vm import VM

PAGE = REPOSITORY / "docs/tutorial.md"
PROMPT = "lab# "


@dataclass(frozen=True, slots=True)
class Typed:
    command: str
    shown: str

    def fits(self, said: str) -> bool:
        parts = [re.escape(" ".join(part.split())) for part in self.shown.split("…")]
        return re.fullmatch(r"\s*" + r".*".join(parts) + r"\s*", " ".join(said.split()), re.DOTALL) is not None


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
    """What `make lab` gives."""
    policy = (REPOSITORY / "config/examples/lab.toml").read_text()
    hold = {"/usr/local/bin/hold-vf": Entry(HOLDER, 0o755)}
    machine = warm([Igb("igb0")], vfagent_tree(policy, hold))
    machine.run("systemctl start vfagent.service")
    return machine


@pytest.mark.long
def test_each_command_of_the_tutorial_does_what_it_shows(vm: VM) -> None:
    commands = list(typed(PAGE.read_text()))
    assert len(commands) > 15
    for one in commands:
        # A terminal has both in their order.
        said = vm.run(f"exec 2>&1; cd; {one.command}\n", check=False, timeout=120).stdout
        assert one.fits(said), f"{PROMPT}{one.command}\n{said}\n--- is shown as:\n{one.shown}"


@pytest.mark.parametrize(
    ("shown", "said", "fits"),
    [
        ("a  b\n", "a b\n", True),
        ("pid …, ready", "pid 123, ready\n", True),
        ("…", "", True),
        ("", "an error\n", False),
        ("a b", "a b c", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, said: str, fits: bool) -> None:  # noqa: FBT001
    assert Typed("x", shown).fits(said) is fits
