# SPDX-License-Identifier: Apache-2.0
"""The policy's JSON Schema, for editors. Draft 4, because that is what taplo reads."""

from collections.abc import Mapping

from vfagent.policy.types import Policy
from vfagent.policy.value_types import Declared, Key, Properties, Schema, Several, Table, Tables, declared


def schema() -> Schema:
    return {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "vfagent policy",
        "description": "What vfagent makes of the SR-IOV NICs, VFs, bridges and guests of a host: vfagent.toml(5).",
        **_table(declared(Policy)),
    }


def _table(keys: Mapping[str, Declared]) -> Schema:
    table: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _described(one) for name, one in keys.items()},
    }
    required = [name for name, one in keys.items() if one.required]
    return table | ({"required": required} if required else {})  # draft 4 forbids an empty one


def _described(one: Declared) -> Schema:
    default = one.key.default.strip('"') or one.default
    shown = {"default": default} if isinstance(default, str | int) else {}
    return _of(one.key) | {"description": one.key.doc} | shown


def _of(key: Key) -> Schema:
    match key.form:
        case Table() as form:
            return _table(declared(form.of)) | ({"minProperties": 1} if form.non_empty else {})
        case Tables() as form:
            return {"type": "array", "maxItems": form.at_most, "items": _table(declared(form.of))}
        case Several() as form:
            return {"type": "array", "maxItems": form.at_most, "items": form.form.schema()}
        case Properties() as form:
            return {
                "type": "object",
                "additionalProperties": False,
                "properties": {name: _of(one) | {"description": one.doc} for name, one in form.keys.items()},
            }
    return key.form.schema()
