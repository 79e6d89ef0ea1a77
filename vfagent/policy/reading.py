# SPDX-License-Identifier: Apache-2.0
"""The first stage: TOML tables to rules, one file at a time, each key by itself. The JSON Schema says the same."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfagent.errors import PolicyError
from vfagent.frozen import frozen
from vfagent.policy.agent_checks import check_agent
from vfagent.policy.guest_checks import check_guest
from vfagent.policy.pf_checks import check_pf
from vfagent.policy.problems import Finding, KeyPath, Problem, described, spelled
from vfagent.policy.reference_checks import check_counts, check_names, check_references
from vfagent.policy.source_locations import Document, Place
from vfagent.policy.spelling import suggestion
from vfagent.policy.types import AgentRule, BridgeRule, GuestRule, PfRule, Policy
from vfagent.policy.value_types import Declared, MismatchError, Properties, Scalar, Several, Table, Tables, declared

_UNKNOWN_SHOWN = 20


@frozen(slots=True)
class Fragment:
    """What one file says. A rule with findings is None, so that the others keep their numbers."""

    agent: Mapping[str, Any]  # as written
    pf: tuple[PfRule | None, ...] = ()
    bridge: tuple[BridgeRule | None, ...] = ()
    guest: tuple[GuestRule | None, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True)
class _Walk:
    """What a document's tables were found to lack or to have too much."""

    findings: list[Finding] = field(default_factory=list)

    def table(self, of: type[Any], found: object, path: KeyPath) -> Any:
        """The value of class `of`, or None if anything in it is wrong."""
        before = len(self.findings)
        values = self.values(declared(of), found, path)
        return of(**values) if len(self.findings) == before else None

    def values(self, keys: Mapping[str, Declared], found: object, path: KeyPath) -> dict[str, Any]:
        if not isinstance(found, dict):
            self._add(path, f"found {described(found)}, allowed is a table")
            return {}
        self._unknown(found, tuple(keys), path)
        for missing in (name for name, key in keys.items() if key.required and name not in found):
            self._add((*path, missing), f"found nothing, allowed is {keys[missing].key.form.allowed}", at_key=True)
        return {
            keys[name].fills: self._value(keys[name].key.form, found[name], (*path, name))
            for name in keys
            if name in found
        }

    def _value(self, form: Scalar | Several | Table | Tables | Properties, found: object, path: KeyPath) -> Any:
        match form:
            case Table():
                if form.non_empty and found == {}:
                    self._add(path, f"found an empty table, allowed is at least one of {_listed(declared(form.of))}")
                return self.table(form.of, found, path)
            case Tables():
                return tuple(self.table(form.of, item, at) for item, at in self._items(found, form, path))
            case Several():
                return tuple(self._scalar(form.form, item, at) for item, at in self._items(found, form, path))
            case Properties():
                return self._properties(form, found, path)
        return self._scalar(form, found, path)

    def _items(self, found: object, form: Tables | Several, path: KeyPath) -> Iterable[tuple[object, KeyPath]]:
        if isinstance(form, Tables) and isinstance(found, dict):
            name = spelled(tuple(part for part in path if isinstance(part, str)))
            self._add(path, f"found [{name}], allowed is [[{name}]], for one or several")
            return ()
        if not isinstance(found, list):
            self._add(path, f"found {described(found)}, allowed is {form.allowed}")
            return ()
        if len(found) > form.at_most:
            self._add(path, f"found {len(found)} entries, allowed are at most {form.at_most}")
            return ()
        return [(item, (*path, number)) for number, item in enumerate(found)]

    def _scalar(self, form: Scalar, found: object, path: KeyPath) -> object:
        try:
            return form.read(found)
        except MismatchError as mismatch:
            self._add(path, str(mismatch), in_schema=mismatch.in_schema)
            return None

    def _properties(self, form: Properties, found: object, path: KeyPath) -> tuple[tuple[str, object], ...]:
        if not isinstance(found, dict):
            self._add(path, f"found {described(found)}, allowed is a table")
            return ()
        self._unknown(found, tuple(form.keys), path)
        known = sorted(name for name in found if name in form.keys)
        return tuple((name, self._value(form.keys[name].form, found[name], (*path, name))) for name in known)

    def _unknown(self, found: Mapping[str, object], known: tuple[str, ...], path: KeyPath) -> None:
        unknown = [name for name in found if name not in known]
        for name in unknown[:_UNKNOWN_SHOWN]:
            text = f"found an unknown key, allowed are {', '.join(known)}{suggestion(name, known)}"
            self._add((*path, name), text, at_key=True)
        if len(unknown) > _UNKNOWN_SHOWN:
            self._add(path, f"found {len(unknown) - _UNKNOWN_SHOWN} more unknown keys")

    def _add(self, path: KeyPath, text: str, *, at_key: bool = False, in_schema: bool = True) -> None:
        self.findings.append(Finding(path, text, at_key, in_schema))


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(keys)


def read_fragment(tables: Mapping[str, object]) -> Fragment:
    """Read one parsed file."""
    walk = _Walk()
    values = walk.values(declared(Policy), tables, ())
    agent = tables.get("agent") if values.get("agent") is not None else None
    return Fragment(
        agent=agent if isinstance(agent, dict) else {},
        pf=values.get("pf", ()),
        bridge=values.get("bridge", ()),
        guest=values.get("guest", ()),
        findings=tuple(walk.findings),
    )


def agent_rule(written: Mapping[str, Any]) -> AgentRule:
    """The agent's keys of all files, each of which was read without findings."""
    rule: AgentRule = _Walk().table(AgentRule, written, ("agent",))
    return rule


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
