# SPDX-License-Identifier: Apache-2.0
"""`list` and `plan` on trees of files: output and exit status."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.host.tree import Tree, put
from tests.unit.cli.trees import ELSEWHERE, PF, POLICY, SHADOWED
from tests.unit.metrics import views
from vfagent.cli.plan import inventory_lines
from vfagent.cli.plan_page import Width, page
from vfagent.guests.dry_run import dry_runs
from vfagent.model.inventory import Inventory
from vfagent.store.identity import open_host
from vfagent.store.policy_files import load_files


def test_list_shows_each_pf_and_its_vfs(command: Any, tree: Tree) -> None:
    result = command("list")
    first, facts, match, *vfs = result.out.splitlines()
    assert (result.status, result.err) == (0, "")
    assert first == f"{PF} (ens1): 8086:10c9"
    assert facts == "  driver igb, 2 of 8 VFs, mtu 1500, up, mac 02:00:00:00:00:01"
    assert match == "  vendor 8086, device 10c9, path pci-0000:01:00.0"
    assert vfs == [f"  vf{n}  {address}  vfio-pci  group {100 + n}" for n, address in enumerate(tree.vfs(PF))]


def test_list_shows_what_a_rule_can_match_in_80_columns() -> None:
    pf = views.converging().pf
    assert pf
    pf = replace(pf, path="pci-0000:3b:00.0", eswitch="switchdev", hwmode="vepa", numa_node=1)
    lines = inventory_lines(Inventory((pf,)))
    assert "  vendor 8086, device 1592, path pci-0000:3b:00.0" in lines
    assert lines[0] == f"{pf.name}: Ethernet Controller E810-C"
    assert max(map(len, lines[:4])) <= 80


def test_list_reports_a_host_without_sriov(command: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = command("list", "--root", str(tmp_path / "empty"))
    assert (result.status, result.out) == (0, "no PCI function with SR-IOV found\n")


def test_list_in_json_is_the_inventory(command: Any, tree: Tree) -> None:
    result = command("list", "--json")
    (pf,) = result.json["pfs"]
    assert result.status == 0
    assert (pf["address"], pf["driver"], pf["totalvfs"], pf["netdev"]["name"]) == (PF, "igb", 8, "ens1")
    assert [vf["address"] for vf in pf["vfs"]] == tree.vfs(PF)


def test_list_shows_an_override_that_names_another_driver(command: Any, tree: Tree) -> None:
    vf = tree.vfs(PF)[1]
    tree.bind(vf, None)
    tree.add_device(vf, driver_override="igb_uio")
    assert "no driver (driver_override igb_uio)" in command("list").out.splitlines()[4]


def test_list_shows_why_a_vf_is_in_use(command: Any, tree: Tree) -> None:
    (tree.device(tree.vfs(PF)[1]) / "enable").write_text("1\n")
    assert command("list").out.splitlines()[4].endswith("a process has it open through vfio-pci")


@pytest.mark.parametrize("verb", ["list", "plan"])
def test_control_characters_in_names_do_not_reach_the_terminal(command: Any, tree: Tree, verb: str) -> None:
    tree.bind(PF, "evil\x1b]0;owned\x07")
    tree.policy(POLICY.replace('driver = "igb"', 'pci = "*"').replace("vfs = 2", "vfs = 3"))
    tree.bind(tree.vfs(PF)[0], "\x1b[2J")
    result = command(verb)
    assert "\x1b" not in result.out + result.err
    assert "\x07" not in result.out + result.err


def test_escaped_characters_are_shown(command: Any, tree: Tree) -> None:
    tree.bind(PF, "evil\x1b[31m")
    assert "driver evil\\x1b[31m," in command("list").out


def test_plan_of_a_converged_host_is_empty(command: Any) -> None:
    result = command("plan", "--steps")
    assert result.status == 0
    assert result.out == f"{PF} (ens1): rule all\n  nothing to do\n"


def test_plan_prints_the_steps_and_executes_none(command: Any, tree: Tree) -> None:
    tree.make_vfs(PF, 0)
    result = command("plan", "--steps")
    assert result.status == 3
    assert result.out.splitlines()[1].split() == ["1.", "create", "2", "VFs", "on", PF, "found", "0", "VFs"]
    assert tree.vfs(PF) == []


def test_plan_in_json_has_the_steps(command: Any, tree: Tree) -> None:
    tree.make_vfs(PF, 0)
    result = command("plan", "--json")
    (pf,) = result.json["pfs"]
    assert result.status == 3
    assert (pf["address"], pf["settled"], pf["more_steps_follow"]) == (PF, False, True)
    assert pf["steps"][0] == {
        "kind": "set_numvfs",
        "text": f"create 2 VFs on {PF}",
        "reason": "found 0 VFs",
        "destroys": False,
        "values": {"pf": PF, "count": 2},
    }
    assert [step["text"] for step in pf["steps"][1:]] == [f"bind {PF}/vf{index} to vfio-pci" for index in range(2)]
    assert set(pf) == {
        "address",
        "interface",
        "desired",
        "settled",
        "more_steps_follow",
        "steps",
        "deferred",
        "waiting",
        "problems",
        "notes",
    }


def test_plan_prints_changes_deferred_by_a_vf_in_use(command: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("vfs = 2", "vfs = 4"))
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    result = command("plan", "--steps")
    assert result.status == 3
    assert f"  deferred: create 4 VFs on {PF} (found 2 VFs): vf0: a process has it open through vfio-pci" in result.out


def test_plan_names_a_rule_that_matches_nothing(command: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace("igb", "ice"))
    result = command("plan", "--steps")
    assert (result.status, result.out) == (0, "rule 'all': no PF here matches: driver = 'ice'\n")


def test_plan_names_the_pf_that_was_renamed_away_from_its_rule(command: Any, tree: Tree) -> None:
    """An upgrade of systemd makes ens1np0 of ens1, or the other way round."""
    tree.policy(POLICY.replace('driver = "igb"', 'interface = "ens1np0"'))
    result = command("plan", "--steps")
    assert result.status == 3
    assert result.out == "rule 'all': no PF here matches: interface = 'ens1np0' (did you mean 'ens1'?)\n"
    assert command("plan", "--json").status == 3


@pytest.mark.parametrize(
    "match", ['interface = "ens2"', 'driver = "igbvf"', 'host = "no-such-host", interface = "ens2"', 'device = "10ca"']
)
def test_a_rule_for_other_hardware_is_no_mistake(command: Any, tree: Tree, match: str) -> None:
    """The PF whose name is near has a rule of its own, the rule is for another host, or names another model."""
    first = POLICY if "host" not in match and "device" not in match else POLICY.replace("igb", "zzz")
    tree.policy(first + f'[[pf]]\nname = "second"\nmatch = {{ {match} }}\nvfs = 1\n')
    result = command("plan", "--steps")
    assert "rule 'second': no PF here matches" in result.out
    assert result.status == 0


@pytest.mark.parametrize("match", ['host = "other*"', f'path = "pci-{PF}"', 'host = "other1", path = "pci-0000:01:*"'])
def test_plan_of_a_copied_tree_matches_host_and_path_there(command: Any, tree: Tree, match: str) -> None:
    tree.policy(POLICY.replace('driver = "igb"', match))
    put(tree.root / "etc/hostname", "# the host's name\nother1\n")
    assert command("plan", "--steps").out == f"{PF} (ens1): rule all\n  nothing to do\n"


def test_plan_of_a_copied_tree_without_a_hostname_ignores_this_hosts_name(command: Any, tree: Tree) -> None:
    tree.policy(POLICY.replace('driver = "igb"', f'host = "{os.uname().nodename}"'))
    assert command("plan", "--steps").out == "rule 'all': no PF here matches\n"


def test_plan_names_the_rule_that_shadows_a_later_one(command: Any, tree: Tree) -> None:
    tree.policy(SHADOWED + ELSEWHERE)
    result = command("plan", "--steps")
    assert result.status == 0
    assert result.out.splitlines()[2:] == [
        "rule 'one': its PFs are taken by earlier rules: 'all'",
        "rule 'elsewhere': no PF here matches: driver = 'ice'",
    ]


def card_without_sriov(tree: Tree, vendor: str, device: str) -> None:
    facts = {"vendor": vendor, "device": device, "class": "0x020000"}
    tree.add_device("0000:02:00.0", **facts)
    tree.bind("0000:02:00.0", "ice")
    tree.add_netdev("ens2", "0000:02:00.0")


def test_plan_says_that_the_sriov_of_a_rules_card_is_off(command: Any, tree: Tree) -> None:
    """Its firmware may have it off: then the kernel shows no sriov_totalvfs, and it is no PF."""
    tree.policy(POLICY + ELSEWHERE)
    card_without_sriov(tree, "0x15b3", "0x1017")
    result = command("plan", "--steps")
    assert result.status == 3
    why = "0000:02:00.0 (ens2) is a model with SR-IOV, but has no SR-IOV capability"
    start = f"rule 'elsewhere': no PF here matches, but a card without VFs: {why}"
    assert result.out.splitlines()[-1].startswith(start)
    assert result.out.endswith("(see vfagent doctor)\n")


def test_a_card_that_never_had_sriov_is_no_reason_to_exit_with_3(command: Any, tree: Tree) -> None:
    tree.policy(POLICY + ELSEWHERE)
    card_without_sriov(tree, "0x8086", "0x1533")
    result = command("plan", "--steps")
    assert result.status == 0
    assert result.out.splitlines()[-1] == "rule 'elsewhere': no PF here matches: driver = 'ice'"


def test_plan_in_json_has_the_unused_rules(command: Any, tree: Tree) -> None:
    tree.policy(SHADOWED + ELSEWHERE)
    assert command("plan", "--json").json["rules"] == [
        {"rule": "one", "shadowed_by": ["all"], "unmet": None, "sriov_off": None},
        {"rule": "elsewhere", "shadowed_by": [], "unmet": "driver = 'ice'", "sriov_off": None},
    ]


@pytest.mark.parametrize("verb", ["plan", "apply", "check"])
def test_an_invalid_policy_is_reported_with_file_and_line(command: Any, tree: Tree, verb: str) -> None:
    tree.policy(POLICY.replace("vfs =", "vsf ="))
    result = command(verb)
    assert (result.status, result.out) == (4, "")
    assert f"{tree.root}/etc/vfagent/policy.toml:4:1: " in result.err
    assert "did you mean" in result.err
    assert "Traceback" not in result.err


def test_plan_of_a_candidate_does_not_read_the_hosts_policy(command: Any, tree: Tree, tmp_path: Path) -> None:
    tree.policy("this is no policy")
    put(tmp_path / "new.toml", '[[pf]]\nname = "new"\nmatch.driver = "igb"\nvfs = 1\n')
    result = command("plan", str(tmp_path / "new.toml"))
    assert result.status == 3
    assert "rule new" in result.out


def test_plan_and_check_read_a_policy_from_standard_input(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[[pf]]\nname = "new"\nmatch.driver = "igb"\nvfs = 1\n'
    for verb, policy, shown in (
        ("plan", text, "rule new"),
        ("check", f"{text}vsf = 1\n", 'standard input:5:1: pf "new".vsf'),
    ):
        put(tmp_path / "in", policy)
        with open(tmp_path / "in") as file:
            monkeypatch.setattr("sys.stdin", file)
            result = command(verb, "-")
        assert shown in result.out + result.err


MANY = """\
[[pf]]
name = "storage"
match = { driver = "igb" }
vfs = 8
[[pf.vf]]
index = "0-4,6"
driver = "vfio-pci"
[[pf.vf]]
driver = "none"
"""

PAGE = """\
2 of 3 cards change, 4 VFs are removed, 16 VFs are made, 1 change waits for a user

0000:01:00.0 (ens1): rule storage
  deferred: create 8 VFs on 0000:01:00.0 (found 2 VFs): vf0: a process has it open through vfio-pci

0000:02:00.0 (ens2): rule storage
  set sriov_drivers_autoprobe of 0000:02:00.0 to 0 (found 4 VFs)
! remove all VFs of 0000:02:00.0 (found 4 VFs)
  create 8 VFs on 0000:02:00.0 (found 4 VFs)
  set 0000:02:00.0 up (found down)
  bind VFs 0-4, 6 to vfio-pci (a new VF)
  more steps are planned once these are done

0000:03:00.0 (ens3): rule storage
  set sriov_drivers_autoprobe of 0000:03:00.0 to 0 (found 0 VFs)
  create 8 VFs on 0000:03:00.0 (found 0 VFs)
  set 0000:03:00.0 up (found down)
  bind VFs 0-4, 6 to vfio-pci (a new VF)
  more steps are planned once these are done

! removes something; vfagent plan --steps shows each step in its order
"""


def test_plan_leads_with_a_summary_and_folds_alike_vfs(command: Any, tree: Tree) -> None:
    tree.add_pf("0000:02:00.0", vfs=4, interface="ens2")
    tree.add_pf("0000:03:00.0", vfs=0, interface="ens3")
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    tree.policy(MANY)
    assert command("plan").out == PAGE


def test_a_summary_without_a_change_says_what_waits(command: Any, tree: Tree) -> None:
    (tree.device(tree.vfs(PF)[0]) / "enable").write_text("1\n")
    tree.policy(MANY)
    assert command("plan").out.startswith("nothing to do now on 1 card, 1 change waits for a user\n")


def test_plan_folds_cards_that_are_alike(command: Any, tree: Tree) -> None:
    for number in range(2, 8):
        tree.add_pf(f"0000:{number:02x}:00.0", vfs=8, interface=f"ens{number}")
    tree.policy(MANY.replace("vfs = 8", "vfs = 7"))
    lines = command("plan", "ens[2-9]").out.splitlines()
    assert lines[0] == "6 of 6 cards change, 48 VFs are removed, 42 VFs are made"
    assert len(lines) < 15
    assert "! remove all VFs of each (found 8 VFs)" in lines
    assert len(command("plan", "--steps").out.splitlines()) > 40


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_of_plan_is_wider_than_the_terminal(tree: Tree, columns: int) -> None:
    tree.add_pf("0000:02:00.0", vfs=4, interface="ens2")
    tree.policy(MANY)
    policy = load_files([tree.root / "etc/vfagent/policy.toml"])
    lines = page(dry_runs(policy, open_host(tree.root), tree.root), Width(columns, colour=True))
    assert not [line for line in lines if len(re.sub("\x1b\\[[0-9;]*m", "", line)) > columns]
    assert any(line.startswith("\x1b[1;31m! remove all VFs") for line in lines)
