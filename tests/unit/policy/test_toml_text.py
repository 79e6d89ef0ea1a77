# SPDX-License-Identifier: Apache-2.0
"""A rule that is written as TOML is read as it was, whatever characters are in its names."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from vfagent.policy.toml_text import rule_lines

_SCALARS = st.booleans() | st.integers(-(2**40), 2**40) | st.text(st.characters(codec="utf-8"))
_KEYS = st.from_regex("[a-z_]{1,8}", fullmatch=True)
_TABLES = st.dictionaries(_KEYS, _SCALARS | st.lists(_SCALARS), max_size=4)
_RULES = st.dictionaries(_KEYS, _SCALARS | st.lists(_TABLES, min_size=1, max_size=3) | _TABLES, max_size=4)


@given(rule=_RULES)
def test_a_rule_is_read_as_it_was_written(rule: dict[str, object]) -> None:
    assert tomllib.loads("\n".join(rule_lines("pf", rule))) == {"pf": [rule]}


def test_a_name_that_is_not_utf_8_is_written_all_the_same() -> None:
    assert list(rule_lines("pf", {"name": "ens\udcff"})) == ["[[pf]]", 'name = "ens?"']
