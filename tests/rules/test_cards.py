# SPDX-License-Identifier: Apache-2.0
"""docs/cards.md, the code, the lab's cards and the lab's tests know the same drivers, keys and tests."""

import re

from tests.lab.quirk_mutations import MUTATIONS
from tests.rules.project import ROOT, none_of
from vfagent.plan.quirks import QUIRKS

TEXT = (ROOT / "docs/cards.md").read_text()
KINDS = (ROOT / "tests/lab/card/kinds.c").read_text()
PROMISES = "test_card_promises.py"
# Columns of the table of cards: card, driver, VFs, firmware, keys, what to know.
CARDS = [row.strip("|").split("|") for row in re.findall(r"^\| .*\|$", TEXT.partition("## What drivers do")[0], re.M)]
# The first row of a driver is its Ethernet one.
KEYS = {
    driver: set(row[4].replace(",", " ").split()) for row in CARDS[::-1] for driver in re.findall(r"`(\S+)`", row[1])
}
ROWS = re.findall(r"^\| ([A-Z]\d+) \| (.*) \|$", TEXT, re.M)
TESTS_OF = re.compile(r"`(test_\w+\.py)::(test_\w+)`(?: \(([\w .]+)\))?").findall
TESTS = TESTS_OF(TEXT)
LEAST = 60  # of what drivers do, on a real kernel
OPERATIONS = {
    "VF_MAC": "mac",
    "VF_VLAN": "vlan",
    "VF_RATE": "max_tx_rate",
    "VF_SPOOFCHK": "spoof_check",
    "VF_TRUST": "trust",
    "VF_LINK_STATE": "link_state",
    "VF_RSS": "rss_query",
    "HWMODE": "hwmode",
}


def test_each_driver_with_a_quirk_is_a_card_with_its_keys() -> None:
    none_of([driver for driver in QUIRKS if driver not in KEYS])
    for driver, quirks in QUIRKS.items():
        flags = {"hwmode": quirks.hwmode, "eswitch": quirks.eswitch, "min_tx_rate": quirks.min_tx_rate}
        assert KEYS[driver] & flags.keys() == {key for key, has in flags.items() if has}, driver


def test_the_labs_cards_have_the_operations_of_the_keys() -> None:
    macros = dict(re.findall(r"^#define (\w+) \((.*)\)$", KINDS, re.M))
    kinds = re.findall(r'\{ "(\w+)", "\w+", "\w+", ETHERNET,\s+([^,]*?)[ ,]', KINDS.replace(" | ", "|"))
    compared = [name for name, text in kinds if name in KEYS and text != "0"]
    assert len(compared) >= 8
    for name, text in kinds:
        while macro := next((macro for macro in macros if re.search(rf"\b{macro}\b", text)), None):
            text = re.sub(rf"\b{macro}\b", macros[macro], text)
        has = {key for operation, key in OPERATIONS.items() if f"BIT({operation})" in text}
        assert name not in compared or KEYS[name] & set(OPERATIONS.values()) == has, name


def test_each_row_has_a_name_of_its_own() -> None:
    names = [name for name, _ in ROWS]
    none_of([name for name in names if names.count(name) > 1])
    assert sum("::test_" in row for _, row in ROWS) >= LEAST


def test_each_test_of_a_row_is_there_and_each_of_these_tests_has_a_row() -> None:
    texts = {name: (ROOT / "tests/lab" / name).read_text() for name, _, _ in TESTS}
    none_of([f"{name}: {test}" for name, test, _ in TESTS if f"def {test}(" not in texts[name]])
    none_of([f"{test}: {case}" for name, test, case in TESTS if case and f'"{case}"' not in texts[name]])
    none_of([path for path in re.findall(r"`(tests/[^`]+)`", TEXT) if not (ROOT / path).exists()])
    named = {test for _, test, _ in TESTS} | {"test_the_kernel_has_nothing_to_warn_of"}
    none_of(sorted(set(re.findall(r"^def (test_\w+)\(", texts[PROMISES], re.M)) - named))


def test_each_row_is_seen_to_fail_without_what_handles_it() -> None:
    tests = {row: TESTS_OF(text) for row, text in ROWS if TESTS_OF(text)}
    none_of(sorted(tests.keys() ^ {mutation.row for mutation in MUTATIONS}))
    for mutation in MUTATIONS:
        named = {case for file, test, case in tests[mutation.row] if (file, test) == (mutation.file, mutation.test)}
        assert named & {"", mutation.case}, f"{mutation.name} is no test of its row"
        for path, text in mutation.sources().items():
            compile(text, path, "exec")
