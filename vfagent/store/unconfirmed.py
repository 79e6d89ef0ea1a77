# SPDX-License-Identifier: Apache-2.0
"""A policy that was loaded for a trial, and the one before it, which comes back unless somebody confirms the new one.

The policy's files belong to the administrator and stay as they are. While they are those of the trial, a service that
starts after its end, or after a boot, loads the policy before it.
"""

import contextlib
import json
import time
from pathlib import Path

from vfagent.errors import PolicyError
from vfagent.frozen import frozen
from vfagent.kernel.rooted import read_regular
from vfagent.model.codec import decode, encode
from vfagent.policy.types import Policy
from vfagent.store.state import write_json

_MOST = 32 << 20
_BOOT_ID = "proc/sys/kernel/random/boot_id"


@frozen(slots=True)
class Unconfirmed:
    """`digest`: of the policy on trial. `until`: by CLOCK_BOOTTIME of that boot, which goes on in suspend."""

    digest: str
    before: Policy
    boot_id: str
    until: float


class UnconfirmedFile:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._path = root / "var/lib/vfagent/unconfirmed.json"

    def keep(self, digest: str, before: Policy, within_s: float) -> Unconfirmed:
        """On disk when this returns. Raises OSError."""
        trial = Unconfirmed(digest, before, self._boot_id(), _now() + within_s)
        write_json(self._path, encode(trial), durable=True)
        return trial

    def read(self) -> Unconfirmed | None:
        try:
            return decode(Unconfirmed, json.loads(read_regular(self._root, self._path, _MOST)))
        except (OSError, ValueError, RecursionError):
            return None

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def left_s(self, trial: Unconfirmed) -> float:
        """0 after a boot: whoever works over the network does not know whether the host comes up with it."""
        return max(trial.until - _now(), 0.0) if trial.boot_id == self._boot_id() else 0.0

    def _boot_id(self) -> str:
        with contextlib.suppress(OSError):
            return (self._root / _BOOT_ID).read_text().strip()
        return ""


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def at_start(root: Path, answer: Policy | PolicyError) -> Policy | PolicyError:
    """What a service that starts now loads, where the files on disk are `answer`."""
    file = UnconfirmedFile(root)
    trial = file.read()
    if trial is None or isinstance(answer, PolicyError) or answer.digest != trial.digest or file.left_s(trial) > 0:
        return answer
    return trial.before
