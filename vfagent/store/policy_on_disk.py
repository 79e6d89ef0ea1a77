# SPDX-License-Identifier: Apache-2.0
"""Whether the policy on disk is the active one. `status` may ask at each redraw of a screen, the service at resyncs."""

import os
from functools import lru_cache
from pathlib import Path

from vfagent.errors import PolicyError
from vfagent.model.status import PolicyStatus
from vfagent.store.policy_files import DROP_IN_FOLDERS, POLICY_FILE, load

_Stamp = tuple[tuple[str, int, int], ...]


def not_active(root: Path, policy: PolicyStatus) -> str | None:
    """A note about files that the service has not read. The service itself reports those that it refused."""
    digest = digest_on_disk(root)
    if digest == policy.digest or (digest is None and policy.problems):
        return None
    if digest is None:
        return "the policy on disk is not the active one, and is invalid: see vfagent check"
    return "the policy on disk is not the active one: see vfagent plan; systemctl reload vfagent loads it"


def digest_on_disk(root: Path) -> str | None:
    """None where the policy is invalid. Reads it only where its files have changed."""
    return _digest(root, _stamp(root))


def _stamp(root: Path) -> _Stamp:
    """Changes with the files. By ctime, which nobody can set: a copied file may have an old mtime."""
    paths = [root / POLICY_FILE]
    for folder in (root / name for name in DROP_IN_FOLDERS):
        try:
            paths += sorted(folder.glob("*.toml"))
        except OSError:
            continue
    return tuple(stamp for path in paths if (stamp := _stamp_of(path)))


def _stamp_of(path: Path) -> tuple[str, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return str(path), status.st_ino, status.st_ctime_ns


@lru_cache(maxsize=1)
def _digest(root: Path, stamp: _Stamp) -> str | None:
    """A large policy takes a tenth of a second to read."""
    try:
        return load(root).digest
    except (PolicyError, OSError):
        return None
