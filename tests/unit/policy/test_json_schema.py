# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema and the reader accept and reject the same policies."""

import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfagent.policy.json_schema import examples, schema
from vfagent.policy.reading import read_fragment
from vfagent.policy.types import PfRule, Policy
from vfagent.policy.value_types import (
    AnyOf,
    Array,
    ArrayOfTables,
    Boolean,
    Choice,
    Integer,
    NamedValues,
    Properties,
    String,
    Table,
    declared,
)

CONFIG = Path(__file__).parents[3] / "config"
VALIDATOR = jsonschema.Draft4Validator(schema())
Values = st.SearchStrategy[Any]

JUNK: Values = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "stable\n", "10\n", "vfio-pci ", "a" * 300, "0-2", "storage:0", "/a/../b", "\u202ea", "{index}"]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["name", "vlan", "x"]), st.integers(), max_size=3),
    st.dates(),
)


def scalars(value_type: Any) -> Values:
    match value_type:
        case Integer(low=low, high=high):
            return st.sampled_from([low, high]) | st.integers(low, high)
        case Boolean():
            return st.booleans()
        case Choice():
            return st.sampled_from(value_type.values)
        case String(pattern=pattern, longest=longest):
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= longest)
        case AnyOf():
            return st.one_of(*map(scalars, value_type.value_types))
    raise AssertionError(value_type)


def values(value_type: Any) -> Values:
    """The values that a type allows."""
    match value_type:
        case Array():
            return st.lists(values(value_type.item), max_size=3)
        case Table():
            return st.deferred(lambda: tables(value_type.of, at_least_one=value_type.non_empty))
        case ArrayOfTables():
            return st.deferred(lambda: st.lists(tables(value_type.of), max_size=2))
        case Properties(keys=keys):
            return st.fixed_dictionaries({}, optional={name: values(key.value_type) for name, key in keys.items()})
        case NamedValues(name=name, value=value):
            return st.dictionaries(scalars(name), scalars(value), max_size=3)
    return scalars(value_type)


def tables(of: type, *, at_least_one: bool = False) -> Values:
    keys = declared(of)
    required = {name: values(key.key.value_type) for name, key in keys.items() if key.required}
    optional = {name: values(key.key.value_type) for name, key in keys.items() if not key.required}
    result = st.fixed_dictionaries(required, optional=optional)
    return result.filter(bool) if at_least_one else result


POLICIES = tables(Policy)


def agree(policy: dict[str, Any]) -> bool:
    """Check that both agree, and return whether they accept the policy."""
    findings = [finding for finding in read_fragment(policy).findings if finding.in_schema]
    errors = [error.message for error in VALIDATOR.iter_errors(policy)]
    assert bool(findings) == bool(errors), (findings, errors)
    return not findings


def containers(value: Any) -> list[Any]:
    """Every table and array of a policy."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict | list) else []
    return own + [container for item in inner for container in containers(item)]


def damage(policy: dict[str, Any], junk: Any, rng: random.Random) -> None:
    """Replace a value by junk, add junk, or remove a value."""
    target = rng.choice(containers(policy))
    keys = list(target) if isinstance(target, dict) else list(range(len(target)))
    if not keys or rng.random() < 0.2:
        target.update(unknown=junk) if isinstance(target, dict) else target.append(junk)
    elif rng.random() < 0.2:
        del target[rng.choice(keys)]
    else:
        target[rng.choice(keys)] = junk


def test_the_schema_is_a_schema_of_draft_4() -> None:
    jsonschema.Draft4Validator.check_schema(schema())
    assert schema()["$schema"] == "http://json-schema.org/draft-04/schema#"


def test_the_schema_describes_every_key_and_allows_no_other() -> None:
    described = [item for item in containers(schema()) if isinstance(item, dict) and "properties" in item]
    assert len(described) == 16
    for table in described:
        assert table["additionalProperties"] is False
        assert all(key["description"].endswith(".") for key in table["properties"].values())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(POLICIES)
def test_both_accept_a_policy_generated_from_the_declarations(policy: dict[str, Any]) -> None:
    assert agree(policy)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(POLICIES, JUNK, st.randoms(use_true_random=False))
def test_both_agree_on_a_damaged_policy(policy: dict[str, Any], junk: Any, rng: random.Random) -> None:
    damage(policy, junk, rng)
    agree(policy)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(declared(PfRule))), JUNK)
def test_both_agree_on_any_value_of_one_key(name: str, junk: Any) -> None:
    agree({"pf": [{"name": "a", "match": {"driver": "igb"}, name: junk}]})


def keys(of: type[Any]) -> Iterator[tuple[str, Any]]:
    """Each key of the policy, by its table and name."""
    for name, declaration in declared(of).items():
        yield f"{of.__name__}.{name}", declaration.key
        match declaration.key.value_type:
            case Table(of=inner) | ArrayOfTables(of=inner):
                yield from keys(inner)
            case Properties(keys=properties):
                yield from properties.items()


KEYS = dict(keys(Policy))


def test_each_example_of_the_schema_is_valid() -> None:
    shown = [(name, example) for name, key in KEYS.items() for example in examples(key.value_type)]
    assert ("VfRule.index", "0") in shown
    assert ("VfRule.mac", "52:54:00:bb:00:{index:02x}") in shown
    for name, example in shown:
        KEYS[name].value_type.read(example)


def test_each_key_has_a_description_of_one_sentence() -> None:
    """What an editor shows beside the key."""

    def described(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            properties = part.get("properties", {})
            yield from (inner["description"] for inner in properties.values())
            for inner in (*properties.values(), part.get("items"), part.get("additionalProperties")):
                yield from described(inner)

    descriptions = list(described(schema()))
    assert len(descriptions) >= len(KEYS)
    assert [text for text in descriptions if ". " in text or not text.endswith(".") or len(text) > 240] == []


# What people write who come from ip-link, sysfs, netplan, libvirt or YAML.
MISTAKES = {
    "a mistyped key": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\nvsf = 4',
    "a number as a string": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\nvfs = "4"',
    "no match": '[[pf]]\nname = "a"\nvfs = 4',
    "no name": '[[pf]]\nmatch = { driver = "igb" }\nvfs = 4',
    "a table for an array of tables": '[pf]\nname = "a"\nmatch = { driver = "igb" }\nvfs = 4',
    "a VLAN beyond 4094": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n[[pf.vf]]\nvlan = 4095',
    "a multicast MAC": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n[[pf.vf]]\nmac = "01:00:5e:00:00:01"',
    "a MAC with dashes": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n[[pf.vf]]\nmac = "52-54-00-bb-00-01"',
    "on for true": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n[[pf.vf]]\ntrust = "on"',
    "a word of ip-link": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n[[pf.vf]]\nspoofchk = true',
    "a negative count": '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\nvfs = -1',
    "a guest without a name": '[[guest]]\nvfs = ["a:0"]\n[guest.ipxe]\naddress = "dhcp"',
    "a guest's VF with a slash": '[[guest]]\nname = "a"\nvfs = ["a/0"]\n[guest.ipxe]\naddress = "dhcp"',
    "another version": "version = 2",
    "a duration without a unit": "[agent]\nresync = 300",
}


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_an_editor_shows_the_mistakes_that_the_reader_refuses(text: str) -> None:
    assert not agree(tomllib.loads(text))


@pytest.mark.parametrize("file", sorted(CONFIG.rglob("*.toml")), ids=lambda file: file.name)
def test_an_editor_finds_nothing_in_what_is_installed(file: Path) -> None:
    assert agree(tomllib.loads(file.read_text()))


@pytest.mark.parametrize("file", sorted(CONFIG.rglob("*.toml")), ids=lambda file: file.name)
def test_an_editor_finds_the_schema_of_each_file_that_is_installed(file: Path) -> None:
    assert file.read_text().splitlines()[0] == "#:schema /usr/share/vfagent/policy.schema.json"
