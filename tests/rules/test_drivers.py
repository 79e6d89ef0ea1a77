# SPDX-License-Identifier: Apache-2.0
"""docs/drivers.md and the code know the same drivers and the same answers."""

import errno
import re

import pytest

from tests.rules.project import ROOT, none_of
from vfagent.errors import ENOTSUPP
from vfagent.model.pci import PciAddress
from vfagent.model.vf_parameters import MADE_AT_LOAD
from vfagent.plan.quirks import QUIRKS
from vfagent.plan.steps import SetNumvfs
from vfagent.reconcile.kernel_errors import explain

TEXT = (ROOT / "docs/drivers.md").read_text()
ROWS = [row.strip("|").split("|") for row in re.findall(r"^\| `.*\|$", TEXT, re.MULTILINE)]
DRIVERS = {driver for row in ROWS for driver in re.findall(r"`([^`]+)`", row[0])}
ERRNOS = sorted(set(re.findall(r"\bE[A-Z]{3,}\b", TEXT)))


def test_each_driver_with_a_quirk_is_in_the_table() -> None:
    assert len(DRIVERS) > 60
    none_of([driver for driver in sorted(QUIRKS) if driver not in DRIVERS])


def test_each_driver_whose_vfs_no_write_makes_is_in_that_table() -> None:
    made = TEXT.partition("## VFs that no write makes\n")[2]
    named = set(re.findall(r"^\| `([^`]+)`", made, re.MULTILINE))
    assert named == set(MADE_AT_LOAD)


def test_each_number_of_vfs_that_a_driver_is_limited_to_is_in_its_row() -> None:
    for driver, counts in ((name, quirks.counts) for name, quirks in QUIRKS.items() if quirks.counts):
        row = next(row for row in ROWS if f"`{driver}`" in row[0])
        assert [int(number) for number in re.findall(r"\b\d+\b", row[-1])] == list(counts), driver


@pytest.mark.parametrize("name", ERRNOS)
def test_each_answer_of_the_table_has_its_cause_in_the_message(name: str) -> None:
    number = ENOTSUPP if name == "ENOTSUPP" else getattr(errno, name)
    cause, _, _ = explain(SetNumvfs(PciAddress("0000:01:00.0"), 4), number)
    assert cause, name
