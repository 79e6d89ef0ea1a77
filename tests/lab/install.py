# SPDX-License-Identifier: Apache-2.0
"""vfagent as installed by its Makefile, as the payload of a VM's first boot."""

import configparser
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.lab.debian import run_in
from tests.lab.image import base
from tests.lab.payload import Content, Entry, tree_of

REPOSITORY = Path(__file__).parents[2]
UNITS = Path("usr/lib/systemd/system")
PACKAGES = Path("usr/lib/python3/dist-packages")


def vfagent_tree(
    policy: str | None, extra: Mapping[str, Content] | None = None, *, suite: str = "trixie", enabled: bool = True
) -> dict[str, Entry]:
    """vfagent, its policy, its enabled service, and the test's extra files."""
    with tempfile.TemporaryDirectory(prefix="vfagent-lab-") as name:
        root = Path(name)
        make = ["make", "--no-print-directory", "-C", str(REPOSITORY), "install", f"DESTDIR={root}"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        _compile(root, suite)
        tree = tree_of(root)
        if enabled:
            tree |= _wanted(root)
    if policy is not None:
        tree["/etc/vfagent/policy.toml"] = Entry(policy.encode())
    return tree | tree_of(extra or {})


def _compile(root: Path, suite: str) -> None:
    """With the VM's Python, as in a package's installation; in the VM it would take seconds."""
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", "/mnt"]
    command = ["python3", "-m", "compileall", *options, "-p", "/", f"/mnt/{PACKAGES}"]
    run_in(base(suite), command, {root: "/mnt"})


def _wanted(root: Path) -> dict[str, Entry]:
    """The links of `systemctl enable`."""
    links: dict[str, Entry] = {}
    for unit in (root / UNITS).glob("*.service"):
        for target in _wanted_by(unit):
            links[f"/etc/systemd/system/{target}.wants/{unit.name}"] = Entry(target=f"/{UNITS / unit.name}")
    return links


def _wanted_by(unit: Path) -> list[str]:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.read_string(unit.read_text())
    return parser.get("Install", "WantedBy", fallback="").split()
