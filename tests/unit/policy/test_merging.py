# SPDX-License-Identifier: Apache-2.0
"""The files of a policy and how they are merged."""

from pathlib import Path

import pytest

from tests.unit.policy.trees import bridge, bridges, problems, write
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load, load_files

ETC, RUN, LIB = "etc/vfagent", "run/vfagent", "usr/lib/vfagent"


def test_no_file_is_an_empty_policy(tmp_path: Path) -> None:
    assert load(tmp_path) == Policy()


def test_an_empty_folder_is_an_empty_policy(tmp_path: Path) -> None:
    (tmp_path / ETC / "policy.d").mkdir(parents=True)
    assert load(tmp_path).files == ()


def test_drop_ins_of_all_folders_follow_the_policy_sorted_by_name(tmp_path: Path) -> None:
    write(tmp_path, f"{ETC}/policy.d/10-a.toml", bridge("etc10"))
    write(tmp_path, f"{RUN}/policy.d/20-b.toml", bridge("run20"))
    write(tmp_path, f"{LIB}/policy.d/30-c.toml", bridge("lib30"))
    write(tmp_path, f"{LIB}/policy.d/05-d.toml", bridge("lib05"))
    write(tmp_path, f"{ETC}/policy.toml", bridge("main"))
    policy = load(tmp_path)
    assert bridges(policy) == ["main", "lib05", "etc10", "run20", "lib30"]
    assert policy.files == tuple(
        f"{tmp_path}/{name}"
        for name in (
            f"{ETC}/policy.toml",
            f"{LIB}/policy.d/05-d.toml",
            f"{ETC}/policy.d/10-a.toml",
            f"{RUN}/policy.d/20-b.toml",
            f"{LIB}/policy.d/30-c.toml",
        )
    )


def test_of_drop_ins_with_one_name_etc_wins_over_run_over_usr_lib(tmp_path: Path) -> None:
    for folder in (LIB, RUN, ETC):
        write(tmp_path, f"{folder}/policy.d/10.toml", bridge(folder.partition("/")[0]))
    assert bridges(load(tmp_path)) == ["etc"]
    (tmp_path / ETC / "policy.d/10.toml").unlink()
    assert bridges(load(tmp_path)) == ["run"]


def test_a_link_to_dev_null_masks_a_drop_in(tmp_path: Path) -> None:
    write(tmp_path, f"{LIB}/policy.d/10.toml", "this is not TOML")
    (tmp_path / ETC / "policy.d").mkdir(parents=True)
    (tmp_path / ETC / "policy.d/10.toml").symlink_to("/dev/null")
    assert load(tmp_path).files == ()


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere", bridge("linked"))
    (tmp_path / ETC / "policy.d").mkdir(parents=True)
    (tmp_path / ETC / "policy.d/10.toml").symlink_to("../../../elsewhere")
    assert bridges(load(tmp_path)) == ["linked"]


@pytest.mark.parametrize("name", ["10.conf", "10.toml~", "10.toml.dpkg-new", ".10.toml", ".#10.toml", "README"])
def test_files_without_a_drop_in_name_are_ignored(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"{ETC}/policy.d/{name}", "this is not TOML")
    assert load(tmp_path).files == ()


def test_the_last_file_that_sets_an_agent_key_decides(tmp_path: Path) -> None:
    write(tmp_path, f"{ETC}/policy.toml", 'agent = { metrics = "", resync = "1min" }')
    write(tmp_path, f"{ETC}/policy.d/10.toml", '[agent]\nresync = "2min"')
    agent = load(tmp_path).agent
    assert (agent.metrics, agent.resync_s) == ("", 120.0)


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ('[[bridge]]\nname = "twice"\n', 'bridge "twice".name'),
        ('[[pf]]\nname = "twice"\nmatch.driver = "igb"\n', 'pf "twice".name'),
    ],
)
def test_a_name_in_two_files_is_reported_with_both_locations(tmp_path: Path, rule: str, key: str) -> None:
    write(tmp_path, f"{ETC}/policy.toml", rule)
    write(tmp_path, f"{ETC}/policy.d/10.toml", rule)
    assert problems(tmp_path) == [
        f'/etc/vfagent/policy.d/10.toml:2:8: {key}: found name "twice" a second time, allowed is once: first used at '
        f"/etc/vfagent/policy.toml:2: {key}"
    ]


@pytest.mark.parametrize(
    "second",
    ['[[bridge]]\nname = "vlan10"', '[[pf]]\nname = "b"\nmatch.host = "b"\nvlan = [{ id = 11, name = "vlan10" }]'],
)
def test_a_bridge_or_vlan_cannot_have_the_name_of_another(tmp_path: Path, second: str) -> None:
    first = '[[pf]]\nname = "a"\nmatch.host = "a"\nvlan = [{ id = 10, name = "vlan10" }]\n'
    write(tmp_path, f"{ETC}/policy.toml", first + second)
    (line,) = problems(tmp_path)
    assert 'found name "vlan10" a second time' in line


def test_a_vlan_interface_cannot_be_the_bridge_of_another(tmp_path: Path) -> None:
    pf = '[[pf]]\nname = "a"\nmatch.host = "a"\n'
    vlans = 'vlan = [{ id = 10, name = "vlan10" }, { id = 11, name = "vlan11", bridge = "vlan10" }]'
    write(tmp_path, f"{ETC}/policy.toml", pf + vlans)
    (line,) = problems(tmp_path)
    text = 'found "vlan10", the VLAN interface of /etc/vfagent/policy.toml:4: pf "a".vlan "vlan10"'
    assert f'pf "a".vlan "vlan11".bridge: {text}' in line


def test_one_address_on_two_vlans_is_refused(tmp_path: Path) -> None:
    pf = '[[pf]]\nname = "a"\nmatch.host = "a"\n'
    vlan = '[[pf.vlan]]\nid = 1{0}\nname = "vlan1{0}"\naddresses = ["192.168.10.1/24"]\n'
    write(tmp_path, f"{ETC}/policy.toml", pf + vlan.format(0) + vlan.format(1))
    (line,) = problems(tmp_path)
    assert 'pf "a".vlan "vlan11".addresses[0]: found address "192.168.10.1/24" a second time' in line


def test_problems_of_all_files_are_reported_together(tmp_path: Path) -> None:
    write(tmp_path, f"{ETC}/policy.toml", "version = 3")
    write(tmp_path, f"{ETC}/policy.d/10.toml", "a =")
    write(tmp_path, f"{ETC}/policy.d/20.toml", "bridge = 1")
    assert len(problems(tmp_path)) == 3


def test_the_limit_of_rules_holds_over_all_files(tmp_path: Path) -> None:
    for number in range(2):
        rules = "".join(f'[[pf]]\nname = "p{number}-{index}"\nmatch.host = "a"\n' for index in range(600))
        write(tmp_path, f"{ETC}/policy.d/{number}.toml", rules)
    (line,) = problems(tmp_path)
    assert line.endswith('1.toml:1273:1: pf "p1-424": found 1200 rules in all files, allowed are 1024')


def test_rules_for_vfs_are_counted_over_all_pfs(tmp_path: Path) -> None:
    vfs = "".join(f'[[pf.vf]]\nindex = "{index}"\n' for index in range(2049))
    write(tmp_path, f"{ETC}/policy.toml", "".join(f'[[pf]]\nname = "{name}"\nmatch.host = "a"\n{vfs}' for name in "ab"))
    (line,) = problems(tmp_path)
    assert line.endswith('pf "b".vf: found 4098 rules for VFs up to here, allowed are 4096 in all')


@pytest.mark.parametrize("kind", ["pf", "guest", "bridge"])
def test_limits_hold_in_one_file(tmp_path: Path, kind: str) -> None:
    write(tmp_path, f"{ETC}/policy.toml", f"[[{kind}]]\n" * 1025)
    (line,) = problems(tmp_path)
    assert line == f"/etc/vfagent/policy.toml:1:1: {kind}: found 1025 entries, allowed are at most 1024"


def test_65_files_are_refused_unread(tmp_path: Path) -> None:
    for number in range(65):
        write(tmp_path, f"{ETC}/policy.d/{number:02}.toml", bridge(f"br{number}"))
    assert problems(tmp_path) == ["/etc/vfagent/policy.d/64.toml: found 65 files, allowed are at most 64"]


def test_files_given_by_name_are_read_in_order_without_drop_ins(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{name}.toml", bridge(name)) for name in ("b", "a")]
    write(tmp_path, f"{ETC}/policy.d/10.toml", bridge("c"))
    assert bridges(load_files(paths)) == ["b", "a"]


def test_the_digest_changes_with_the_text(tmp_path: Path) -> None:
    path = write(tmp_path, "policy.toml", bridge("a"))
    first, again = load_files([path]), load_files([path])
    write(tmp_path, "policy.toml", bridge("a") + "# but with a comment\n")
    second = load_files([path])
    assert first.digest == again.digest != second.digest
    assert len(first.digest) == 12
    assert first == second
