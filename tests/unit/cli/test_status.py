# SPDX-License-Identifier: Apache-2.0
"""`status`: output and exit status."""

import json
import logging
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.host.tree import Tree, put
from tests.unit.cli.trees import PF, POLICY, SHADOWED, observed
from tests.unit.states import observe, pf_state
from vfagent import __version__
from vfagent.cli.screen import Terminal, screen
from vfagent.cli.status import status_lines
from vfagent.model.codec import decode, encode
from vfagent.model.status import (
    FailureStatus,
    GuestPhase,
    GuestStatus,
    PfStatus,
    Phase,
    PolicyStatus,
    Status,
    VfStatus,
)
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.policy.match import HostIdentity, desired_pf
from vfagent.policy.types import PfRule, Policy
from vfagent.service.unused_rules import UnusedRules
from vfagent.store.policy_files import load
from vfagent.store.state import write_json


def status_of(tree: Tree, *phases: Phase, name: str = "ens1", bridges: tuple[str, ...] = ()) -> None:
    failures = (FailureStatus(f"{PF}: cannot create 2 VFs: EBUSY", "wait"),)
    pfs = tuple(
        PfStatus(PF, name, "igb", None, "all", phase, 2, 2, 8, failures=failures if phase is Phase.FAILED else ())
        for phase in phases
    )
    policy = PolicyStatus(("/etc/vfagent/policy.toml",), "abc", 0.0)
    status = Status(1, __version__, 1, time.time(), ready=True, policy=policy, pfs=pfs, bridges=bridges)
    write_json(tree.root / "run/vfagent/status.json", encode(status))


def test_status_without_a_service_says_so(command: Any) -> None:
    result = command("status")
    assert (result.status, result.out) == (6, "")
    assert "not running" in result.err


@pytest.mark.parametrize(
    ("phase", "status"),
    [(Phase.CONVERGED, 0), (Phase.UNMANAGED, 0), (Phase.FAILED, 3), (Phase.CONVERGING, 3), (Phase.STUCK, 3)],
)
def test_status_exits_with_0_only_if_every_pf_is_done(command: Any, tree: Tree, phase: Phase, status: int) -> None:
    status_of(tree, phase)
    result = command("status")
    assert result.status == status
    assert f"{PF} (ens1): {phase}, rule all, 2 of 2 VFs" in result.out


def test_status_with_a_bridge_problem_is_not_converged(command: Any, tree: Tree) -> None:
    status_of(tree, Phase.CONVERGED, bridges=("br8: exists already, but is a bond, not a bridge",))
    result = command("status")
    assert result.status == 3
    assert "bridges: br8: exists already, but is a bond, not a bridge" in result.out


def test_status_shows_errors_with_their_hints(command: Any, tree: Tree) -> None:
    status_of(tree, Phase.FAILED)
    assert f"  error: {PF}: cannot create 2 VFs: EBUSY (wait)" in command("status").out.splitlines()


@pytest.mark.parametrize(
    ("phase", "line"),
    [
        (Phase.CONVERGING, "  attempt 3 of 8 failed; retrying"),
        (Phase.FAILED, "  suspended after 3 attempts; a reload retries"),
        (Phase.STUCK, None),
    ],
)
def test_status_says_which_attempt_failed(phase: Phase, line: str | None) -> None:
    failure = FailureStatus(f"{PF}: cannot create 2 VFs: EBUSY", None)
    pf = PfStatus(PF, "ens1", "igb", None, "all", phase, 2, 0, 8, failures=(failure,), attempts=3)
    status = Status(1, __version__, 1, 0.0, ready=True, policy=PolicyStatus((), "", 0.0), pfs=(pf,))
    lines = status_lines(status)
    assert [text for text in lines if "attempt" in text] == ([line] if line else [])
    assert any("attempt" in text for text in screen(status, Terminal(80, 100, colour=False, now=0.0))) == bool(line)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_status_reads_and_decodes_its_file_once(
    command: Any, tree: Tree, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    decoded: list[object] = []

    def counted(kind: type[Status], data: object) -> Status:
        decoded.append(data)
        return decode(kind, data)

    status_of(tree, Phase.CONVERGED)
    monkeypatch.setattr("vfagent.model.codec.decode", counted)
    monkeypatch.setattr("vfagent.cli.status_file.decode", counted)
    assert command("status", *options).status == 0
    assert len(decoded) == 1


def test_status_in_json_is_the_file(command: Any, tree: Tree) -> None:
    status_of(tree, Phase.CONVERGED)
    assert command("status", "--json").json == json.loads((tree.root / "run/vfagent/status.json").read_text())


def test_status_without_a_policy_says_that_every_nic_is_left_as_it_is(command: Any, tree: Tree) -> None:
    status = Status(1, __version__, 1, time.time(), ready=True, policy=PolicyStatus((), "", 0.0), pfs=())
    write_json(tree.root / "run/vfagent/status.json", encode(status))
    result = command("status")
    assert result.status == 0
    assert "no policy: every NIC is left as it is" in result.out.splitlines()


def unused(tree: Tree) -> tuple[str, ...]:
    """What the service says of the policy on disk and the PF of the tree."""
    policy, pf = load(tree.root), observed(tree)
    state = pf_state(PF, pf, desired_pf(policy, pf, HostIdentity("host", "")))
    return UnusedRules(HostIdentity("host", "")).texts(policy, [state])


def test_status_names_a_rule_that_waits_for_its_hardware(command: Any, tree: Tree) -> None:
    text = "rule 'absent': waits for a PF that it matches: driver = 'ice'"
    tree.policy(POLICY + POLICY.replace("all", "absent").replace("igb", "ice"))
    assert unused(tree) == (text,)
    policy = PolicyStatus(("/etc/vfagent/policy.toml",), "abc", 0.0, rules=("all", "absent"), unused_rules=(text,))
    status = Status(1, __version__, 1, time.time(), ready=True, policy=policy, pfs=())
    write_json(tree.root / "run/vfagent/status.json", encode(status))
    result = command("status")
    assert result.status == 0
    assert [line for line in result.out.splitlines() if "rule '" in line] == [text]


def test_status_says_what_a_rule_may_have_meant(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    tree.policy(POLICY.replace('driver = "igb"', 'interface = "ens1x"'))
    text = "rule 'all': waits for a PF that it matches: interface = 'ens1x' (did you mean 'ens1'?)"
    assert unused(tree) == (text,)
    assert caplog.record_tuples == [("vfagent.service.unused_rules", logging.WARNING, f"policy: {text}")]


def test_a_rule_that_loses_its_pf_is_logged_once(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tree.policy(POLICY)
    policy, pf, identity = load(tree.root), observed(tree), HostIdentity("host", "")
    rules, state = UnusedRules(identity), pf_state(PF, pf, desired_pf(policy, pf, identity))
    assert rules.texts(policy, [state]) == ()
    for _ in range(3):
        assert rules.texts(policy, []) == ("rule 'all': waits for a PF that it matches",)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_status_names_the_rule_that_shadows_a_later_one(tree: Tree) -> None:
    tree.policy(SHADOWED)
    assert unused(tree) == ("rule 'one': its PFs are taken by earlier rules: 'all'",)


def test_status_escapes_control_characters(command: Any, tree: Tree) -> None:
    status_of(tree, Phase.CONVERGED, name="ens\x1b[2J")
    assert f"{PF} (ens\\x1b[2J): converged" in command("status").out


@pytest.mark.parametrize("text", ["", "{", "\0", '{"format": 1}', '{"pfs": 7}', "[" * 100_000])
def test_a_damaged_status_is_an_error_of_one_line(command: Any, tree: Tree, text: str) -> None:
    put(tree.root / "run/vfagent/status.json", text)
    result = command("status")
    assert result.status == 1
    assert result.out == ""
    assert len(result.err.splitlines()) == 1


def test_rules_are_matched_again_only_after_a_change(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scrape asks for them, on the event loop."""
    made: list[Policy] = []

    def counted(_: HostIdentity, policy: Policy) -> list[PfRule]:
        made.append(policy)
        return []

    monkeypatch.setattr("vfagent.service.unused_rules.rules_for", counted)
    tree.policy(POLICY)
    policy, pf, identity = load(tree.root), observed(tree), HostIdentity("host", "")
    rules, state = UnusedRules(identity), pf_state(PF, pf, desired_pf(policy, pf, identity))
    for _ in range(3):
        rules.texts(policy, [state])
    assert len(made) == 1
    observe(state, desired=None)
    rules.texts(policy, [state])
    rules.texts(load(tree.root), [state])
    assert len(made) == 3


OTHER = "0000:3b:00.0"


def two_cards(tree: Tree) -> None:
    """One with 1,024 VFs, of which two are used and one has no driver; one that has failed, with a guest on its VF."""
    settings = VfSettings(mac="02:00:00:00:00:01", vlan=Vlan(100), spoof_check=True, trust=False)
    vfs = tuple(
        VfStatus(number, f"0000:3c:{number >> 3:02x}.{number & 7}", "vfio-pci", number, settings, None)
        for number in range(1024)
    )
    used = tuple(replace(vf, in_use="guest web") for vf in vfs[7:9])
    many = (*vfs[:7], *used, *vfs[9:1023], replace(vfs[1023], driver=None))
    pfs = (
        PfStatus(OTHER, "ens2", "ice", "E810", "big", Phase.CONVERGED, 1024, 1024, 1024, vfs=many),
        PfStatus(PF, "ens1", "igb", "82576", "all", Phase.FAILED, 1, 1, 7, mtu=1500, admin_up=True, carrier=False),
    )
    guests = (
        GuestStatus("web", GuestPhase.RUNNING, "vfagent-guest-web.service", vf_addresses=(vfs[7].address,)),
        GuestStatus("db", GuestPhase.WAITING, "vfagent-guest-db.service", vfs=(f"{PF}/vf0",)),
    )
    policy = PolicyStatus(("/etc/vfagent/policy.toml",), "abc", 0.0)
    status = Status(1, __version__, 1, time.time(), ready=True, policy=policy, pfs=pfs, guests=guests)
    write_json(tree.root / "run/vfagent/status.json", encode(status))


def test_many_vfs_are_ranges_of_equal_ones(command: Any, tree: Tree) -> None:
    two_cards(tree)
    lines = command("status").out.splitlines()
    assert lines[3:8] == [
        f"{OTHER} (ens2): converged, rule big, 1024 of 1024 VFs",
        "  vf0-6, 9-1022  1021 VFs  vfio-pci   vlan 100",
        "  vf7-8          2 VFs     vfio-pci   vlan 100  guest web",
        "  vf1023         1 VF      no driver  vlan 100",
        "  vfagent status ens2 shows each VF",
    ]


def test_one_card_is_shown_with_its_facts_vfs_and_guests(command: Any, tree: Tree) -> None:
    two_cards(tree)
    failed = command("status", "ens1")
    assert (failed.status, "web" in failed.out, OTHER in failed.out) == (3, False, False)
    assert failed.out.splitlines()[4:6] == ["  82576, driver igb, at most 7 VFs", "  up, without a link, MTU 1500"]
    other = command("status", "3b:00.0")
    assert (other.status, other.out.count("0000:3c:")) == (0, 1024)
    assert [guest["name"] for guest in command("status", "--json", "ens2").json["guests"]] == ["web"]
    missing = command("status", "ens7")
    assert (missing.status, missing.out) == (1, "")
    assert "ens7: no PF here has this address or interface" in missing.err


@pytest.mark.parametrize(("color", "colours"), [("always", True), ("never", False), ("auto", False)])
def test_colours_are_chosen(*, command: Any, tree: Tree, color: str, colours: bool) -> None:
    two_cards(tree)
    assert ("\x1b[31mfailed\x1b[0m" in command("status", "--color", color).out) is colours
