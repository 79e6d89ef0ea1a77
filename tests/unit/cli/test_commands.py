# SPDX-License-Identifier: Apache-2.0
"""The verbs on trees: what they print, where, and with which exit status."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.host.tree import Tree, put
from tests.unit.metrics import views
from vfagent import __version__
from vfagent.cli.main import main
from vfagent.cli.screen import Terminal, screen
from vfagent.cli.text import inventory_lines, status_lines
from vfagent.model.codec import encode
from vfagent.model.inventory import Inventory, Pf
from vfagent.model.pci import PciAddress
from vfagent.model.status import FailureStatus, PfStatus, Phase, PolicyStatus, Status
from vfagent.policy.match import HostIdentity, desired_pf
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.status import pf_status
from vfagent.store.identity import open_host
from vfagent.store.locks import take_lock
from vfagent.store.policy_files import load
from vfagent.store.state import State, write_json

PF = PciAddress("0000:01:00.0")
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n[[pf.vf]]\ndriver = "vfio-pci"\nindex = "*"\n'


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.add_pf(PF, vfs=2, interface="ens1")
    tree.device(PF).joinpath("sriov_drivers_autoprobe").write_text("0\n")
    (tmp_path / "sys/class/net/ens1/flags").write_text("0x1003\n")
    for vf in tree.vfs(PF):
        tree.bind(vf, "vfio-pci")
    tree.policy(POLICY)
    return tree


def looked(tree: Tree) -> Pf:
    pf = observe_pf(open_host(tree.root), PF)
    assert pf is not None
    return pf


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def say(tree: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`vfagent VERB --root TREE …` in this process, as if that were this host's own root."""
    monkeypatch.setattr("vfagent.cli.commands.only_here", lambda _: None)

    def run(verb: str, *options: str) -> Said:
        capsys.readouterr()
        try:
            status = main([verb, "--root", str(tree.root), *options])
        except SystemExit as end:
            status = int(end.code or 0)
        return Said(int(status), *capsys.readouterr())

    return run


# list


def test_list_shows_each_pf_and_its_vfs(say: Any, tree: Tree) -> None:
    said = say("list")
    first, facts, match, *vfs = said.out.splitlines()
    assert (said.status, said.err) == (0, "")
    assert first == f"{PF} (ens1): 8086:10c9"
    assert facts == "  driver igb, 2 of 8 VFs, mtu 1500, up, mac 02:00:00:00:00:01"
    assert match == "  vendor 8086, device 10c9, path pci-0000:01:00.0"
    assert vfs == [f"  vf{n}  {address}  vfio-pci  group {100 + n}" for n, address in enumerate(tree.vfs(PF))]


def test_list_shows_what_a_rule_can_match_in_80_columns() -> None:
    found = views.converging().pf
    assert found
    pf = replace(found, path="pci-0000:3b:00.0", eswitch="switchdev", hwmode="vepa", numa_node=1)
    lines = inventory_lines(Inventory((pf,)))
    assert "  vendor 8086, device 1592, path pci-0000:3b:00.0" in lines
    assert lines[0] == f"{pf.name}: Ethernet Controller E810-C"
    assert max(map(len, lines[:4])) <= 80


def test_list_says_when_there_is_nothing(say: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = say("list", "--root", str(tmp_path / "empty"))
    assert (said.status, said.out) == (0, "no PCI function with SR-IOV found\n")


def test_list_in_json_is_the_inventory(say: Any, tree: Tree) -> None:
    said = say("list", "--json")
    (pf,) = said.json["pfs"]
    assert said.status == 0
    assert (pf["address"], pf["driver"], pf["totalvfs"], pf["netdev"]["name"]) == (PF, "igb", 8, "ens1")
    assert [vf["address"] for vf in pf["vfs"]] == tree.vfs(PF)


def test_list_names_who_holds_a_vf(say: Any, tree: Tree) -> None:
    (tree.device(tree.vfs(PF)[1]) / "enable").write_text("1\n")
    assert say("list").out.splitlines()[4].endswith("its VFIO group is held open")


@pytest.mark.parametrize("verb", ["list", "plan"])
def test_control_characters_in_names_do_not_reach_the_terminal(say: Any, tree: Tree, verb: str) -> None:
    tree.bind(PF, "evil\x1b]0;owned\x07")
    tree.policy(POLICY.replace('driver = "igb"', 'pci = "*"').replace("vfs = 2", "vfs = 3"))
    tree.bind(tree.vfs(PF)[0], "\x1b[2J")
    said = say(verb)
    assert "\x1b" not in said.out + said.err
    assert "\x07" not in said.out + said.err


def test_escaped_characters_are_shown(say: Any, tree: Tree) -> None:
    tree.bind(PF, "evil\x1b[31m")
    assert "driver evil\\x1b[31m," in say("list").out


# plan


def test_plan_of_a_converged_host_is_empty(say: Any) -> None:
    said = say("plan")
    assert said.status == 0
    assert said.out == f"{PF} (ens1): rule all\n  nothing to do\n"


def test_plan_tells_what_would_be_done_and_does_nothing(say: Any, tree: Tree) -> None:
    tree.make_vfs(PF, 0)
    said = say("plan")
    assert said.status == 3
    assert said.out.splitlines()[1].split() == ["1.", "create", "2", "VFs", "on", PF, "found", "0", "VFs"]
    assert tree.vfs(PF) == []


def test_plan_in_json_has_the_steps(say: Any, tree: Tree) -> None:
    tree.make_vfs(PF, 0)
    said = say("plan", "--json")
    (one,) = said.json
    assert said.status == 3
    assert (one["pf"], one["settled"], one["horizon"]) == (PF, False, True)
    assert one["steps"][0] == {
        "kind": "SetNumvfs", "text": f"create 2 VFs on {PF}", "reason": "found 0 VFs", "pf": PF, "count": 2
    }  # fmt: skip
    assert [step["text"] for step in one["steps"][1:]] == [f"bind {PF}/vf{index} to vfio-pci" for index in range(2)]
    assert set(one) == {"pf", "desired", "settled", "horizon", "steps", "deferred", "waiting", "problems", "notes"}


def test_plan_tells_what_waits_for_a_guest(say: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("vfs = 2", "vfs = 4"))
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    said = say("plan")
    assert said.status == 3
    assert f"  deferred: create 4 VFs on {PF} (found 2 VFs): vf0: its VFIO group is held open" in said.out


def test_plan_names_a_rule_that_matches_nothing(say: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("igb", "ice"))
    said = say("plan")
    assert (said.status, said.out) == (0, "rule 'all': no PF here matches\n")


@pytest.mark.parametrize("match", ['host = "other*"', f'path = "pci-{PF}"', 'host = "other1", path = "pci-0000:01:*"'])
def test_plan_of_another_host_s_tree_goes_by_its_name_and_its_slots(say: Any, tree: Tree, match: str) -> None:
    tree.policy(POLICY.replace('driver = "igb"', match))
    put(tree.root / "etc/hostname", "# the host's name\nother1\n")
    assert say("plan").out == f"{PF} (ens1): rule all\n  nothing to do\n"


def test_plan_of_another_host_s_tree_without_its_name_does_not_take_this_host_s(say: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace('driver = "igb"', f'host = "{os.uname().nodename}"'))
    assert say("plan").out == "rule 'all': no PF here matches\n"


SHADOWED = POLICY + '[[pf]]\nname = "one"\nmatch = { interface = "ens1" }\nvfs = 4\n'
ELSEWHERE = '[[pf]]\nname = "elsewhere"\nmatch = { driver = "ice" }\n'


def test_plan_says_which_rule_takes_the_pfs_of_one_that_comes_later(say: Any, tree: Tree) -> None:
    tree.policy(SHADOWED + ELSEWHERE)
    said = say("plan")
    assert said.status == 0
    assert said.out.splitlines()[2:] == [
        "rule 'one': its PFs are taken by rules before it: 'all'",
        "rule 'elsewhere': no PF here matches",
    ]


def test_plan_in_json_has_the_rules_that_do_nothing(say: Any, tree: Tree) -> None:
    tree.policy(SHADOWED + ELSEWHERE)
    assert say("plan", "--json").json[1:] == [
        {"rule": "one", "taken_by": ["all"]},
        {"rule": "elsewhere", "taken_by": []},
    ]


@pytest.mark.parametrize("verb", ["plan", "apply", "check"])
def test_an_invalid_policy_is_told_with_its_place(say: Any, tree: Tree, verb: str) -> None:
    tree.policy(POLICY.replace("vfs =", "vsf ="))
    said = say(verb)
    assert (said.status, said.out) == (4, "")
    assert f"{tree.root}/etc/vfagent/policy.toml:4:1: " in said.err
    assert "did you mean" in said.err
    assert "Traceback" not in said.err


# check


def test_check_of_a_valid_policy_counts_what_it_found(say: Any, tree: Tree) -> None:
    said = say("check")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"{tree.root}/etc/vfagent/policy.toml: valid: 1 PF rules")


def test_check_ends_with_the_digest_that_status_and_metrics_show(say: Any, tree: Tree) -> None:
    digest = load(tree.root).digest
    assert say("check").out.rstrip().endswith(f"0 guests, 0 bridges; digest {digest}")
    assert say("check", str(tree.root / "etc/vfagent/policy.toml")).out.rstrip().endswith(f"digest {digest}")


def test_check_tells_all_problems_at_once(say: Any, tree: Tree) -> None:
    tree.policy('[[pf]]\nname = "a"\nvsf = 1\nmtu = "big"\n')
    said = say("check")
    assert said.status == 4
    assert len(said.err.splitlines()) >= 2


def test_check_reads_the_files_it_is_given(say: Any, tmp_path: Path) -> None:
    put(tmp_path / "other.toml", "[[pf]]\nname = 7\n")
    said = say("check", str(tmp_path / "other.toml"))
    assert said.status == 4
    assert "other.toml:2:" in said.err


def test_check_of_a_missing_file_is_an_error_with_its_name(say: Any, tmp_path: Path) -> None:
    said = say("check", str(tmp_path / "absent.toml"))
    assert said.status == 1
    assert said.err == (
        f"{tmp_path}/absent.toml: cannot read it: ENOENT (No such file or directory)\n"
        "  (name a file that is there; vfagent check alone reads this host's own policy)\n"
    )


def test_check_of_a_file_that_only_root_may_read_judges_no_policy(
    say: Any, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    put(tree.root / "etc/vfagent/policy.d/10.toml", "x = 1\n")
    monkeypatch.setattr("vfagent.store.policy_files.os.open", refuse)
    said = say("check")
    assert (said.status, said.out) == (1, "")
    assert said.err.splitlines() == [
        f"{tree.root}/etc/vfagent/policy.toml: cannot read it: EACCES (Permission denied)",
        f"{tree.root}/etc/vfagent/policy.d/10.toml: cannot read it: EACCES (Permission denied)",
        "  (run it as root)",
    ]


# status


def status_of(tree: Tree, *phases: Phase, name: str = "ens1", bridges: tuple[str, ...] = ()) -> None:
    failures = (FailureStatus(f"{PF}: cannot create 2 VFs: EBUSY", "wait"),)
    pfs = tuple(
        PfStatus(PF, name, "igb", None, "all", phase, 2, 2, 8, failures=failures if phase is Phase.FAILED else ())
        for phase in phases
    )
    policy = PolicyStatus(("/etc/vfagent/policy.toml",), "abc", 0.0)
    found = Status(1, __version__, 1, time.time(), ready=True, policy=policy, pfs=pfs, bridges=bridges)
    write_json(tree.root / "run/vfagent/status.json", encode(found))


def test_status_without_a_service_says_so(say: Any) -> None:
    said = say("status")
    assert (said.status, said.out) == (6, "")
    assert "not running" in said.err


@pytest.mark.parametrize(
    ("phase", "status"),
    [(Phase.CONVERGED, 0), (Phase.UNMANAGED, 0), (Phase.FAILED, 3), (Phase.CONVERGING, 3), (Phase.STUCK, 3)],
)
def test_status_tells_by_its_exit_whether_all_is_done(say: Any, tree: Tree, phase: Phase, status: int) -> None:
    status_of(tree, phase)
    said = say("status")
    assert said.status == status
    assert f"{PF} (ens1): {phase}, rule all, 2 of 2 VFs" in said.out


def test_a_bridge_that_cannot_be_had_is_shown_and_not_done(say: Any, tree: Tree) -> None:
    status_of(tree, Phase.CONVERGED, bridges=("br8: exists already, but is a bond, not a bridge",))
    said = say("status")
    assert said.status == 3
    assert "bridges: br8: exists already, but is a bond, not a bridge" in said.out


def test_status_shows_errors_with_their_hints(say: Any, tree: Tree) -> None:
    status_of(tree, Phase.FAILED)
    assert f"  error: {PF}: cannot create 2 VFs: EBUSY (wait)" in say("status").out.splitlines()


@pytest.mark.parametrize(
    ("phase", "line"),
    [
        (Phase.CONVERGING, "  attempt 3 of 8 failed; it is tried again"),
        (Phase.FAILED, "  given up after 3 attempts; a reload tries again"),
        (Phase.STUCK, None),
    ],
)
def test_status_says_which_attempt_failed(phase: Phase, line: str | None) -> None:
    failure = FailureStatus(f"{PF}: cannot create 2 VFs: EBUSY", None)
    pf = PfStatus(PF, "ens1", "igb", None, "all", phase, 2, 0, 8, failures=(failure,), attempts=3)
    found = Status(1, __version__, 1, 0.0, ready=True, policy=PolicyStatus((), "", 0.0), pfs=(pf,))
    lines = status_lines(encode(found))
    assert [text for text in lines if "attempt" in text] == ([line] if line else [])
    assert any("attempt" in text for text in screen(found, Terminal(80, 100, colour=False, now=0.0))) == bool(line)


def test_status_in_json_is_the_file(say: Any, tree: Tree) -> None:
    status_of(tree, Phase.CONVERGED)
    assert say("status", "--json").json == json.loads((tree.root / "run/vfagent/status.json").read_text())


def test_status_without_a_policy_says_that_nothing_is_touched(say: Any, tree: Tree) -> None:
    found = Status(1, __version__, 1, time.time(), ready=True, policy=PolicyStatus((), "", 0.0), pfs=())
    write_json(tree.root / "run/vfagent/status.json", encode(found))
    said = say("status")
    assert said.status == 0
    assert "no policy: every NIC is left as it is" in said.out.splitlines()


def test_status_says_which_rule_waits_for_its_hardware(say: Any, tree: Tree) -> None:
    policy = PolicyStatus(("/etc/vfagent/policy.toml",), "abc", 0.0, rules=("all", "absent"))
    pf = PfStatus(PF, "ens1", "igb", None, "all", Phase.CONVERGED, 2, 2, 8)
    found = Status(1, __version__, 1, time.time(), ready=True, policy=policy, pfs=(pf,))
    write_json(tree.root / "run/vfagent/status.json", encode(found))
    said = say("status")
    assert said.status == 0
    assert [line for line in said.out.splitlines() if "rule '" in line] == [
        "rule 'absent': waits for a PF that it matches"
    ]


def test_status_says_which_rule_takes_the_pfs_of_one_that_comes_later(say: Any, tree: Tree) -> None:
    tree.policy(SHADOWED)
    policy = load(tree.root)
    desired = desired_pf(policy, looked(tree), HostIdentity("host", ""))
    state = PfState(PF, pf=looked(tree), desired=desired, known=True)
    of_policy = PolicyStatus(policy.files, "abc", 0.0, rules=tuple(rule.name for rule in policy.pf))
    found = Status(1, __version__, 1, time.time(), ready=True, policy=of_policy, pfs=(pf_status(state),))
    write_json(tree.root / "run/vfagent/status.json", encode(found))
    assert "rule 'one': its PFs are taken by rules before it: 'all'" in say("status").out.splitlines()


def test_status_escapes_control_characters(say: Any, tree: Tree) -> None:
    status_of(tree, Phase.CONVERGED, name="ens\x1b[2J")
    assert f"{PF} (ens\\x1b[2J): converged" in say("status").out


@pytest.mark.parametrize("text", ["", "{", "\0", '{"format": 1}', '{"pfs": 7}', "[" * 100_000])
def test_a_damaged_status_is_an_error_of_one_line(say: Any, tree: Tree, text: str) -> None:
    put(tree.root / "run/vfagent/status.json", text)
    said = say("status")
    assert said.status == 1
    assert said.out == ""
    assert len(said.err.splitlines()) == 1


# apply and release


def test_apply_of_a_converged_host_does_nothing(say: Any) -> None:
    said = say("apply")
    assert (said.status, said.out) == (0, "")
    assert f"{PF} (ens1): converged" in said.err


def test_apply_tells_what_a_vf_in_use_holds_up(say: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("vfs = 2", "vfs = 4"))
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    before = tree.vfs(PF)
    said = say("apply")
    assert said.status == 5
    assert "deferred" in said.err
    assert "its VFIO group is held open" in said.err
    assert tree.vfs(PF) == before


def test_apply_says_who_starts_guests(say: Any, tree: Tree) -> None:
    tree.policy(f'{POLICY}[[guest]]\nname = "x"\nvfs = ["all:0"]\nipxe.address = "dhcp"\n')
    assert "guests are started by the service: systemctl start vfagent" in say("apply").err


def test_apply_in_json_is_the_status_of_each_pf(say: Any) -> None:
    (one,) = say("apply", "--json").json
    assert (one["address"], one["phase"]) == (PF, "converged")


def test_apply_leaves_the_work_to_a_running_service(say: Any, tree: Tree) -> None:
    lock = take_lock(tree.root / "run/vfagent")
    said = say("apply")
    os.close(lock)
    assert said.status == 1
    assert "systemctl reload vfagent" in said.err


@pytest.mark.parametrize(("verb", "stream"), [("plan", "out"), ("apply", "err")])
def test_without_a_policy_plan_and_apply_say_where_it_is_looked_for(
    say: Any, tree: Tree, verb: str, stream: str
) -> None:
    (tree.root / "etc/vfagent/policy.toml").unlink()
    said = say(verb)
    assert said.status == 0
    assert getattr(said, stream).startswith("no policy file: /etc/vfagent/policy.toml is not there")
    assert len(tree.vfs(PF)) == 2


def test_two_applies_at_once_do_not_undo_each_others_work(
    say: Any, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has the lock, and has not told of itself yet."""
    monkeypatch.setattr("vfagent.cli.commands.service_pid", lambda root: None)
    lock = take_lock(tree.root / "run/vfagent")
    said = say("apply")
    os.close(lock)
    assert said.status == 1
    assert "apply: cannot begin: another vfagent is at work" in said.err
    assert say("apply").status == 0


def test_apply_says_that_no_rule_is_for_this_host(say: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("igb", "ice"))
    said = say("apply")
    assert (said.status, said.err) == (0, "no rule matches a PF of this host; nothing to do\n")


@pytest.mark.parametrize("name", ["0000:09:00.0", "ens9", "", "../../etc"])
def test_release_of_what_is_no_pf_is_an_error(say: Any, tree: Tree, name: str) -> None:
    said = say("release", name)
    assert said.status == 1
    assert "there is no such PF" in said.err
    assert not (tree.root / "run").exists()


def test_release_of_a_pf_that_was_never_changed_says_so(say: Any) -> None:
    said = say("release", "ens1")
    assert said.status == 1
    assert "vfagent has not changed it" in said.err


def test_a_second_release_does_not_take_the_pf_back(say: Any, tree: Tree) -> None:
    State(tree.root).release(PF)
    said = say("release", "ens1")
    assert said.status == 0
    assert "was given back before" in said.err
    assert State(tree.root).released() == {PF}


def test_release_refuses_to_take_a_vf_from_a_guest(say: Any, tree: Tree) -> None:
    State(tree.root).keep_baseline(looked(tree))
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    said = say("release", "ens1")
    assert said.status == 5
    assert "vf0: its VFIO group is held open" in said.err
    assert len(tree.vfs(PF)) == 2
    assert not State(tree.root).released()


@pytest.mark.parametrize("words", [["apply"], ["release", "ens1"], ["run"]])
def test_another_tree_is_never_changed(tree: Tree, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    tree.make_vfs(PF, 0)
    before = sorted(tree.root.rglob("*"))
    assert main([words[0], "--root", str(tree.root), *words[1:]]) == 1
    assert capsys.readouterr().err == (
        f"vfagent: --root {tree.root}: cannot {words[0]} there: another host's tree is only read\n"
        f"  (vfagent plan --root {tree.root} shows what would be done)\n"
    )
    assert sorted(tree.root.rglob("*")) == before


# usage


@pytest.mark.parametrize("argv", [[], ["listt"], ["list", "--jsn"], ["release"], ["check", "--json"]])
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: vfagent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "meant"),
    [(["sttaus"], "status"), (["doctro"], "doctor"), (["guest", "satrt"], "start"), (["Plan"], "plan")],
)
def test_a_mistyped_verb_is_wrong_usage_that_names_what_was_meant(
    argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f', did you mean "{meant}"?\n')


def test_help_spells_names_as_they_are_spelled(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rom", "--help"])
    assert "\niPXE ROMs for VFs" in capsys.readouterr().out


def test_schema_is_json_of_the_policy(say: Any) -> None:
    said = say("schema")
    assert said.status == 0
    assert {"agent", "pf", "bridge", "guest"} <= set(said.json["properties"])


def test_a_reader_that_goes_away_is_no_error(tree: Tree) -> None:
    for index in range(2, 200):
        tree.add_pf(f"0000:{index:02x}:00.0", vfs=8)
    project = str(Path(__file__).parents[3])
    argv = [sys.executable, "-m", "vfagent", "list", "--root", str(tree.root)]
    with subprocess.Popen(argv, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 0
