# SPDX-License-Identifier: Apache-2.0
"""Packages that one test adds to a host, so that they are not in every image."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import built
from tests.lab.debian import mirror
from tests.lab.image import base
from tests.lab.payload import Entry, tree_of

# State, and documentation.
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/bash-completion", "var", "dev", "boot")


def packages_tree(*packages: str, suite: str = "trixie") -> dict[str, Entry]:
    """The packages and their dependencies, without the files that the host has."""
    host = base(suite)
    recipe = {"packages": packages, "suite": suite, "host": host.parent.name, "unused": _UNUSED}
    name = f"packages-{'-'.join(packages)}-{suite}"
    return tree_of(built(name, recipe, lambda work: _extract(packages, suite, host, work)) / "files")


def _extract(packages: Sequence[str], suite: str, host: Path, work: Path) -> None:
    uri = mirror()
    source = [f"deb {uri} {suite} main"] if uri else []
    root = work / "files"
    argv = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}", suite, str(root), *source]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mmdebstrap {packages}: exit {done.returncode}:\n{done.stderr[-4000:]}")
    for unused in _UNUSED:
        shutil.rmtree(root / unused, ignore_errors=True)
    for path in sorted(root.rglob("*"), reverse=True):
        _drop_known(path, host / path.relative_to(root))


def _drop_known(path: Path, known: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        if not any(path.iterdir()):
            path.rmdir()
    elif known.is_symlink() or known.exists():
        path.unlink()
