# SPDX-License-Identifier: Apache-2.0
"""Which characters are printed as they are, and how the others are spelled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfagent.metrics.families import label
from vfagent.model.printable import printable
from vfagent.policy.problems import quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x1b[31m\x07\x7f", "\\x1b[31m\\x07\\x7f"),
        ("\x9b31m", "\\x9b31m"),  # the one-byte CSI of ECMA-48
        ("a\u2028b", "a\\u2028b"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        (b"ens\xff".decode(errors="surrogateescape"), "ens\\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_breaks_a_line_or_drives_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["", "enp1s0f0 ", "Größe", "сеть", "网卡", "e\u0301"])
def test_ordinary_text_of_any_script_is_unchanged(text: str) -> None:
    assert printable(text) == text


@given(st.text())
def test_any_text_becomes_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown


@pytest.mark.parametrize("text", ["a\u2028b", "\u202ea", "\udc80", "\x85", "\x1b[2J"])
def test_the_policy_and_the_metrics_spell_a_text_the_same(text: str) -> None:
    assert label(text) == quoted(text).strip('"') == printable(text)
