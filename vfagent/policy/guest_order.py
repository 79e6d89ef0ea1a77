# SPDX-License-Identifier: Apache-2.0
"""The order in which guests start: `after` names guests, and makes no circle."""

from collections.abc import Iterable, Iterator

from vfagent.policy.problems import Problem, quoted
from vfagent.policy.source_locations import Location
from vfagent.policy.spelling import suggestion
from vfagent.policy.types import GuestRule


def check_order(guests: Iterable[tuple[GuestRule, Location]], *, complete: bool) -> Iterator[Problem]:
    """Where the guests are not `complete`, one that is missing may be in the policy."""
    rules = {rule.name: (rule, at) for rule, at in guests}
    for rule, at in rules.values():
        for number, name in enumerate(rule.after):
            if name not in rules and complete:
                allowed = f"the name of another guest{suggestion(name, rules)}"
                yield (at / "after" / number).problem(f"found {quoted(name)}, allowed is {allowed}")
    for circle in _circles({name: rule.after for name, (rule, _) in rules.items()}):
        _, at = rules[circle[0]]
        text = " after ".join(map(quoted, (*circle, circle[0])))
        yield (at / "after").problem(f"found a circle, {text}: none of them would start, allowed is an order")


def _circles(after: dict[str, tuple[str, ...]]) -> Iterator[list[str]]:
    """Each circle once, by its guests in the order of their waiting."""
    done: set[str] = set()
    for first in after:
        path: list[str] = []
        stack = [(first, iter(after[first]))] if first not in done else []
        while stack:
            name, names = stack[-1]
            if len(path) < len(stack):
                path.append(name)
            following = next((other for other in names if other in after and other not in done), None)
            if following is None:
                done.add(path.pop())
                stack.pop()
            elif following in path:
                yield path[path.index(following) :]
            else:
                stack.append((following, iter(after[following])))
