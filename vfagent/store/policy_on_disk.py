# SPDX-License-Identifier: Apache-2.0
"""Whether the policy on disk is the one in force: for `status`, which may ask at each redraw of a screen."""

import os
from functools import lru_cache
from pathlib import Path

from vfagent.errors import PolicyError
from vfagent.model.status import PolicyStatus
from vfagent.store.policy_files import DROP_IN_FOLDERS, POLICY_FILE, load

_Stamp = tuple[tuple[str, int, int], ...]


def not_active(root: Path, policy: PolicyStatus) -> str | None:
    """What to say of files that the service has not read. What it read and refused, it says itself."""
    digest = _digest(root, _stamp(root))
    if digest == policy.digest or (digest is None and policy.problems):
        return None
    if digest is None:
        return "on disk is another policy, and it is invalid: see vfagent check"
    return "on disk is another policy: see vfagent plan; systemctl reload vfagent loads it"


def _stamp(root: Path) -> _Stamp:
    """Changes with the files, by the time that nobody can set: a file may bring an old mtime along."""
    paths = [root / POLICY_FILE]
    for folder in (root / name for name in DROP_IN_FOLDERS):
        try:
            paths += sorted(folder.glob("*.toml"))
        except OSError:
            continue
    return tuple(stamp for path in paths if (stamp := _stamp_of(path)))


def _stamp_of(path: Path) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return str(path), found.st_ino, found.st_ctime_ns


@lru_cache(maxsize=1)
def _digest(root: Path, stamp: _Stamp) -> str | None:
    """Of what is there now; None where it is invalid. A large policy takes a tenth of a second to read."""
    try:
        return load(root).digest
    except (PolicyError, OSError):
        return None
