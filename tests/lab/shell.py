# SPDX-License-Identifier: Apache-2.0
"""Boots a lab VM and opens a shell in it."""

import argparse
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.lab.cache import say
from tests.lab.install import vfagent_tree
from tests.lab.labcard import labcard_tree, load
from tests.lab.nic import Card, Igb, NvmePf, VirtioPf
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM

CARDS: dict[str, Callable[[str], Card]] = {"igb": Igb, "virtio": VirtioPf, "nvme": NvmePf}
# For every card of tests/lab/card, by its vendor.
CARD_RULE = """
[[pf]]
name = "card"
match = { vendor = "1ab0" }
vfs = 4

[[pf.vf]]
driver = "vfio-pci"
mac = "stable"
vlan = 10
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Boots a lab VM and opens a shell in it; the VM ends with the shell.")
    parser.add_argument("cards", nargs="*", help=f"cards, of {', '.join(CARDS)} (default: igb)")
    parser.add_argument("--card", action="append", default=[], help="KIND[,KEY=NUMBER]..., see tests/lab/card/main.c")
    parser.add_argument("--policy", type=argparse.FileType(), help="install vfagent, with this policy")
    parser.add_argument("--suite", default="trixie", help="Debian release of the VM")
    return parser


@contextmanager
def host(options: argparse.Namespace) -> Iterator[VM]:
    """The VM that the options ask for, booted, with its cards."""
    kinds = options.cards or ([] if options.card else ["igb"])
    cards = [CARDS[kind](f"{kind}{number}") for number, kind in enumerate(kinds)]
    payload: dict[str, Entry] = labcard_tree(options.suite) if options.card else {}
    if options.policy:
        hold = {"/usr/local/bin/hold-vf": Entry(VF_USER, 0o755)}
        policy = options.policy.read() + (CARD_RULE if options.card else "")
        payload |= vfagent_tree(policy, hold, suite=options.suite)
    with VM(cards, payload, suite=options.suite) as vm:
        say(f"{vm.image.directory.name} by {vm.machine.accel}; console log {vm.console}, QMP {vm.folder / 'qmp'}")
        if options.card:
            load(vm, *options.card)
        yield vm


def main() -> None:
    with host(parser().parse_args()) as vm:
        subprocess.run([*vm.remote.argv("-t"), "cd; exec bash -l"], check=False)


if __name__ == "__main__":
    main()
