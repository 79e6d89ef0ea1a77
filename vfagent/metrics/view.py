# SPDX-License-Identifier: Apache-2.0
"""All that a page is made from: frozen, and with nothing of the kernel in it."""

from collections.abc import Mapping
from dataclasses import field

from vfagent.frozen import frozen
from vfagent.metrics.counters import Counters
from vfagent.model.status import Status


@frozen(slots=True)
class PfTraffic:
    """What a PF's VFs carried: the lines of each family, by its name."""

    vfs: frozenset[int]
    lines: Mapping[str, str]


@frozen(slots=True)
class View:
    """What a page is made of."""

    status: Status
    counters: Counters
    traffic: Mapping[str, PfTraffic] = field(default_factory=dict)  # by address, of PFs whose drivers count
