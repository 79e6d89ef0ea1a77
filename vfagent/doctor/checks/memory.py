# SPDX-License-Identifier: Apache-2.0
"""Whether the host has the memory, and the huge pages of each size, that the guests need."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.doctor.checks.guests import wanted_guests

_HUGE_KIB: dict[bool | str, int] = {"2M": 2 << 10, "1G": 1 << 20}


def _wanted_mib(facts: Facts) -> dict[int, int]:
    """By the size of a huge page in KiB, 0 for memory without them."""
    wanted: dict[int, int] = {0: 0}
    for rule in (guest.rule for guest in wanted_guests(facts)):
        kib = _HUGE_KIB.get(rule.hugepages, facts.memory.default_kib) if rule.hugepages else 0
        wanted[kib] = wanted.get(kib, 0) + rule.memory_mib
    return wanted


def huge_pages_short(facts: Facts) -> Iterator[Finding]:
    memory = facts.memory
    for kib, needed in sorted(_wanted_mib(facts).items()):
        if not kib or needed <= (reserved := memory.huge_mib.get(kib, 0)):
            continue
        size, count = f"{kib >> 20}G" if kib >= 1 << 20 else f"{kib >> 10}M", (needed << 10) // kib
        at_boot = f"hugepagesz={size} hugepages={count} on the kernel's command line"
        yield Finding(
            "hugepages-short",
            Severity.ERROR,
            f"huge pages of {size}",
            f"guests need {needed} MiB, the host has {reserved} MiB",
            "the last guests do not start",
            f"vm.nr_hugepages = {count} in /etc/sysctl.d, or {at_boot}" if kib == memory.default_kib else at_boot,
        )


def memory_short(facts: Facts) -> Iterator[Finding]:
    memory, wanted = facts.memory, _wanted_mib(facts)
    huge, small, whole = sum(memory.huge_mib.values()), wanted[0], sum(wanted.values())
    if not memory.total_mib:
        return
    if whole > memory.total_mib:
        text = f"guests need {whole} MiB, the host has {memory.total_mib} MiB"
    elif small > memory.total_mib - huge:
        text = f"guests need {small} MiB without huge pages, the host has {memory.total_mib - huge} MiB beside those"
    else:
        return
    yield Finding(
        "memory-short",
        Severity.ERROR,
        "memory",
        text,
        "vfio pins all of a guest's memory: the last guests do not start, or the OOM killer ends processes",
        "reduce the guests' memory, or run fewer",
    )
