# SPDX-License-Identifier: Apache-2.0
"""The key reference of vfagent.toml(5), from the declarations: `python3 -m vfagent.policy.document [PAGE]`.

With the page as input on stdin it prints the page with its reference made anew.
"""

import sys
from collections.abc import Iterator, Mapping

from vfagent.policy.types import Policy
from vfagent.policy.value_types import Declared, Key, Properties, Table, Tables, declared

BEGIN = "<!-- Made by python3 -m vfagent.policy.document; edit vfagent/policy/types.py instead. -->\n"
END = "<!-- End of what was made. -->\n"


def key_reference() -> str:
    """A definition list for each table."""
    return "\n".join(_sections(declared(Policy), "", "Top level"))


def page_with_reference(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + key_reference() + "\n" + END + rest.partition(END)[2]


def _sections(keys: Mapping[str, Declared], path: str, title: str) -> Iterator[str]:
    yield f"## {title}\n"
    yield from (_entry(name, one.key, _default(one)) for name, one in keys.items())
    for name, one in keys.items():
        inner = f"{path}.{name}".lstrip(".")
        match one.key.form:
            case Table() as form:
                yield from _sections(declared(form.of), inner, f"[{inner}]")
            case Tables() as form:
                yield from _sections(declared(form.of), inner, f"[[{inner}]]")
            case Properties() as form:
                yield f"## [{inner}]\n"
                yield from (_entry(word, key, "") for word, key in form.keys.items())


def _entry(name: str, key: Key, default: str) -> str:
    return f"**{name}**\n:   {key.doc} Allowed: {_escaped(key.form.allowed)}.{default}\n"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("*", r"\*").replace("[", r"\[").replace("]", r"\]")


def _default(one: Declared) -> str:
    if one.required:
        return " Required."
    if one.key.default:
        return f" Default: `{one.key.default}`."
    match one.default:
        case bool():
            return f" Default: `{str(one.default).lower()}`."
        case int():
            return f" Default: `{one.default}`."
        case str():
            return f' Default: `"{one.default}"`.'
    return ""


if __name__ == "__main__":
    sys.stdout.write(page_with_reference(sys.stdin.read()))
