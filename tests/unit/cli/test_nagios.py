# SPDX-License-Identifier: Apache-2.0
"""`status --nagios`: the line and the exit status of a monitoring plugin."""

from dataclasses import replace
from typing import Any

import pytest

from tests.host.tree import Tree, put
from vfagent.cli.nagios import Level, judge
from vfagent.model.codec import encode
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
from vfagent.store.state import write_json

NOW = 10_000.0
VF = VfStatus(0, "0000:01:10.0", "vfio-pci", 7, None, "a process has it open through vfio-pci")
PF = PfStatus("0000:01:00.0", "ens1", "igb", None, "all", Phase.CONVERGED, 2, 2, 8, vfs=(VF,), since=NOW - 60)
POLICY = PolicyStatus(("/etc/vfagent/policy.toml",), "abc", 0.0, on_disk_active=True)
GUEST = GuestStatus("web", GuestPhase.RUNNING, "vfagent-guest-web.service")
GOOD = Status(1, "1", 1, NOW, ready=True, policy=POLICY, pfs=(PF,), guests=(GUEST,))
COUNTS = "pfs=1 pfs_converged=1 vfs=2 vfs_in_use=1 guests_running=1"


def with_pf(**facts: Any) -> Status:
    return replace(GOOD, pfs=(replace(PF, **facts),))


def with_guest(phase: GuestPhase, detail: str | None = None) -> Status:
    return replace(GOOD, guests=(replace(GUEST, phase=phase, detail=detail),))


def test_a_host_in_order_is_ok_with_counts_for_graphs() -> None:
    assert judge(GOOD, NOW) == (Level.OK, f"VFAGENT OK - 1 PF, 1 guest | {COUNTS}")


EBUSY = (FailureStatus("cannot create 2 VFs: EBUSY", "wait"),)


@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        (with_pf(phase=Phase.FAILED, failures=EBUSY), 2, "ens1: failed, cannot create 2 VFs: EBUSY"),
        (with_pf(phase=Phase.STUCK), 2, "ens1: stuck"),
        (with_pf(vfs=(replace(VF, not_isolated=("vlan",)),)), 2, "ens1: vf0 is not isolated: vlan"),
        (with_pf(carrier=False, admin_up=True), 2, "ens1: no carrier, and its VFs are in use"),
        (with_pf(carrier=False, admin_up=True, vfs=(replace(VF, in_use=None),)), 0, "1 PF"),
        (with_pf(phase=Phase.CONVERGING, failures=EBUSY), 0, "1 PF"),
        (with_pf(phase=Phase.WAITING, waiting=("a driver",), since=NOW - 1200), 1, "ens1: waiting, a driver, for 20"),
        (with_pf(phase=Phase.DEFERRED), 0, "changes of 1 wait for VFs in use"),
        (with_pf(phase=Phase.RELEASED), 0, "1 PF"),
        (with_guest(GuestPhase.FAILED, "it cannot boot"), 2, "guest web: failed, it cannot boot"),
        (with_guest(GuestPhase.PAUSED), 2, "guest web: paused"),
        (with_guest(GuestPhase.WAITING, "0000:01:00.0/vf0"), 1, "guest web: waiting, 0000:01:00.0/vf0"),
        (with_guest(GuestPhase.STOPPED), 0, "1 guest"),
        (replace(GOOD, ready=False), 1, "the service is starting"),
        (replace(GOOD, bridges=("br0: cannot create it",)), 1, "bridges: br0: cannot create it"),
        (replace(GOOD, policy=replace(POLICY, problems=("a.toml:1:1: x",))), 1, "policy: a.toml:1:1: x"),
        (replace(GOOD, policy=replace(POLICY, on_disk_active=False)), 1, "the policy on disk is not the active one"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_the_severity_of_its_alert(status: Status, level: int, text: str) -> None:
    judged, line = judge(status, NOW)
    assert judged == level
    assert line.startswith(f"VFAGENT {Level(level).name} - ")
    assert text in line.partition(" | ")[0]


def test_the_worst_comes_first_in_one_line() -> None:
    pfs = [replace(PF, interface=f"ens{n}", phase=Phase.FAILED, problems=("a|b\n",)) for n in range(5)]
    level, line = judge(replace(GOOD, ready=False, pfs=tuple(pfs)), NOW)
    assert level is Level.CRITICAL
    assert line.startswith("VFAGENT CRITICAL - ens0: failed, a/b")
    assert "; 3 more: vfagent status | " in line
    assert line.count("|") == 1
    assert "\n" not in line


def test_the_plugin_always_has_a_line_on_standard_output(command: Any, tree: Tree) -> None:
    result = command("status", "--nagios")
    assert (result.status, result.out) == (2, "VFAGENT CRITICAL - the service is not running\n")
    put(tree.root / "run/vfagent/status.json", "{")
    result = command("status", "--nagios")
    assert result.status == 3
    assert result.out.startswith("VFAGENT UNKNOWN - status.json: cannot read it: ")
    write_json(tree.root / "run/vfagent/status.json", encode(GOOD))
    result = command("status", "--nagios")
    assert (result.status, result.out) == (0, f"VFAGENT OK - 1 PF, 1 guest | {COUNTS}\n")
