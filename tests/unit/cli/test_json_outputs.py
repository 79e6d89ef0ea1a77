# SPDX-License-Identifier: Apache-2.0
"""Each `--json` is one object with `format`, and as `vfagent schema` describes it."""

import json
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.host.tree import Tree
from tests.unit.cli.trees import PF, POLICY
from tests.unit.metrics import views
from vfagent.cli.main import main
from vfagent.cli.outputs import OUTPUTS
from vfagent.cli.outputs import POLICY as POLICY_SCHEMA
from vfagent.cli.parser import SCHEMAS
from vfagent.exit_status import Exit
from vfagent.model.codec import encode
from vfagent.model.pci import PciAddress
from vfagent.model.status import GuestPhase, GuestStatus, Status
from vfagent.reconcile.pf_state import Work
from vfagent.reconcile.status import snapshot
from vfagent.service.status_cache import StatusCache
from vfagent.store.state import write_json

GUEST = '[[guest]]\nname = "x"\nvfs = ["all:0"]\nipxe.address = "dhcp"\n'
INVALID = POLICY.replace("vfs =", "vsf =")
NEED_A_POLICY = {"apply", "plan", "rom-list"}
UNUSED = '[[pf]]\nname = "elsewhere"\nmatch.driver = "ice"\n'


def status() -> Status:
    guest = GuestStatus("x", GuestPhase.WAITING, "vfagent-guest-x.service", until_at=5.0)
    pfs = StatusCache().of([views.converging(), views.stuck()])
    return snapshot(pfs, views.POLICY, "1", ready=True, guests=(guest,), bridges=("br0: is a VLAN",))


def checked(capsys: pytest.CaptureFixture[str], name: str, *words: str) -> Any:
    capsys.readouterr()
    main([*words])
    shown = json.loads(capsys.readouterr().out)
    main(["schema", name])
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(shown)
    assert shown["format"] == 1
    return shown


def words_of(name: str, root: Path) -> list[str]:
    """The command line that has this output."""
    verb, _, inner = name.partition("-")
    words = [inner, *(["x"] if inner == "status" else [])] if inner else []
    return [verb, "--root", str(root), *words, "--json"]


@pytest.fixture
def host(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Whose service has written its status."""
    monkeypatch.setattr("vfagent.cli.main.require_own_host", lambda *_: None)
    write_json(tree.root / "run/vfagent/status.json", encode(status()))
    return tree


@pytest.mark.parametrize("name", sorted(OUTPUTS))
@pytest.mark.parametrize("policy", [POLICY, POLICY + GUEST + UNUSED, ""])
def test_an_output_is_as_its_schema_says(
    host: Tree, capsys: pytest.CaptureFixture[str], name: str, policy: str
) -> None:
    host.policy(policy)
    checked(capsys, name, *words_of(name, host.root))


@pytest.mark.parametrize("name", sorted({*OUTPUTS} - NEED_A_POLICY))
def test_an_output_that_needs_no_policy_is_as_its_schema_says_beside_an_invalid_one(
    host: Tree, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    host.policy(INVALID)
    checked(capsys, name, *words_of(name, host.root))


@pytest.mark.parametrize("name", sorted(NEED_A_POLICY))
def test_with_an_invalid_policy_there_is_an_error_and_no_output(
    host: Tree, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    host.policy(INVALID)
    assert main(words_of(name, host.root)) == Exit.POLICY_INVALID
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "vsf" in shown.err


def test_an_output_of_a_host_without_cards_is_an_object_with_empty_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(capsys, "list", "list", "--root", str(tmp_path), "--json") == {"pfs": [], "format": 1}
    assert checked(capsys, "plan", "plan", "--root", str(tmp_path), "--json")["pfs"] == []
    empty = snapshot((), views.POLICY, "1", ready=True)
    write_json(tmp_path / "run/vfagent/status.json", encode(empty))
    assert checked(capsys, "guest-list", "guest", "--root", str(tmp_path), "list", "--json")["guests"] == []


def test_a_schema_refuses_what_is_not_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    main(["schema", "status"])
    validator = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    shown = json.loads(json.dumps(encode(status())))
    assert validator.is_valid(shown)
    assert validator.is_valid({**shown, "of_a_later_version": 1})
    assert not validator.is_valid({**shown, "pid": "1"})
    assert not validator.is_valid({key: value for key, value in shown.items() if key != "pfs"})
    assert not validator.is_valid({**shown, "pfs": [{**shown["pfs"][0], "phase": "happy"}]})


def test_there_is_a_schema_for_each_output_and_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert (POLICY_SCHEMA, *OUTPUTS) == SCHEMAS
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "vfagent policy"


def test_a_watched_status_is_an_object_in_each_line(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    path = tree.root / "run/vfagent/status.json"
    write_json(path, encode(status()))
    ended = threading.Timer(0.5, path.unlink)
    ended.start()
    assert main(["status", "--root", str(tree.root), "--watch", "--json"]) == 6
    ended.join()
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["format"] == 1


def test_a_pf_keeps_the_time_at_which_it_came_into_its_phase() -> None:
    cache, state = StatusCache(), views.converging()
    (before,) = cache.of([state])
    cache.changed(state.address)
    (same,) = cache.of([state])
    assert same is not before
    assert same.since == before.since is not None
    state.work = Work.STUCK
    cache.changed(state.address)
    (after,) = cache.of([state])
    assert after.since is not None
    assert after.since > before.since


OTHER = PciAddress("0000:02:00.0")


@pytest.fixture
def two_cards(tree: Tree) -> Tree:
    tree.add_pf(OTHER, vfs=1, interface="ens2")
    return tree


@pytest.mark.parametrize("verb", ["list", "plan"])
@pytest.mark.parametrize(
    ("words", "addresses"),
    [
        (["ens1"], [PF]),
        (["ens*"], [PF, OTHER]),
        (["02:00.0"], [OTHER]),
        ([OTHER], [OTHER]),
        (["ens2", PF], [PF, OTHER]),
    ],
)
def test_list_and_plan_show_only_the_cards_that_are_named(
    two_cards: Tree, capsys: pytest.CaptureFixture[str], verb: str, words: list[str], addresses: list[str]
) -> None:
    main([verb, "--root", str(two_cards.root), *words, "--json"])
    assert [pf["address"] for pf in json.loads(capsys.readouterr().out)["pfs"]] == addresses


def test_a_card_that_is_named_wrongly_is_an_error_with_a_guess(
    two_cards: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--root", str(two_cards.root), "ens3"]) == 1
    assert "vfagent: ens3: no PF here has this address or interface\n  (did you mean ens" in capsys.readouterr().err
