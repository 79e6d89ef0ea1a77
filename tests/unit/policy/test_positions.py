# SPDX-License-Identifier: Apache-2.0
"""Positions of keys, in every syntax that TOML allows."""

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfagent.policy.positions import DEEPEST, scan
from vfagent.policy.problems import KeyPath

TEXT = '''\
top = 1
"quoted \\u0041" = 'x'  # = not this
dotted.inner = true

[table]  # [not.this]
a = [ 1, [2,
  3 ], # ] not yet
  { b = "x, y = 1", 'c' = [5] }]
multi = """
c = 1
[not.a.table] \\""" """
literal = \'\'\'
d = 1\'\'\'
date = 1979-05-27 07:32:00
after = 2

[[array]]
x = 1
[array.sub]
y = 1
[[array.list]]
z = 1
[[array]]
[[array.list]]
[[array.list]]
z = 2
[ table . "other" ]
q=1
'''

POSITIONS: list[tuple[KeyPath, tuple[int, int]]] = [
    (("top",), (1, 7)),
    (("quoted A",), (2, 19)),
    (("dotted", "inner"), (3, 16)),
    (("dotted",), (3, 1)),
    (("table",), (5, 1)),
    (("table", "a"), (6, 5)),
    (("table", "a", 0), (6, 7)),
    (("table", "a", 1, 0), (6, 11)),
    (("table", "a", 1, 1), (7, 3)),
    (("table", "a", 2, "b"), (8, 9)),
    (("table", "a", 2, "c", 0), (8, 28)),
    (("table", "multi"), (9, 9)),
    (("table", "literal"), (12, 11)),
    (("table", "date"), (14, 8)),
    (("table", "after"), (15, 9)),
    (("array", 0), (17, 1)),
    (("array", 0, "x"), (18, 5)),
    (("array", 0, "sub", "y"), (20, 5)),
    (("array", 0, "list", 0, "z"), (22, 5)),
    (("array", 1), (23, 1)),
    (("array", 1, "list", 0), (24, 1)),
    (("array", 1, "list", 1, "z"), (26, 5)),
    (("table", "other", "q"), (28, 3)),
]


@pytest.mark.parametrize(("path", "position"), POSITIONS, ids=str)
def test_a_value_is_located_where_it_is_written(path: KeyPath, position: tuple[int, int]) -> None:
    assert scan(TEXT).of(path) == position


def test_a_key_is_located_where_it_is_written() -> None:
    positions = scan(TEXT)
    assert positions.of(("table", "a"), key=True) == (6, 1)
    assert positions.of(("table", "a", 2, "c"), key=True) == (8, 21)
    assert positions.of(("array", 0, "sub"), key=True) == (19, 8)


def test_a_missing_key_has_the_position_of_its_parent() -> None:
    assert scan(TEXT).of(("array", 1, "list", 1, "missing", "deeper")) == (25, 1)
    assert scan(TEXT).of(("missing",)) == (1, 1)


def test_windows_line_ends_do_not_change_positions() -> None:
    positions = scan(TEXT.replace("\n", "\r\n"))
    assert [positions.of(path) for path, _ in POSITIONS] == [position for _, position in POSITIONS]


@pytest.mark.parametrize("text", ["a = " + "[" * 500, "a = " + "{a=" * 500, "a" + ".a" * 500, "[" + "a." * 500])
def test_deep_nesting_is_detected_before_parsing(text: str) -> None:
    assert scan(text).too_deep is not None


def test_nesting_up_to_the_limit_is_accepted() -> None:
    assert scan("a = " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)).too_deep is None


@given(st.text(alphabet="ab=.[]{}\"'\\#,\n 1") | st.text())
def test_the_scan_never_fails_and_finds_all_keys_of_valid_toml(text: str) -> None:
    positions = scan(text)
    try:
        tables = tomllib.loads(text)
    except ValueError:
        return
    known = positions.keys.keys() | positions.values.keys()
    assert positions.too_deep is not None or set(paths(tables, ())) <= known


def paths(value: object, path: KeyPath) -> Iterator[KeyPath]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in parts:
        yield (*path, part)
        yield from paths(inner, (*path, part))
