# SPDX-License-Identifier: Apache-2.0
"""NetworkManager, laid over a host that has it not: the one test that wants it should not cost all others an image."""

import shutil
import subprocess
from pathlib import Path

from tests.lab.cache import built
from tests.lab.debian import mirror
from tests.lab.image import base
from tests.lab.machine import MANAGEMENT_MAC
from tests.lab.payload import Entry, tree_of

_PACKAGE = "network-manager"
# Its own state, and what only a reader needs.
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/bash-completion", "var", "dev", "boot")
_LEAVE_ALONE = f"[keyfile]\nunmanaged-devices=mac:{MANAGEMENT_MAC}\n"


def networkmanager_tree(suite: str = "trixie") -> dict[str, Entry]:
    """Its package and what that depends on, less what the host has; the way to the test is left alone."""
    host = base(suite)
    recipe = {"package": _PACKAGE, "suite": suite, "host": host.parent.name, "unused": _UNUSED}
    tree = tree_of(built(f"networkmanager-{suite}", recipe, lambda work: _extract(suite, host, work)) / "files")
    return tree | {"/etc/NetworkManager/conf.d/lab.conf": Entry(_LEAVE_ALONE.encode())}


def _extract(suite: str, host: Path, work: Path) -> None:
    uri = mirror()
    source = [f"deb {uri} {suite} main"] if uri else []
    root = work / "files"
    argv = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={_PACKAGE}", suite, str(root), *source]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mmdebstrap {_PACKAGE}: exit {done.returncode}:\n{done.stderr[-4000:]}")
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
