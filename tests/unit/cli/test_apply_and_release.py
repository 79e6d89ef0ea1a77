# SPDX-License-Identifier: Apache-2.0
"""`apply` and `release` on trees of files: output and exit status."""

import os
from typing import Any

import pytest

from tests.host.tree import Tree
from tests.unit.cli.trees import PF, POLICY, observed
from vfagent.cli.main import main
from vfagent.model.pci import PciAddress
from vfagent.store.locks import take_lock
from vfagent.store.state import State


def test_apply_of_a_converged_host_does_nothing(command: Any) -> None:
    result = command("apply")
    assert (result.status, result.out) == (0, "")
    assert f"{PF} (ens1): converged" in result.err


def test_apply_reports_changes_deferred_by_a_vf_in_use(command: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("vfs = 2", "vfs = 4"))
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    before = tree.vfs(PF)
    result = command("apply")
    assert result.status == 5
    assert "deferred" in result.err
    assert "a process has it open through vfio-pci" in result.err
    assert tree.vfs(PF) == before


def test_apply_says_who_starts_guests(command: Any, tree: Tree) -> None:
    tree.policy(f'{POLICY}[[guest]]\nname = "x"\nvfs = ["all:0"]\nipxe.address = "dhcp"\n')
    assert "guests are started by the service: systemctl start vfagent" in command("apply").err


def test_apply_in_json_is_the_status_of_each_pf(command: Any) -> None:
    (pf,) = command("apply", "--json").json["pfs"]
    assert (pf["address"], pf["phase"]) == (PF, "converged")


def test_apply_is_refused_while_another_vfagent_runs_that_takes_no_requests(command: Any, tree: Tree) -> None:
    lock = take_lock(tree.root / "run/vfagent")
    result = command("apply")
    os.close(lock)
    assert result.status == 1
    assert "apply: cannot start: another vfagent is running" in result.err


@pytest.mark.parametrize(("verb", "stream"), [("plan", "out"), ("apply", "err")])
def test_without_a_policy_plan_and_apply_name_the_file_they_read(
    command: Any, tree: Tree, verb: str, stream: str
) -> None:
    (tree.root / "etc/vfagent/policy.toml").unlink()
    result = command(verb)
    assert result.status == 0
    assert getattr(result, stream).startswith("no policy file: /etc/vfagent/policy.toml is not there")
    assert len(tree.vfs(PF)) == 2


def test_a_second_apply_at_the_same_time_is_refused(command: Any, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one takes the lock after the second has checked it."""
    monkeypatch.setattr("vfagent.cli.apply.lock_is_held", lambda root: False)
    lock = take_lock(tree.root / "run/vfagent")
    result = command("apply")
    os.close(lock)
    assert result.status == 1
    assert "apply: cannot start: another vfagent is running" in result.err
    assert command("apply").status == 0


def test_apply_says_that_no_rule_matches_a_pf_of_this_host(command: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("igb", "ice"))
    result = command("apply")
    assert (result.status, result.err) == (0, "no rule matches a PF of this host; nothing to do\n")


@pytest.mark.parametrize("name", ["0000:09:00.0", "ens9", "", "../../etc"])
def test_release_of_an_unknown_pf_is_an_error(command: Any, tree: Tree, name: str) -> None:
    result = command("release", name)
    assert result.status == 1
    assert "there is no such PF" in result.err
    assert not (tree.root / "run").exists()


def test_release_of_a_pf_that_was_never_changed_says_so(command: Any) -> None:
    result = command("release", "ens1")
    assert result.status == 1
    assert "vfagent has not changed it" in result.err


def test_a_second_release_leaves_the_pf_released(command: Any, tree: Tree) -> None:
    State(tree.root).release(PF)
    result = command("release", "ens1")
    assert result.status == 0
    assert "already released" in result.err
    assert State(tree.root).released() == {PF}


def test_release_is_refused_while_a_vf_is_in_use(command: Any, tree: Tree) -> None:
    State(tree.root).keep_baseline(observed(tree))
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    result = command("release", "ens1")
    assert result.status == 5
    assert "vf0: a process has it open through vfio-pci" in result.err
    assert len(tree.vfs(PF)) == 2
    assert not State(tree.root).released()


def test_release_assumes_idle_where_the_rule_does(command: Any, tree: Tree) -> None:
    """VFs of a card that is no NIC, on the host's driver: nothing shows whether they are used."""
    card = PciAddress(tree.add_pf("0000:05:00.0", vfs=2, driver="qat"))
    for vf in tree.vfs(card):
        tree.bind(vf, "qatvf")
    State(tree.root).keep_baseline(observed(tree, card))
    refused = command("release", card)
    assert (refused.status, "nothing shows whether it is used" in refused.err) == (5, True)
    tree.policy(f'{POLICY}[[pf]]\nname = "qat"\nmatch = {{ driver = "qat" }}\nassume_idle = true\n')
    assert command("release", card).status == 0


@pytest.mark.parametrize("words", [["apply"], ["release", "ens1"], ["run"]])
def test_a_copied_tree_is_never_changed(tree: Tree, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    tree.make_vfs(PF, 0)
    before = sorted(tree.root.rglob("*"))
    assert main([words[0], "--root", str(tree.root), *words[1:]]) == 1
    assert capsys.readouterr().err == (
        f"vfagent: --root {tree.root}: cannot {words[0]} there: another host's tree is only read\n"
        f"  (vfagent plan --root {tree.root} shows the steps that would be executed)\n"
    )
    assert sorted(tree.root.rglob("*")) == before
