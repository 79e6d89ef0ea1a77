# SPDX-License-Identifier: Apache-2.0
"""A policy that was loaded for a trial, and the one before it, which comes back unless somebody confirms the new one.

The policy's files belong to the administrator and stay as they are. While they are those of the trial, a service that
starts after its end, or after a boot, loads the policy before it.
"""

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

from vfagent.errors import PolicyError
from vfagent.frozen import frozen
from vfagent.kernel.rooted import read_regular
from vfagent.model.codec import decode, encode
from vfagent.policy.types import Policy
from vfagent.store.state import remove_durably, write_json

_MOST = 32 << 20
_FILE = "var/lib/vfagent/unconfirmed.json"
_BOOT_ID = "proc/sys/kernel/random/boot_id"


@frozen(slots=True)
class Unconfirmed:
    """`digest`: of the policy on trial. `until`: by CLOCK_BOOTTIME of that boot, which goes on in suspend."""

    digest: str
    before: Policy
    boot_id: str
    until: float

    @property
    def restored(self) -> Policy:
        """The policy before, as it is active once the trial has lapsed."""
        return replace(self.before, ends_trial=True)


@frozen(slots=True)
class FirstPolicy:
    """What a service that starts finds. With a trial that has lapsed, the policy before it is the active one."""

    on_disk: Policy | PolicyError
    trial: Unconfirmed | None = None
    lapsed: bool = False

    @property
    def active(self) -> Policy | PolicyError:
        return self.trial.restored if self.trial and self.lapsed else self.on_disk


def keep(root: Path, digest: str, before: Policy, within_s: float) -> Unconfirmed:
    """On disk when this returns. Raises OSError."""
    trial = Unconfirmed(digest, before, _boot_id(root), _now() + within_s)
    write_json(root / _FILE, encode(trial), durable=True)
    return trial


def forget(root: Path) -> None:
    """Gone from the disk when this returns. Raises OSError."""
    remove_durably(root / _FILE)


def left_s(root: Path, trial: Unconfirmed) -> float:
    """0 after a boot: whoever works over the network does not know whether the host comes up with it."""
    return max(trial.until - _now(), 0.0) if trial.boot_id == _boot_id(root) else 0.0


def first_policy(root: Path, on_disk: Policy | PolicyError) -> FirstPolicy:
    """A trial ends in time whether its files can be read or not."""
    try:
        trial = decode(Unconfirmed, json.loads(read_regular(root, root / _FILE, _MOST)))
    except (OSError, ValueError, RecursionError):
        return FirstPolicy(on_disk)
    applies = isinstance(on_disk, PolicyError) or on_disk.digest == trial.digest
    return FirstPolicy(on_disk, trial, lapsed=applies and left_s(root, trial) == 0)


def _boot_id(root: Path) -> str:
    with contextlib.suppress(OSError):
        return (root / _BOOT_ID).read_text().strip()
    return ""


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
