# SPDX-License-Identifier: Apache-2.0
"""All that a page is made from: frozen, and with nothing of the kernel in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vfagent.host.vf_counters import VfCounters
from vfagent.status import Status
from vfagent.tally import Tally

Traffic = Mapping[str, Mapping[int, VfCounters]]
"""By the PF's address and the VF's index, of PFs whose drivers count."""


@dataclass(frozen=True, slots=True)
class View:
    status: Status
    tally: Tally
    traffic: Traffic = field(default_factory=dict)
