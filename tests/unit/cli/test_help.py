# SPDX-License-Identifier: Apache-2.0
"""`help`, `explain`, and what wrong usage says."""

import re
from pathlib import Path

import pytest

from tests.rules.project import ROOT
from vfagent.cli.document import checks, page_with_reference
from vfagent.cli.main import VERBS, main
from vfagent.model.status import GuestPhase, Phase

SOURCES = ROOT / "vfagent/doctor/checks"


@pytest.mark.parametrize("argv", [[], ["help"]])
def test_without_a_verb_there_is_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: vfagent ")
    assert not err
    assert not [verb for verb in VERBS if f"\n    {verb} " not in out]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_help_of_each_verb_has_an_example_and_the_manual_page(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["help", verb]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\nexample:\n  (sudo )?(vfagent|systemctl) ", out)
    assert "\nmanual page: vfagent(8)\n" in out
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert (end.value.code, capsys.readouterr().out) == (0, out)


def test_no_line_of_the_help_is_wider_than_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([], *([verb] for verb in VERBS), ["guest", "start"]):
        main(["help", *words])
        assert not [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list", "--jsn"], "found the unknown option '--jsn', did you mean \"--json\"?"),
        (["status", "--wach=yes"], "found the unknown option '--wach=yes', did you mean \"--watch\"?"),
        (["guest", "list", "--jason"], "found the unknown option '--jason', did you mean \"--json\"?"),
        (["status", "--wat"], "found the unknown option '--wat', did you mean \"--watch\"?"),
        (["doctor", "now"], "found 'now', which is one word too many"),
        (["help", "sttaus"], 'did you mean "status"?'),
        (["help", "guest", "satrt"], 'did you mean "start"?'),
        (["help", "list", "more"], "found 'more', which is one word too many"),
    ],
)
def test_wrong_usage_says_what_was_meant(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("trust", "pf.vf.trust (vfagent.toml(5))\n  Whether the VF may change its MAC and use promiscuous mode."),
        ("pf.vf.trust", "pf.vf.trust (vfagent.toml(5))"),
        ("[[pf.vf]]", "[[pf.vf]] (vfagent.toml(5))\n"),
        ("cpuquota", "guest.unit.CPUQuota (vfagent.toml(5))\n"),
        ("group-shared", "check group-shared of doctor (vfagent(8))\n  A VF shares its IOMMU group"),
        ("bus-numbers", "check bus-numbers of doctor (vfagent(8))\n  In the kernel's log"),
        ("vfagent_pf_info", "metric vfagent_pf_info, a gauge (vfagent-metrics(7))\n"),
        ("pf_info", "metric vfagent_pf_info, a gauge (vfagent-metrics(7))\n"),
        ("deferred", "phase deferred of a PF or VF (vfagent(8))\n  The remaining changes would disturb a VF in use."),
        ("paused", "phase paused of a guest (vfagent(8))\n"),
    ],
)
def test_explain_has_the_text_of_the_manual(topic: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", topic]) == 0
    assert capsys.readouterr().out.startswith(text)


def test_explain_knows_each_phase_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *Phase, *GuestPhase, *checks()]) == 0
    assert "\\" not in capsys.readouterr().out


def test_explain_shows_each_key_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "mtu"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.endswith("(vfagent.toml(5))")]
    assert [title.partition(" ")[0] for title in titles] == ["pf.mtu", "pf.vlan.mtu", "bridge.mtu"]


def test_explain_suggests_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "trsut"]) == 1
    assert (
        "trsut: found no key, phase, check or metric of this name\n  (did you mean trust?)" in capsys.readouterr().err
    )


def test_the_manual_has_the_generated_texts() -> None:
    page = (ROOT / "packaging/man/vfagent.8.md").read_text()
    assert page_with_reference(page) == page, "python3 -m vfagent.cli.document, see HACKING.md"


def test_each_check_of_doctor_is_explained() -> None:
    texts = [path.read_text() for path in Path(SOURCES).glob("*.py") if path.name != "explained.py"]
    named = {name for text in texts for name in re.findall(r'(?:Finding|KnownLine)\(\s*"([a-z0-9-]+)"', text)}
    assert len(named) > 60
    assert named <= set(checks())
    assert not [name for name in checks() if not any(f'"{name}"' in text for text in texts)]
