# SPDX-License-Identifier: Apache-2.0
"""What people come with is answered within two clicks from README: its link to the questions, and the answer's."""

import re

import pytest

from tests.rules.project import ROOT, none_of
from tests.rules.test_links import anchors

PAGE = ROOT / "docs/README.md"
ROW = re.compile(r"(?m)^\| (.+?) \| \[.+?\]\(([^)#]+)#([^)]+)\) \|$")
# The subjects, and a word that the answer cannot do without.
SUBJECTS = {
    "X710": "sriov_numvfs|firmware",
    "disappeared": "driver",
    "IOMMU": "intel_iommu=on",
    "guest does not start": "vfagent guest status",
    "typo": "vfagent check",
    "logs": "journalctl",
    "cards": "X710",
    "see it work": "make lab",
    "VLAN": "\\[\\[pf.vlan\\]\\]",
    "NetworkManager": "NetworkManager",
    "metrics": "[Dd]ashboard",
    "secure": "root",
    "upgrade": "VFs",
    "go back": "vfagent release",
    "remove it": "apt purge vfagent",
}


def questions() -> list[tuple[str, str, str]]:
    """Question, page and anchor."""
    return ROW.findall(PAGE.read_text().partition("## Questions\n")[2].partition("\n## ")[0])


def section(text: str, anchor: str) -> str:
    """From the heading to the next one of its level; the whole page for its title."""
    parts = re.split(r"(?m)^(?=#)", text)
    start = next(number for number, part in enumerate(parts) if anchor in anchors(part.partition("\n")[0]))
    level = len(parts[start]) - len(parts[start].lstrip("#"))
    end = next(
        (n for n, part in enumerate(parts) if n > start and len(part) - len(part.lstrip("#")) <= level), len(parts)
    )
    return "".join(parts[start:end])


def test_the_readme_links_to_the_questions() -> None:
    assert "(docs/README.md#questions)" in (ROOT / "README.md").read_text()


def test_there_are_fourteen_questions_or_more() -> None:
    assert len(questions()) >= 14
    none_of([subject for subject in SUBJECTS if not any(subject in question for question, _, _ in questions())])


@pytest.mark.parametrize(("question", "page", "anchor"), questions())
def test_the_answer_is_where_the_question_leads(question: str, page: str, anchor: str) -> None:
    answer = section((PAGE.parent / page).read_text(), anchor)
    words = [word for subject, word in SUBJECTS.items() if subject in question]
    assert words
    none_of([f"{page}#{anchor} has no {word}" for word in words if not re.search(word, answer)])
