# SPDX-License-Identifier: Apache-2.0
"""The values that the pages show."""

from collections.abc import Mapping
from dataclasses import field

from vfagent.frozen import frozen
from vfagent.kernel.vf_counters import VfCounters
from vfagent.metrics.counters import Counters
from vfagent.model.guest_usage import GuestUsage
from vfagent.model.status import Status

PfTraffic = Mapping[int, VfCounters]  # by VF index


@frozen(slots=True)
class View:
    """The status, the counters, the traffic and what guests use at one time."""

    status: Status
    counters: Counters
    traffic: Mapping[str, PfTraffic] = field(default_factory=dict)  # by PF address
    usage: Mapping[str, GuestUsage] = field(default_factory=dict)  # by guest


@frozen(slots=True)
class About:
    """What is answered without a page: the versions of the agent and of its policy, and whether it is ready."""

    version: str
    policy: str
    ready: bool
