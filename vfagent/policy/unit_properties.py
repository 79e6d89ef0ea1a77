# SPDX-License-Identifier: Apache-2.0
"""The systemd properties that a policy may set on a guest's unit, in unit-file spelling.

vfagent sets all others itself: device access, user, and how the guest is started and stopped.
"""

from vfagent.policy.strings import DESCRIPTION
from vfagent.policy.value_types import AnyOf, Choice, Integer, Key, String

_SIZE_IN_BYTES = "[1-9][0-9]{0,11}[KMGT]?"
_SIZE_ALLOWED = 'a size such as "2G", a share such as "50%", or "infinity"'
_BITS = {"K": 10, "M": 20, "G": 30, "T": 40}
_INFINITY = (1 << 64) - 1  # D-Bus' largest number, which systemd takes for "infinity"
_MOST_CPUS = 8192  # cpu_set_add() of systemd refuses number 8192, and a kernel has no more
_MOST_NODES = 1024  # MAX_NUMNODES


def _size(text: str) -> str:
    """Raises ValueError."""
    bits = _BITS.get(text[-1], 0)
    digits = text.rstrip("KMGT")
    if digits.isdecimal() and int(digits) << bits >= _INFINITY:
        raise ValueError("which is more than systemd can count, allowed is less than 16777216T")
    return text


def _numbers(text: str, most: int) -> str:
    """Raises ValueError. systemd drops a reversed range, and without any number the guest would not be limited."""
    for part in text.replace(",", " ").split():
        low, _, high = part.partition("-")
        if int(high or low) < int(low):
            raise ValueError(f"where {part} ends before it begins, allowed is {high}-{low}")
        if int(high or low) >= most:
            raise ValueError(f"where {high or low} is too high, allowed is at most {most - 1}")
    return text


def _cpus(text: str) -> str:
    return _numbers(text, _MOST_CPUS)


def _nodes(text: str) -> str:
    return _numbers(text, _MOST_NODES)


_LIST = "[0-9]{1,4}(?:-[0-9]{1,4})?(?:[, ][0-9]{1,4}(?:-[0-9]{1,4})?)*"
_CPUS = String(_LIST, 'numbers such as "0-3,8"', convert=_cpus)
_NODES = String(_LIST, 'numbers such as "0-3,8"', convert=_nodes)
_SIZE = String(f"infinity|{_SIZE_IN_BYTES}|(?:100|[1-9]?[0-9])%", _SIZE_ALLOWED, convert=_size)
# Nothing at all is refused by systemd (bus_cgroup_set_memory_scale).
_LIMIT = String(f"infinity|{_SIZE_IN_BYTES}|(?:100|[1-9][0-9]?)%", _SIZE_ALLOWED, convert=_size)
_QUOTA = String("[1-9][0-9]{0,6}%", 'a share of one CPU such as "200%"')
_WEIGHT = Integer(1, 10000)
_TASKS = AnyOf((Integer(16, 4194304), String("infinity", '"infinity"')))
_TIMEOUT = AnyOf(
    (Integer(1, 86400), String("[1-9][0-9]{0,4}(?:s|min)|[1-9][0-9]?h|infinity", 'a time such as "90s", or "infinity"'))
)
_PAUSE = AnyOf((Integer(0, 86400), String("[0-9]{1,5}(?:s|min)|[1-9][0-9]?h", 'a time such as "30s"')))
_UNIT = r"[a-zA-Z0-9:_.\\@-]{1,240}\.(?:automount|device|mount|path|scope|service|slice|socket|swap|target|timer)"
_UNITS = String(f"{_UNIT}(?: {_UNIT}){{0,15}}", 'names of units such as "zfs.target", with a space between', 1023)
_PATHS = String(r"/[a-zA-Z0-9/._+@=-]*(?: /[a-zA-Z0-9/._+@=-]*){0,15}", "absolute paths with a space between", 1023)
_POLICIES = Choice(("default", "preferred", "bind", "interleave", "local"))

UNIT_PROPERTIES = {
    "After": Key(_UNITS, "Units that the guest starts after, and ends before."),
    "AllowedCPUs": Key(_CPUS, "The CPUs the guest may run on."),
    "AllowedMemoryNodes": Key(_NODES, "The NUMA nodes the guest's memory may come from."),
    "CPUAffinity": Key(_CPUS, "The CPUs QEMU's threads are pinned to."),
    "CPUQuota": Key(_QUOTA, "The maximum CPU time of the guest."),
    "CPUWeight": Key(_WEIGHT, "The guest's CPU weight relative to other units."),
    "Description": Key(DESCRIPTION, "The unit's description in systemctl."),
    "IOWeight": Key(_WEIGHT, "The guest's I/O weight relative to other units."),
    "LimitNOFILE": Key(Integer(1024, 1048576), "How many files QEMU may have open."),
    "MemoryHigh": Key(_LIMIT, "The memory use at which the kernel throttles the guest."),
    "MemoryLow": Key(_SIZE, "Memory that is not reclaimed while other units have reclaimable memory."),
    "MemoryMax": Key(
        _LIMIT, "The memory use at which the kernel kills the guest; QEMU needs some more than the guest's memory."
    ),
    "MemoryMin": Key(_SIZE, "Memory that is never reclaimed."),
    "MemorySwapMax": Key(_SIZE, "The maximum swap the guest may use."),
    "NUMAMask": Key(_NODES, "The NUMA nodes for NUMAPolicy."),
    "NUMAPolicy": Key(_POLICIES, "The guest's NUMA memory policy."),
    "Nice": Key(Integer(-20, 19), "The scheduling priority; lower values have priority."),
    "OOMScoreAdjust": Key(
        Integer(-1000, 1000), "How likely the kernel kills the guest when memory is short; -1000 means never."
    ),
    "Requires": Key(_UNITS, "Units that are started with the guest, which ends with them."),
    "RequiresMountsFor": Key(_PATHS, "Paths whose mounts are started before the guest; its disks' are anyway."),
    "RestartSec": Key(_PAUSE, "The pause before systemd restarts the guest."),
    "StartLimitBurst": Key(
        Integer(0, 10000), "How many starts within StartLimitIntervalSec systemd tries; 0 means any number."
    ),
    "StartLimitIntervalSec": Key(_PAUSE, "The time in which StartLimitBurst starts are allowed; 0 means any number."),
    "StartupCPUWeight": Key(_WEIGHT, "CPUWeight while the host boots."),
    "TasksMax": Key(_TASKS, "The maximum number of QEMU's threads."),
    "TimeoutStopSec": Key(_TIMEOUT, "The time for a clean shutdown before the guest is killed."),
    "Wants": Key(_UNITS, "Units that are started with the guest, if they can be."),
}
