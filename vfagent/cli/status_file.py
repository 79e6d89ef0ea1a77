# SPDX-License-Identifier: Apache-2.0
"""The service's status file, read and decoded once for each use."""

import json
import sys
from pathlib import Path
from typing import Any

from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.frozen import frozen
from vfagent.kernel.rooted import read_regular
from vfagent.model.codec import decode
from vfagent.model.status import Status
from vfagent.service.control_client import listens
from vfagent.store.locks import is_locked

_MOST = 256 << 20  # 8,192 VFs have some 10 MiB


@frozen(slots=True)
class StatusFile:
    """`data`: the JSON as it is in the file, with the keys of the version that wrote it."""

    data: dict[str, Any]
    status: Status


def status_path(root: Path) -> Path:
    return root / "run/vfagent/status.json"


def service_runs(root: Path) -> bool:
    """By the lock that the service holds while it runs. A copy of another host has none: assume that it runs."""
    return root != Path("/") or lock_is_held(root)


def lock_is_held(root: Path) -> bool:
    """For others than root, whether the service listens."""
    try:
        return is_locked(root / "run/vfagent")
    except PermissionError:
        return listens(root)


def read_status(root: Path) -> StatusFile | None:
    """None while the service does not run. A file of another version may lack a key, and is an error."""
    try:
        data = json.loads(read_regular(root, status_path(root), _MOST))
        status = decode(Status, data)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise VfagentError(f"{error.filename}: cannot read it: {error.strerror}", hint="run it as root") from error
    except (OSError, ValueError, RecursionError) as error:
        raise VfagentError(f"status.json: cannot read it: {error}") from error
    return StatusFile(data, status) if service_runs(root) else None


def report_no_service() -> int:
    print("vfagent: the service is not running (systemctl start vfagent)", file=sys.stderr)
    return Exit.NO_SERVICE
