# SPDX-License-Identifier: Apache-2.0
"""vfagent-metrics(7) documents every family that there is."""

from pathlib import Path

from vfagent.metrics.document import page_with_reference
from vfagent.metrics.page import FAMILIES
from vfagent.pf_state import Phase
from vfagent.status import GuestPhase

PAGE = Path(__file__).parents[3] / "packaging/man/vfagent-metrics.7.md"


def test_the_page_has_the_reference_of_this_code() -> None:
    """If not: python3 -m vfagent.metrics.document <PAGE >new, and read the difference."""
    assert page_with_reference(PAGE.read_text()) == PAGE.read_text()


def test_every_phase_is_explained() -> None:
    of_pfs, _, of_guests = PAGE.read_text().partition("\n## Phases of guests\n")
    assert all(f"\n**{phase}**\n:   " in of_pfs for phase in Phase)
    assert all(f"\n**{phase}**\n:   " in of_guests for phase in GuestPhase)


def test_help_is_a_sentence() -> None:
    assert not [family.name for family in FAMILIES if not family.help.endswith(".") or family.help[0].islower()]
