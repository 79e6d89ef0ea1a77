# SPDX-License-Identifier: Apache-2.0
"""`vfagent guest`, and guests in `plan` and `status`."""

import json
from pathlib import Path

import pytest

from tests.host.tree import Tree, put
from vfagent.cli.main import main
from vfagent.guests.spec.unit import rule_digest
from vfagent.model.codec import encode
from vfagent.model.pci import PciAddress
from vfagent.model.status import GuestPhase, GuestStatus, PolicyStatus, Status
from vfagent.store.guest_records import GuestRecords, Record
from vfagent.store.policy_files import load
from vfagent.store.state import write_json

PF = "0000:01:00.0"
POLICY = """
[[pf]]
name = "a"
match = { driver = "igb" }
vfs = 2
[[pf.vf]]
index = "*"
driver = "vfio-pci"
[[guest]]
name = "x"
vfs = ["a:0"]
[guest.ipxe]
address = "dhcp"
"""
RUNNING = GuestStatus("x", GuestPhase.RUNNING, "vfagent-guest-x.service", (f"{PF}/vf0",), "iPXE image", 4711)
WAITING = GuestStatus("y", GuestPhase.WAITING, "vfagent-guest-y.service", detail="its PF is\x1b stuck")


@pytest.fixture
def tree(tree: Tree) -> Tree:
    tree.policy(POLICY)
    return tree


def command(tree: Tree, verb: str, *options: str) -> int:
    return main([verb, "--root", str(tree.root), *options])


def write_status(tree: Tree) -> None:
    status = Status(1, "0", 1, 0.0, ready=True, policy=PolicyStatus((), "", 0.0), pfs=(), guests=(RUNNING, WAITING))
    write_json(tree.root / "run/vfagent/status.json", encode(status))


def test_plan_names_the_file_that_a_guest_lacks(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    put(tree.root / "usr/bin/qemu-system-x86_64", "")
    assert command(tree, "plan") == 3
    package = "install ipxe, on Fedora ipxe-bootimgs-x86"
    wanted = f"guest x: waits: /usr/lib/ipxe/ipxe.lkrn (the iPXE image) does not exist ({package})"
    assert wanted in capsys.readouterr().out


def test_plan_prints_the_vfs_that_a_guest_would_start_on(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tree, "plan") == 3
    assert f"guest x: start on {PF}/vf0 ({tree.vfs(PF)[0]}) by its iPXE image" in capsys.readouterr().out
    command(tree, "plan", "--json")
    (guest,) = json.loads(capsys.readouterr().out)["guests"]
    assert (guest["name"], guest["argv"][0]) == ("x", "/usr/bin/qemu-system-x86_64")


def test_plan_waits_for_the_bridge_of_a_nic(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    nic = '[[guest.nic]]\nbridge = "{}"\n'
    alone = '[[guest]]\nname = "z"\n[guest.ipxe]\naddress = "dhcp"\n' + nic.format("br9")
    tree.policy(POLICY + nic.format("vmbr0") + alone + '[[bridge]]\nname = "br9"\n')
    assert command(tree, "plan") == 3
    shown = capsys.readouterr().out
    assert "guest x: waits: bridge vmbr0 does not exist" in shown
    assert "guest z: start on bridge br9 by its iPXE image" in shown  # the policy makes it first
    put(tree.root / "sys/class/net/vmbr0/bridge/bridge_id", "")
    assert command(tree, "plan") == 3
    assert f"guest x: start on {PF}/vf0 ({tree.vfs(PF)[0]}), bridge vmbr0 by" in capsys.readouterr().out


def test_plan_prints_why_a_guest_cannot_boot(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.add_device(tree.vfs(PF)[0], vendor="0x15b3", device="0x1018")
    assert command(tree, "plan") == 3
    assert (
        "guest x: waits: iPXE's image /usr/lib/ipxe/ipxe.lkrn has no driver for VFs 15b3:1018"
        in capsys.readouterr().out
    )


def test_plan_leaves_running_and_stopped_guests_as_they_are(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    records = GuestRecords(tree.root)
    records.keep("x", Record(rule_digest(load(tree.root).guest[0]), "it was stopped by hand"))
    assert command(tree, "plan") == 0
    assert "guest x: is not started: it was stopped by hand" in capsys.readouterr().out
    records.set_vf_users({PciAddress(tree.vfs(PF)[0]): "x"})
    (tree.root / "sys/fs/cgroup/machine.slice/vfagent-guest-x.service").mkdir(parents=True)
    assert command(tree, "plan") == 0
    assert "guest x: runs on" in capsys.readouterr().out


def test_guest_list_shows_what_each_guest_waits_for(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(tree)
    assert command(tree, "guest", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["x", "running", f"{PF}/vf0", "iPXE", "image", "pid", "4711"]
    assert lines[1].endswith("its PF is\\x1b stuck")
    assert command(tree, "guest", "list", "--json") == 0
    assert [guest["name"] for guest in json.loads(capsys.readouterr().out)["guests"]] == ["x", "y"]


def test_guest_status_shows_one_guest_and_what_it_waits_for(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(tree)
    assert command(tree, "guest", "status", "x") == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["guest     x", "phase     running"]
    assert command(tree, "guest", "status", "y") == 3
    assert "why     its PF is\\x1b stuck" in capsys.readouterr().out
    command(tree, "guest", "status", "--json", "y")
    assert json.loads(capsys.readouterr().out)["guest"]["phase"] == "waiting"
    assert command(tree, "guest", "status", "z") == 1
    assert "guest z: there is no such guest, allowed are x, y" in capsys.readouterr().err


def test_guest_log_does_not_drive_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text(r"""#!/bin/sh
echo "$@"
printf '\033[1;32mOK\033[0m done\r\n\033]0;title\007\033(Bend\n'
""")
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main(["guest", "log", "-n", "5", "x"]) == 0
    words, *lines = capsys.readouterr().out.splitlines()
    assert words.endswith(" --all --no-pager --lines=5 --unit=vfagent-guest-x.service")
    assert lines == ["OK done", r"\x1b]0;title\x07end"]
    assert main(["guest", "log", "../x"]) == 1


def test_status_shows_guests_and_is_not_converged_while_one_waits(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    write_status(tree)
    assert command(tree, "status") == 3
    assert "guests:" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("argv", [("list",), ("start", "x"), ("stop", "x"), ("status", "x")])
def test_guest_commands_without_the_service_exit_with_6(
    tree: Tree, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]
) -> None:
    assert command(tree, "guest", *argv) == 6
    assert "the service is not running" in capsys.readouterr().err


def test_rom_build_for_an_unknown_guest_suggests_a_name(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.policy(POLICY.replace('name = "x"', 'name = "cirros"'))
    assert command(tree, "rom", "build", "cirrso") == 1
    message = 'vfagent: guest cirrso: there is no such guest, allowed are cirros, did you mean "cirros"?\n'
    assert capsys.readouterr().err == message


def test_rom_build_for_a_guest_that_needs_no_rom_is_an_error(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tree, "rom", "build", "x") == 1
    assert capsys.readouterr().err.splitlines()[0] == "vfagent: guest x: does not boot from a ROM"
