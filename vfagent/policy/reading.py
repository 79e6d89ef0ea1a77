# SPDX-License-Identifier: Apache-2.0
"""Reads TOML tables as rules and merges the files. Each file is checked key by key, as by the JSON Schema."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfagent.errors import PolicyError
from vfagent.frozen import frozen
from vfagent.policy.agent_checks import check_agent
from vfagent.policy.guest_checks import check_guest
from vfagent.policy.pf_checks import check_pf
from vfagent.policy.positions import Positions
from vfagent.policy.problems import Finding, KeyPath, Problem, described, quoted, spelled
from vfagent.policy.reference_checks import check_counts, check_names, check_references
from vfagent.policy.rewrites import matching, rewritten, several
from vfagent.policy.source_locations import Document, Location
from vfagent.policy.types import AgentRule, BridgeRule, GuestRule, PfMatch, PfRule, Policy
from vfagent.policy.unknown_keys import tables_with, unknown_key
from vfagent.policy.value_types import (
    Array,
    ArrayOfTables,
    Declared,
    MismatchError,
    NamedValues,
    Properties,
    Scalar,
    Table,
    declared,
)

_UNKNOWN_SHOWN = 20
_MOST_PROBLEMS = 200
_LONGEST_HEXADECIMAL = 16  # 64 bits

Rules = list[tuple[Any, Location]]


@frozen(slots=True)
class Fragment:
    """The content of one file. A rule with findings is None, so that the others keep their numbers."""

    agent: Mapping[str, Any]  # as written
    pf: tuple[PfRule | None, ...] = ()
    bridge: tuple[BridgeRule | None, ...] = ()
    guest: tuple[GuestRule | None, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True)
class _Reader:
    """Reads the tables of one document and collects the findings."""

    positions: Positions | None = None
    findings: list[Finding] = field(default_factory=list)

    def table(self, of: type[Any], value: object, path: KeyPath) -> Any:
        """A value of class `of`, or None if it has a finding."""
        before = len(self.findings)
        values = self.values(declared(of), value, path)
        return of(**values) if len(self.findings) == before else None

    def values(self, keys: Mapping[str, Declared], value: object, path: KeyPath) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._add(path, f"found {described(value)}, allowed is a table")
            return {}
        self._unknown(value, tuple(keys), path)
        for name, declaration in keys.items():
            if declaration.required and name not in value and not _is_below(name, value, keys):
                text = f"found nothing, allowed is {declaration.key.value_type.allowed}"
                self._add((*path, name), text, at_key=True)
        return {
            keys[name].field_name: self._read_value(keys[name].key.value_type, value[name], (*path, name))
            for name in keys
            if name in value
        }

    def _read_value(
        self,
        expected: Scalar | Array | Table | ArrayOfTables | Properties | NamedValues,
        value: object,
        path: KeyPath,
    ) -> Any:
        match expected:
            case Table():
                return self._single_table(expected, value, path)
            case ArrayOfTables():
                return tuple(self.table(expected.of, item, at) for item, at in self._items(value, expected, path))
            case Array():
                return tuple(self._scalar(expected.item, item, at) for item, at in self._items(value, expected, path))
            case Properties():
                return self._properties(expected, value, path)
            case NamedValues():
                return self._named_values(expected, value, path)
        return self._scalar(expected, value, path)

    def _single_table(self, expected: Table, value: object, path: KeyPath) -> Any:
        match value:
            case {**keys}:
                if expected.non_empty and not keys:
                    known = ", ".join(declared(expected.of))
                    self._add(path, f"found an empty table, allowed is at least one of {known}")
                return self.table(expected.of, keys, path)
            case [{}, *_]:
                name = _table_name(path)
                self._add(path, f"found [[{name}]], allowed is [{name}], once")
            case _:
                meant = matching(value) if expected.of is PfMatch else ""
                self._add(path, f"found {described(value)}, allowed is {expected.allowed}{meant}")
        return None

    def _items(self, value: object, expected: ArrayOfTables | Array, path: KeyPath) -> Iterable[tuple[object, KeyPath]]:
        if isinstance(expected, ArrayOfTables) and isinstance(value, dict):
            self._add(path, _instead_of_array(_table_name(path), expected, value))
            return ()
        if not isinstance(value, list):
            if isinstance(expected, Array):
                text = f"allowed is {expected.allowed}{rewritten(expected, value)}"
            else:
                names = tuple(part for part in path if isinstance(part, str))
                others = "".join(f", or {names[-1]} below {header}" for header in tables_with(names[-1], names[:-1]))
                text = f"allowed is a table for each: [[{_table_name(path)}]] above its keys{others}"
            self._add(path, f"found {described(value)}, {text}")
            return ()
        if len(value) > expected.at_most:
            self._add(path, f"found {len(value)} entries, allowed are at most {expected.at_most}")
            return ()
        return [(item, (*path, number)) for number, item in enumerate(value)]

    def _scalar(self, expected: Scalar, value: object, path: KeyPath) -> object:
        try:
            return expected.read(value)
        except MismatchError as mismatch:
            digits = self._hexadecimal(path)
            meant = "" if mismatch.meant else rewritten(expected, value, hexadecimal=digits) or several(path, value)
            text = str(mismatch)
            if digits:  # as it is written
                text = text.replace(f"found {described(value)}", f"found 0x{digits}", 1)
            self._add(path, f"{text}{meant}", in_schema=mismatch.in_schema)
            return None

    def _hexadecimal(self, path: KeyPath) -> str:
        offset = self.positions.values.get(path) if self.positions else None
        written = (
            re.compile("0x([0-9a-fA-F]+)").match(self.positions.text, offset) if self.positions and offset else None
        )
        return written[1].lower() if written and len(written[1]) <= _LONGEST_HEXADECIMAL else ""

    def _properties(self, expected: Properties, value: object, path: KeyPath) -> tuple[tuple[str, object], ...]:
        if not isinstance(value, dict):
            self._add(path, f"found {described(value)}, allowed is a table")
            return ()
        self._unknown(value, tuple(expected.keys), path)
        known = sorted(name for name in value if name in expected.keys)
        return tuple(
            (name, self._read_value(expected.keys[name].value_type, value[name], (*path, name))) for name in known
        )

    def _named_values(self, expected: NamedValues, value: object, path: KeyPath) -> tuple[tuple[str, object], ...]:
        if not isinstance(value, dict):
            self._add(path, f"found {described(value)}, allowed is {expected.allowed}")
            return ()
        if len(value) > expected.at_most:
            self._add(path, f"found {len(value)} entries, allowed are at most {expected.at_most}")
            return ()
        for name in value:
            try:
                expected.name.read(name)
            except MismatchError as mismatch:
                self._add((*path, name), str(mismatch), at_key=True)
        return tuple((name, self._named_value(expected, value[name], (*path, name))) for name in sorted(value))

    def _named_value(self, expected: NamedValues, value: object, path: KeyPath) -> object:
        if isinstance(value, dict):  # TOML takes the dots of a bare key for tables in tables
            name = f"{path[-1]}.{next(iter(value), '…')}"
            self._add(path, f"found a table, allowed is a value: a name with dots needs quotes, as {quoted(name)}")
            return None
        return self._scalar(expected.value, value, path)

    def _unknown(self, value: Mapping[str, object], known: tuple[str, ...], path: KeyPath) -> None:
        unknown = [name for name in value if name not in known]
        for name in unknown[:_UNKNOWN_SHOWN]:
            text = unknown_key(name, known, path, is_table=isinstance(value[name], dict | list))
            self._add((*path, name), text, at_key=True)
        if len(unknown) > _UNKNOWN_SHOWN:
            self._add(path, f"found {len(unknown) - _UNKNOWN_SHOWN} more unknown keys")

    def _add(self, path: KeyPath, text: str, *, at_key: bool = False, in_schema: bool = True) -> None:
        self.findings.append(Finding(path, text, at_key, in_schema))


def _is_below(name: str, value: Mapping[str, object], keys: Mapping[str, Declared]) -> bool:
    """Whether the key stands in a table of this one that has none of this name, where it has a finding already."""
    for key, tables in value.items():
        expected = keys[key].key.value_type if key in keys else None
        if not isinstance(expected, ArrayOfTables) or name in declared(expected.of) or not isinstance(tables, list):
            continue
        if any(name in table for table in tables if isinstance(table, dict)):
            return True
    return False


def _table_name(path: KeyPath) -> str:
    return spelled(tuple(part for part in path if isinstance(part, str)))


def _instead_of_array(name: str, expected: ArrayOfTables, value: Mapping[str, object]) -> str:
    """TOML makes a table of its own where only a table below it is written."""
    below = [key for key in value if isinstance(value[key], dict | list)]
    if len(below) == len(value) == 1 and below[0] in declared(expected.of):
        header = f"[[{name}.{below[0]}]]" if isinstance(value[below[0]], list) else f"[{name}.{below[0]}]"
        return f"found {header} without [[{name}]] above it, allowed is [[{name}]] first"
    return f"found [{name}], allowed is [[{name}]], for one or several"


def read_fragment(tables: Mapping[str, object], positions: Positions | None = None) -> Fragment:
    """Read one parsed file. `positions` are for better messages."""
    reader = _Reader(positions)
    values = reader.values(declared(Policy), tables, ())
    agent = tables.get("agent") if values.get("agent") is not None else None
    return Fragment(
        agent=agent if isinstance(agent, dict) else {},
        pf=values.get("pf", ()),
        bridge=values.get("bridge", ()),
        guest=values.get("guest", ()),
        findings=tuple(reader.findings),
    )


@frozen(slots=True)
class Merged:
    """A policy, and where its rules are."""

    policy: Policy
    pfs: Rules
    guests: Rules


def merged(documents: Sequence[Document], unread: Sequence[Problem] = ()) -> Merged:
    """Merge files in their order. `unread` are the problems of files that could not be read or parsed.

    Raises PolicyError with every problem, in the order of the files.
    """
    fragments = [read_fragment(document.tables, document.positions) for document in documents]
    problems = list(unread)
    for document, fragment in zip(documents, fragments, strict=True):
        problems += map(document.problem, fragment.findings)
    pfs, bridges, guests = (_located(documents, fragments, name) for name in ("pf", "bridge", "guest"))
    complete = not problems
    agent_read = not unread and not any(problem.key.startswith("agent") for problem in problems)
    problems += [problem for rule, at in pfs for problem in check_pf(rule, at)]
    problems += [problem for rule, at in guests for problem in check_guest(rule, at)]
    problems += [*check_names(pfs, bridges, guests, complete=complete), *check_counts(pfs, guests)]
    agent_keys = {key: value for fragment in fragments for key, value in fragment.agent.items()}
    agent: AgentRule = _Reader().table(AgentRule, agent_keys, ("agent",))
    problems += check_references(pfs, guests, complete=complete)
    if agent_read:
        for at in _agent_locations(documents, fragments)[-1:]:
            problems += check_agent(agent, at)
    if problems:
        raise PolicyError(_in_order(problems, [document.file for document in documents]))
    policy = Policy(
        agent=agent,
        pf=tuple(rule for rule, _ in pfs),
        bridge=tuple(rule for rule, _ in bridges),
        guest=tuple(rule for rule, _ in guests),
        files=tuple(document.file for document in documents),
    )
    return Merged(policy, pfs, guests)


def _agent_locations(documents: Sequence[Document], fragments: Sequence[Fragment]) -> Sequence[Location]:
    """[agent] of each file that sets `metrics`."""
    pairs = zip(documents, fragments, strict=True)
    return [Location(document, ("agent",)) for document, fragment in pairs if "metrics" in fragment.agent]


def _located(documents: Sequence[Document], fragments: Sequence[Fragment], name: str) -> Rules:
    """The well-formed rules of all files, each with its location."""
    return [
        (rule, Location(document, (name, number)))
        for document, fragment in zip(documents, fragments, strict=True)
        for number, rule in enumerate(getattr(fragment, name))
        if rule is not None
    ]


def _in_order(problems: Sequence[Problem], files: Sequence[str]) -> tuple[Problem | str, ...]:
    order = {file: number for number, file in enumerate(files)}
    ordered = sorted(dict.fromkeys(problems), key=lambda p: (order.get(p.file, -1), p.line, p.column))
    more = len(ordered) - _MOST_PROBLEMS
    return (*ordered[:_MOST_PROBLEMS], *([f"and {more} more problems"] if more > 0 else []))
