# SPDX-License-Identifier: Apache-2.0
"""`vfagent explain`: keys of the policy, phases, checks and metrics, from the texts that the manual is made of."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping

from vfagent.cli.document import checks
from vfagent.cli.phases import GUEST_PHASES, PHASES
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.frozen import frozen
from vfagent.metrics import vf_traffic
from vfagent.metrics.page import SUBJECTS
from vfagent.policy.document import default_of
from vfagent.policy.spelling import nearest
from vfagent.policy.types import Policy
from vfagent.policy.value_types import ArrayOfTables, Declared, Properties, Table, declared

_WIDEST = 100


@frozen(slots=True)
class Topic:
    """`names`: by which it is found; `page`: the manual page that has it."""

    title: str
    names: tuple[str, ...]
    text: str
    page: str


def explain(args: argparse.Namespace) -> int:
    topics = [*_topics()]
    for number, word in enumerate(args.topics):
        matching = [topic for topic in topics if _bare(word) in topic.names]
        if not matching:
            raise _unknown(word, topics)
        print(*([""] if number else []), *_lines(matching), sep="\n")
    return Exit.OK


def _lines(topics: list[Topic]) -> Iterator[str]:
    columns = min(shutil.get_terminal_size().columns, _WIDEST)
    for number, topic in enumerate(topics):
        yield from ("",) if number else ()
        yield from textwrap.wrap(f"{topic.title} ({topic.page})", columns, subsequent_indent="  ")
        yield from textwrap.wrap(topic.text, columns, initial_indent="  ", subsequent_indent="  ")


def _unknown(word: str, topics: list[Topic]) -> VfagentError:
    known = sorted({name for topic in topics for name in topic.names})
    meant = nearest(_bare(word), known)
    hint = f"did you mean {meant}?" if meant else "vfagent.toml(5) has the keys, vfagent(8) phases and checks"
    return VfagentError(f"{word}: found no key, phase, check or metric of this name", hint=hint)


def _bare(word: str) -> str:
    return word.strip("[]").lower()


def _topics() -> Iterator[Topic]:
    yield from _keys(declared(Policy), "")
    for phase, text in PHASES.items():
        yield Topic(f"phase {phase} of a PF or VF", (str(phase),), _plain(text), "vfagent(8)")
    for guest_phase, text in GUEST_PHASES.items():
        yield Topic(f"phase {guest_phase} of a guest", (str(guest_phase),), text, "vfagent(8)")
    for check, text in checks().items():
        yield Topic(f"check {check} of doctor", (check,), text, "vfagent(8)")
    for subject in (*SUBJECTS, vf_traffic):
        for family in subject.FAMILIES:
            labels = f" Labels: {', '.join(family.labels)}." if family.labels else ""
            names = (family.name, family.name.removeprefix("vfagent_"))
            yield Topic(f"metric {family.name}, a {family.kind}", names, family.help + labels, "vfagent-metrics(7)")


def _keys(keys: Mapping[str, Declared], table: str) -> Iterator[Topic]:
    for name, declaration in keys.items():
        path = f"{table}.{name}".lstrip(".")
        value_type = declaration.key.value_type
        text = f"{declaration.key.doc} Allowed: {value_type.allowed}.{default_of(declaration)}"
        yield _key(path, name, declaration, text)
        match value_type:
            case Table() | ArrayOfTables():
                yield from _keys(declared(value_type.of), path)
            case Properties():
                for inner, key in value_type.keys.items():
                    allowed = f"{key.doc} Allowed: {key.value_type.allowed}."
                    names = (f"{path}.{inner}".lower(), inner.lower())
                    yield Topic(f"{path}.{inner}", names, _plain(allowed), "vfagent.toml(5)")


def _key(path: str, name: str, declaration: Declared, text: str) -> Topic:
    header = {Table: f"[{path}]", ArrayOfTables: f"[[{path}]]"}.get(type(declaration.key.value_type), path)
    inner = ""
    if isinstance(declaration.key.value_type, Table | ArrayOfTables):
        inner = f" Keys: {', '.join(declared(declaration.key.value_type.of))}."
    return Topic(header, (path, name), _plain(text) + inner, "vfagent.toml(5)")


def _plain(markdown: str) -> str:
    return re.sub(r"\*\*|(?<!\w)`|`(?!\w)|\\(?=[_*\[\]-])", "", markdown)
