# SPDX-License-Identifier: Apache-2.0
"""From which NUMA nodes a guest's memory and processors are. Pure."""

from collections.abc import Iterator, Sequence

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.guests.spec.unit_values import translated
from vfagent.model.guest_unit import Property
from vfagent.policy.types import GuestRule

_BY_HAND = {"NUMAPolicy", "NUMAMask", "CPUAffinity", "AllowedCPUs", "AllowedMemoryNodes"}


@frozen(slots=True)
class NumaNode:
    """A node of the host. `cpus`: how many processors of it are online."""

    number: int
    cpus: int
    has_memory: bool


def numa_properties(rule: GuestRule, nodes: Sequence[NumaNode]) -> Iterator[Property]:
    """`nodes`: those of its VFs, none where the host has one for all. Raises VfagentError.

    set_mempolicy(2) refuses a node without memory, and sched_setaffinity(2) a set without processors: the guest would
    not start. Where it has more virtual processors than the nodes have, they would share few while others are idle.
    """
    if rule.numa == "none" or _BY_HAND & {name for name, _ in rule.unit}:
        return
    with_memory = [node for node in nodes if node.has_memory]
    if rule.numa == "strict" and nodes and not with_memory:
        numbers = ", ".join(str(node.number) for node in nodes)
        raise VfagentError(f"its VFs are on NUMA node {numbers}, which has no memory", hint='numa = "prefer"')
    # Of several nodes the kernel prefers the first alone (MPOL_PREFERRED).
    if not with_memory or (rule.numa == "prefer" and len(nodes) > 1):
        return
    yield from translated((("NUMAPolicy", "bind" if rule.numa == "strict" else "preferred"),))
    yield from translated((("NUMAMask", ",".join(str(node.number) for node in with_memory)),))
    if sum(node.cpus for node in with_memory) >= rule.cpus:
        yield Property("CPUAffinityFromNUMA", "b", value=True)
