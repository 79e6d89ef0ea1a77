# SPDX-License-Identifier: Apache-2.0
"""Retired words stay out of the whole tree."""

import ast

import pytest

from tests.rules.project import none_of
from tests.rules.words import problems, retired_in, unclear_names


def test_no_retired_word_and_no_unclear_name_is_left() -> None:
    none_of(list(problems([])))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("a look at the PF", "look"),
        ("def log_look(state):", "look"),
        ("class LookResult:", "look"),
        ('"legs": []', "legs"),
        ("the policy in force", "in force"),
        ("steps_given_up = ()", "given up"),
        ("somebody's bridge", "somebody's"),
    ],
)
def test_a_retired_word_is_found_in_prose_and_in_names(line: str, word: str) -> None:
    assert word in retired_in(line)


@pytest.mark.parametrize("line", ["look up the route", "it looks like YAML", "from itertools import chain", "allegory"])
def test_what_the_field_says_itself_is_no_retired_word(line: str) -> None:
    assert retired_in(line) == []


def test_a_variable_that_does_not_say_what_it_is_is_found() -> None:
    code = "def f(said, *, told=None):\n    found = [one for one in said]\n    return [pf for pf in found]"
    assert [name for _, name in sorted(unclear_names(ast.parse(code)))] == ["said", "told", "found", "one"]
