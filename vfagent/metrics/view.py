# SPDX-License-Identifier: Apache-2.0
"""The values that a page shows."""

from collections.abc import Mapping
from dataclasses import field

from vfagent.frozen import frozen
from vfagent.metrics.counters import Counters
from vfagent.model.status import Status


@frozen(slots=True)
class PfTraffic:
    """The traffic of the VFs of a PF: formatted lines, by the name of their family."""

    vfs: frozenset[int]
    lines: Mapping[str, str]


@frozen(slots=True)
class View:
    """The status, the counters and the traffic at one time."""

    status: Status
    counters: Counters
    traffic: Mapping[str, PfTraffic] = field(default_factory=dict)  # by PF address
