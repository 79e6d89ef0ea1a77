# SPDX-License-Identifier: Apache-2.0
"""A host whose answers are kept for a report, and the host that a report's tree stands for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from vfagent.kernel.answers import ANSWERS_FILE, Recorder, RecordingSysfs, Replay
from vfagent.kernel.protocols import DeviceUsers, Devlink, Host, Network, Owners, Routes, Rtnl, UdevDatabase
from vfagent.kernel.rooted import read_regular

_MOST = 256 << 20
# Sysfs and the journal of address moves are files of the tree.
_RECORDED: dict[str, type] = {
    "rtnl": Rtnl,
    "devlink": Devlink,
    "udev": UdevDatabase,
    "network": Network,
    "routes": Routes,
    "device_users": DeviceUsers,
    "owners": Owners,
}


def recording(host: Host, root: Path) -> tuple[Host, RecordingSysfs, dict[str, Any]]:
    """The host, what is read of sysfs through it, and the answers that it gets."""
    answers: dict[str, Any] = {}
    recorders: dict[str, Any] = {name: Recorder(getattr(host, name), name, answers) for name in _RECORDED}
    sysfs = RecordingSysfs(host.sysfs, str(root))
    return replace(host, sysfs=sysfs, numvfs=None, **recorders), sysfs, answers


def replayed(host: Host, root: Path) -> Host:
    """With the answers that a report has kept in its tree; without a report, as it is."""
    try:
        answers = json.loads(read_regular(root, root / ANSWERS_FILE, _MOST))
    except (OSError, ValueError, RecursionError):
        return host
    if not isinstance(answers, dict):
        return host
    replays: dict[str, Any] = {
        name: Replay(protocol, name, answers, getattr(host, name)) for name, protocol in _RECORDED.items()
    }
    return replace(host, **replays)
