# SPDX-License-Identifier: Apache-2.0
"""The policy's JSON Schema, for editors. Draft 4: the version that taplo reads."""

import re
from collections.abc import Mapping

from vfagent.policy.types import Policy
from vfagent.policy.value_types import (
    AnyOf,
    Array,
    ArrayOfTables,
    Declared,
    Key,
    NamedValues,
    Properties,
    Schema,
    String,
    Table,
    declared,
)


def schema() -> Schema:
    return {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "vfagent policy",
        "description": "Configuration of a host's SR-IOV NICs, VFs, bridges and guests: vfagent.toml(5).",
        **_table(declared(Policy)),
    }


def _table(keys: Mapping[str, Declared]) -> Schema:
    table: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _key_schema(declaration) for name, declaration in keys.items()},
    }
    required = [name for name, declaration in keys.items() if declaration.required]
    return table | ({"required": required} if required else {})  # draft 4 forbids an empty one


def _key_schema(declaration: Declared) -> Schema:
    default = declaration.key.default.strip('"') or declaration.default
    shown = {"default": default} if isinstance(default, str | int) else {}
    return _value_schema(declaration.key) | _described(declaration.key) | shown


def _described(key: Key) -> Schema:
    """The first sentence, which editors show beside the key; taplo has the rest below it."""
    first, _, rest = key.doc.partition(". ")
    described: Schema = {"description": f"{first.rstrip('.')}."}
    if rest:
        described["x-taplo"] = {"docs": {"main": key.doc}}
    if values := examples(key.value_type):
        described["examples"] = values
    return described


def examples(value_type: object) -> list[str]:
    """Those that the messages give: `such as "0-2"`."""
    match value_type:
        case String(allowed=allowed, words=words):
            return [*re.findall(r'such as "([^"]+)"', allowed), *words]
        case AnyOf(value_types=several):
            return [example for one_of in several for example in examples(one_of)]
    return []


def _value_schema(key: Key) -> Schema:
    match key.value_type:
        case Table() as table:
            return _table(declared(table.of)) | ({"minProperties": 1} if table.non_empty else {})
        case ArrayOfTables() as tables:
            return {"type": "array", "maxItems": tables.at_most, "items": _table(declared(tables.of))}
        case Array() as array:
            return {"type": "array", "maxItems": array.at_most, "items": array.item.schema()}
        case Properties() as properties:
            return {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    name: _value_schema(inner) | _described(inner) for name, inner in properties.keys.items()
                },
            }
        case NamedValues() as named:
            return {
                "type": "object",
                "maxProperties": named.at_most,
                "additionalProperties": False,
                "patternProperties": {named.name.schema()["pattern"]: named.value.schema()},
            }
    return key.value_type.schema()
