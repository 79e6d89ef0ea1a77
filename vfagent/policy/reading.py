# SPDX-License-Identifier: Apache-2.0
"""From parsed files to one policy, or to all that is wrong with them."""

from collections.abc import Iterable, Sequence
from typing import Any

from vfagent.errors import PolicyError
from vfagent.policy.agent_checks import check_agent
from vfagent.policy.guest_checks import check_guest
from vfagent.policy.pf_checks import check_pf
from vfagent.policy.places import Document, Place
from vfagent.policy.problems import Problem
from vfagent.policy.reference_checks import check_counts, check_names, check_references
from vfagent.policy.structure import Fragment, agent_rule, read_fragment
from vfagent.policy.types import Policy

_MOST_PROBLEMS = 200

Rules = list[tuple[Any, Place]]


def merged(documents: Sequence[Document], unread: Sequence[Problem] = ()) -> Policy:
    """Merge files in their order. `unread` are problems of files that could not even be parsed.

    Raises PolicyError with every problem, in the order of the files.
    """
    fragments = [read_fragment(document.tables) for document in documents]
    problems = [*unread, *_structural(documents, fragments)]
    pfs, bridges, guests = (_placed(documents, fragments, name) for name in ("pf", "bridge", "guest"))
    complete, agent_read = not problems, not unread and not any(one.key.startswith("agent") for one in problems)
    problems += [problem for rule, at in pfs for problem in check_pf(rule, at)]
    problems += [problem for rule, at in guests for problem in check_guest(rule, at)]
    problems += [*check_names(pfs, bridges, guests), *check_counts(pfs, guests)]
    agent = agent_rule({key: value for fragment in fragments for key, value in fragment.agent.items()})
    problems += check_references(pfs, guests, complete=complete)
    if agent_read:
        problems += [problem for at in _agent_places(documents, fragments)[-1:] for problem in check_agent(agent, at)]
    if problems:
        raise PolicyError(_lines(problems, [document.file for document in documents]))
    return Policy(
        agent=agent,
        pf=tuple(rule for rule, _ in pfs),
        bridge=tuple(rule for rule, _ in bridges),
        guest=tuple(rule for rule, _ in guests),
        files=tuple(document.file for document in documents),
    )


def _structural(documents: Sequence[Document], fragments: Sequence[Fragment]) -> Iterable[Problem]:
    for document, fragment in zip(documents, fragments, strict=True):
        yield from map(document.problem, fragment.findings)


def _agent_places(documents: Sequence[Document], fragments: Sequence[Fragment]) -> Sequence[Place]:
    """[agent] of each file that says where metrics are served; without one the default stands."""
    pairs = zip(documents, fragments, strict=True)
    return [Place(document, ("agent",)) for document, fragment in pairs if "metrics" in fragment.agent]


def _placed(documents: Sequence[Document], fragments: Sequence[Fragment], name: str) -> Rules:
    """The well-formed rules of all files, each with its place."""
    return [
        (rule, Place(document, (name, number)))
        for document, fragment in zip(documents, fragments, strict=True)
        for number, rule in enumerate(getattr(fragment, name))
        if rule is not None
    ]


def _lines(problems: Sequence[Problem], files: Sequence[str]) -> tuple[str, ...]:
    order = {file: number for number, file in enumerate(files)}
    inner = sorted(dict.fromkeys(problems), key=lambda p: (order.get(p.file, -1), p.line, p.column))
    shown = [str(problem) for problem in inner[:_MOST_PROBLEMS]]
    if len(inner) > _MOST_PROBLEMS:
        shown.append(f"and {len(inner) - _MOST_PROBLEMS} more problems")
    return tuple(shown)
