# SPDX-License-Identifier: Apache-2.0
"""vfagent-metrics(7) documents every family."""

from pathlib import Path

from vfagent.metrics.counters import Counters
from vfagent.metrics.document import page_with_reference
from vfagent.metrics.page import FAMILIES
from vfagent.model.status import GuestPhase, Phase
from vfagent.model.vf_settings import Attribute
from vfagent.plan.attributes import ATTRIBUTES
from vfagent.plan.steps import KINDS

PAGE = Path(__file__).parents[3] / "packaging/man/vfagent-metrics.7.md"


def test_the_page_has_the_generated_reference() -> None:
    """If not: python3 -m vfagent.metrics.document <PAGE >new, and read the difference."""
    assert page_with_reference(PAGE.read_text()) == PAGE.read_text()


def test_every_phase_is_explained() -> None:
    of_pfs, _, of_guests = PAGE.read_text().partition("\n## Phases of guests\n")
    assert all(f"\n**{phase}**\n:   " in of_pfs for phase in Phase)
    assert all(f"\n**{phase}**\n:   " in of_guests for phase in GuestPhase)


def values(term: str) -> list[str]:
    """The values of a label, which the first sentence lists."""
    entry = PAGE.read_text().replace("\\_", "_").partition(f"\n{term}\n:   ")[2].partition("\n\n")[0]
    return " ".join(entry.split()).partition(": ")[2].partition(".")[0].split(", ")


def test_every_value_of_a_label_is_listed() -> None:
    assert values("**step**") == list(KINDS)
    assert values("**attribute**") == list(ATTRIBUTES)
    assert values("**attribute** of *vfagent_pf_unsupported*") == [str(attribute) for attribute in Attribute]
    assert values("**source**") == list(Counters().overflows)


def test_help_is_a_sentence() -> None:
    assert not [family.name for family in FAMILIES if not family.help.endswith(".") or family.help[0].islower()]
