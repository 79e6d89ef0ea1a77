# SPDX-License-Identifier: Apache-2.0
"""From which NUMA nodes a guest's memory and processors are."""

import pytest

from vfagent.errors import VfagentError
from vfagent.guests.spec.numa import NumaNode, numa_properties
from vfagent.guests.spec.unit_values import bit_set
from vfagent.policy.types import GuestRule

FULL, EMPTY = NumaNode(1, 4, has_memory=True), NumaNode(2, 4, has_memory=False)
NO_CPUS = NumaNode(1, 0, has_memory=True)
OTHER = NumaNode(0, 4, has_memory=True)
PREFERRED, BOUND = 1, 2  # set_mempolicy(2)


def properties(*nodes: NumaNode, **keys: object) -> list[object]:
    """The policy, the nodes and whether the processors are theirs."""
    rule = GuestRule(name="x", vfs=("a:0",), **keys)  # type: ignore[arg-type]
    return [item.value for item in numa_properties(rule, nodes)]


def test_the_node_of_its_vfs_is_preferred() -> None:
    assert properties(FULL, cpus=4) == [PREFERRED, bit_set((1,)), True]


def test_processors_are_free_where_the_node_has_too_few() -> None:
    assert properties(FULL, cpus=5) == [PREFERRED, bit_set((1,))]
    assert properties(NO_CPUS) == [PREFERRED, bit_set((1,))]


def test_a_node_without_memory_is_not_preferred() -> None:
    """set_mempolicy(2) would refuse it, and the guest not start."""
    assert properties(EMPTY) == []


@pytest.mark.parametrize("nodes", [(), (OTHER, FULL)], ids=["none", "two"])
def test_of_no_node_and_of_several_none_is_preferred(nodes: tuple[NumaNode, ...]) -> None:
    assert properties(*nodes) == []


def test_strict_memory_is_from_the_nodes_of_its_vfs_alone() -> None:
    assert properties(FULL, numa="strict") == [BOUND, bit_set((1,)), True]
    assert properties(OTHER, FULL, EMPTY, numa="strict", cpus=8) == [BOUND, bit_set((0, 1)), True]
    assert properties(numa="strict") == []


def test_a_guest_whose_strict_memory_is_nowhere_is_refused() -> None:
    with pytest.raises(VfagentError, match="its VFs are on NUMA node 2, which has no memory"):
        properties(EMPTY, numa="strict")


def test_what_the_rule_says_replaces_it() -> None:
    assert properties(FULL, numa="none") == []
    assert properties(FULL, unit=(("CPUAffinity", "0"),)) == []
