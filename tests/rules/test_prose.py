# SPDX-License-Identifier: Apache-2.0
"""Spelling and style of the documents, the docstrings and the messages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.project import ROOT, modules, none_of
from tests.rules.prose import (
    VOCABULARY,
    documents,
    misspelt,
    misspelt_by_place,
    prose_of,
    sentences,
    without_code,
    without_names,
    words,
)

LONGEST = 40


def linted(folder: Path) -> list[str]:
    """What proselint says of the folder's texts: `page.md:1:2: …`."""
    options = ["--config", str(ROOT / "tests/rules/proselint.json"), "--output-format", "full"]
    argv = [sys.executable, "-m", "proselint", "check", *options, str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not done.stderr
    return [line.removeprefix(f"{folder}/") for line in done.stdout.splitlines() if line]


def long_sentences(path: Path) -> list[str]:
    return [text for text in sentences(without_code(path.read_text())) if len(text.split()) > LONGEST]


def test_each_word_is_in_a_dictionary_or_in_the_vocabulary() -> None:
    none_of([f"{problem}: misspelt, or missing in tests/rules/vocabulary.txt" for problem in misspelt_by_place()])


def test_proselint_has_nothing_against_documents_and_messages(tmp_path: Path) -> None:
    for path in documents():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(without_names(without_code(path.read_text())))
    for name, tree in modules().items():
        texts = [f"Line {line}: {without_names(text)}." for line, text in prose_of(name, tree)]
        copy = tmp_path / f"{name}.txt"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("\n\n".join(texts) or "Nothing.")
    none_of(linted(tmp_path))


def test_no_sentence_of_the_documents_is_longer_than_forty_words() -> None:
    none_of([f"{path.relative_to(ROOT)}: {text}" for path in documents() for text in long_sentences(path)])


def test_no_message_names_the_package_manager_of_one_distribution() -> None:
    """vfagent is a package of Fedora, too."""
    command = re.compile(r"\b(?:apt|apt-get|dnf|yum) (?:install|update|purge|remove)\b")
    texts = [(f"{name}:{line}", text) for name, tree in modules().items() for line, text in prose_of(name, tree)]
    none_of([f"{place}: {text}" for place, text in texts if command.search(text)])


def test_the_vocabulary_is_sorted_and_has_no_word_twice() -> None:
    vocabulary = VOCABULARY.read_text().splitlines()[1:]
    assert vocabulary == sorted(set(vocabulary))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a virtuul function", {"virtuul"}),
        ("the VLAN's bridge, `virtuul`, and vlan_idd", set()),
        ("    virtuul\n", set()),
        ("**virtuul**, (functiun)", {"functiun", "virtuul"}),
    ],
)
def test_a_misspelt_word_is_found_in_prose_alone(text: str, wrong: set[str]) -> None:
    assert misspelt(set(words(without_code(text)))) == wrong


def test_proselint_finds_a_repeated_word_and_a_redundant_one(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("The VF has has a MAC.\n\nIt is less unique.\n")
    assert [line.split(": ")[1] for line in linted(tmp_path)] == ["lexical_illusions", "uncomparables"]


def test_a_long_sentence_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        f"# Page\n\n- {'long ' * 41}end.\n- short.\n\n| {'cell ' * 30}| {'cell ' * 30}|\n"
    )
    assert [len(text.split()) for text in long_sentences(tmp_path / "page.md")] == [43]
