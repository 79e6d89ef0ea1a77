# SPDX-License-Identifier: Apache-2.0
"""Boots a lab VM and opens a shell in it."""

import argparse
import subprocess
from collections.abc import Callable

from tests.lab.cache import say
from tests.lab.install import vfagent_tree
from tests.lab.nic import Card, Igb, NvmePf, VirtioPf
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM

CARDS: dict[str, Callable[[str], Card]] = {"igb": Igb, "virtio": VirtioPf, "nvme": NvmePf}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Boots a lab VM and opens a shell in it; the VM ends with the shell.")
    parser.add_argument("cards", nargs="*", default=["igb"], help=f"cards, of {', '.join(CARDS)} (default: igb)")
    parser.add_argument("--policy", type=argparse.FileType(), help="install vfagent, with this policy")
    parser.add_argument("--suite", default="trixie", help="Debian release of the VM")
    return parser


def main() -> None:
    options = _parser().parse_args()
    cards = [CARDS[kind](f"{kind}{number}") for number, kind in enumerate(options.cards)]
    payload: dict[str, Entry] = {}
    if options.policy:
        hold = {"/usr/local/bin/hold-vf": Entry(VF_USER, 0o755)}
        payload = vfagent_tree(options.policy.read(), hold, suite=options.suite)
    with VM(cards, payload, suite=options.suite) as vm:
        say(f"{vm.image.directory.name} by {vm.machine.accel}; console log {vm.console}, QMP {vm.folder / 'qmp'}")
        subprocess.run([*vm.remote.argv("-t"), "cd; exec bash -l"], check=False)


if __name__ == "__main__":
    main()
