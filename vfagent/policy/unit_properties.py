# SPDX-License-Identifier: Apache-2.0
"""The systemd properties that a policy may set on a guest's unit, in unit-file spelling.

What is not here is vfagent's to decide: what the guest may open, who it runs as, and how it is started and stopped.
"""

from vfagent.policy.strings import DESCRIPTION
from vfagent.policy.value_types import Choice, Either, Key, Text, Whole

_SIZE = Text(
    "infinity|[1-9][0-9]{0,11}[KMGT]?|(?:100|[1-9]?[0-9])%", 'a size such as "2G", a share such as "50%", or "infinity"'
)
_NUMBERS = Text("[0-9]{1,4}(?:-[0-9]{1,4})?(?:[, ][0-9]{1,4}(?:-[0-9]{1,4})?)*", 'numbers such as "0-3,8"')
_QUOTA = Text("[1-9][0-9]{0,6}%", 'a share of one CPU such as "200%"')
_WEIGHT = Whole(1, 10000)
_TASKS = Either((Whole(16, 4194304), Text("infinity", '"infinity"')))
_TIMEOUT = Either(
    (Whole(1, 86400), Text("[1-9][0-9]{0,4}(?:s|min)|[1-9][0-9]?h|infinity", 'a time such as "90s", or "infinity"'))
)
_POLICIES = Choice(("default", "preferred", "bind", "interleave", "local"))

UNIT_PROPERTIES = {
    "AllowedCPUs": Key(_NUMBERS, "The CPUs the guest may run on."),
    "AllowedMemoryNodes": Key(_NUMBERS, "The NUMA nodes the guest's memory may come from."),
    "CPUAffinity": Key(_NUMBERS, "The CPUs QEMU's threads are pinned to."),
    "CPUQuota": Key(_QUOTA, "The most CPU time the guest gets."),
    "CPUWeight": Key(_WEIGHT, "The guest's share of CPU time beside others."),
    "Description": Key(DESCRIPTION, "How systemctl shows the unit."),
    "IOWeight": Key(_WEIGHT, "The guest's share of disk time beside others."),
    "MemoryHigh": Key(_SIZE, "Where the kernel begins to slow the guest down."),
    "MemoryLow": Key(_SIZE, "Memory that is not reclaimed while others have some to give."),
    "MemoryMax": Key(_SIZE, "Where the kernel kills the guest; QEMU needs some memory beside the guest's own."),
    "MemoryMin": Key(_SIZE, "Memory that is never reclaimed."),
    "MemorySwapMax": Key(_SIZE, "The most swap the guest may fill."),
    "NUMAMask": Key(_NUMBERS, "The NUMA nodes that NUMAPolicy is about."),
    "NUMAPolicy": Key(_POLICIES, "Where the guest's memory is taken from."),
    "Nice": Key(Whole(-20, 19), "The scheduling priority; lower runs sooner."),
    "OOMScoreAdjust": Key(Whole(-1000, 1000), "How likely the guest is killed when memory is short; -1000 is never."),
    "StartupCPUWeight": Key(_WEIGHT, "CPUWeight while the host boots."),
    "TasksMax": Key(_TASKS, "The most threads QEMU may have."),
    "TimeoutStopSec": Key(_TIMEOUT, "How long the guest may take to power down before it is killed."),
}
