# SPDX-License-Identifier: Apache-2.0
"""`status --watch`: the screen at different sizes, and its colours."""

import re
from dataclasses import replace

import pytest

from tests.unit.metrics import views
from tests.unit.states import observe
from vfagent.cli.screen import Terminal, screen
from vfagent.model.status import FailureStatus, GuestPhase, GuestStatus, Phase, PolicyStatus, Status, TimedStep
from vfagent.reconcile.status import pf_status

NOW = 1000.0
PLAIN = Terminal(80, 1000, colour=False, now=NOW)
FAILURE = FailureStatus(
    f"{views.STUCK}: cannot remove all VFs of {views.STUCK}: no answer from the kernel within 60 s",
    "a guest that does not let go of a VF is the usual reason; see journalctl -k",
)


def status() -> Status:
    """A PF that converges, one stuck, one unknown, a guest that runs and one that waits."""
    base = views.view().status
    working, stuck, fresh = base.pfs
    steps = (
        TimedStep(f"bind {views.STORAGE}/vf1 to vfio-pci", NOW - 13.5, NOW - 13.0, "bind vf1: EBUSY"),
        TimedStep(f"create 4 VFs on {views.STORAGE}", NOW - 70.25, NOW - 70.0),
    )
    working = replace(working, running_steps=(f"set MTU of {views.STORAGE} to 9000",), timeline=steps)
    return replace(base, pfs=(working, replace(stuck, failures=(FAILURE,)), fresh))


def shown(status: Status, terminal: Terminal = PLAIN) -> str:
    return "\n".join(screen(status, terminal))


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_whole_screen_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda *_: "12:34:56")
    assert shown(status()) == SCREEN.strip("\n")


SCREEN = """
vfagent 1.2.3, ready, policy 0123456789ab                               12:34:56
PFs: 1 converging, 1 stuck, 1 unknown; 5 VFs, 1 in use; 1 of 2 guests run

errors
  0000:5e:00.0: cannot remove all VFs of 0000:5e:00.0: no answer from the kernel
      within 60 s (a guest that does not let go of a VF is the usual reason; see
      journalctl -k)

now
  set MTU of 0000:3b:00.0 to 9000

PF            interface  phase       VFs     rule
0000:3b:00.0  eth0       converging  4 of 4  storage
  deferred: set 0000:3b:00.0/vf0 link_state enable (found auto): vf0: in use
0000:5e:00.0             stuck       1
0000:86:00.0             unknown     0

guest   phase    pid   VFs, or what it waits for
cirros  running  4711  0000:3b:00.0/vf0 (with an older rule)
late    waiting        no PF of rule 'late' is here

recent
   13 s ago: bind vf1: EBUSY
    1 m ago: create 4 VFs on 0000:3b:00.0, in 0.25 s

VF                driver    VLAN  phase       used by
0000:3b:00.0/vf0  vfio-pci  10    deferred    guest cirros; differs: link_state
0000:3b:00.0/vf1  vfio-pci  20    converging  differs: trust, vlan
0000:3b:00.0/vf2  vfio-pci  10    converged
0000:3b:00.0/vf3  none            converging  differs: driver
0000:5e:00.0/vf0  none      10    stuck
"""


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("rows", [5, 24, 1000])
def test_no_line_is_wider_than_the_terminal_and_no_screen_longer(columns: int, rows: int) -> None:
    lines = screen(status(), Terminal(columns, rows, colour=False, now=NOW))
    assert max(map(len, lines)) <= columns
    assert len(lines) < rows


def test_a_policy_that_is_not_active_is_reported_above_the_errors() -> None:
    lines = screen(status(), PLAIN, "the policy on disk is not the active one")
    assert lines[2:6] == ["", "policy", "  the policy on disk is not the active one", ""]


def test_lines_that_do_not_fit_are_counted() -> None:
    lines = screen(status(), Terminal(80, 24, colour=False, now=NOW))
    assert re.fullmatch(r"… \d+ more lines: vfagent status has them", lines[-1])
    assert any(line.startswith("cirros") for line in lines)


def test_errors_are_never_cut() -> None:
    assert FAILURE.hint
    for columns in (30, 80):
        text = flat(shown(status(), Terminal(columns, 1000, colour=False, now=NOW)))
        assert FAILURE.text in text
        assert FAILURE.hint in text


def test_colour_adds_only_escapes_to_the_text() -> None:
    plain = shown(status())
    coloured = shown(status(), replace(PLAIN, colour=True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain
    assert "\x1b[31mstuck\x1b[0m" in coloured
    assert "\x1b[32mrunning\x1b[0m" in coloured


def test_colour_depends_on_the_phase_column_only() -> None:
    guest = GuestStatus("failed", GuestPhase.RUNNING, "vfagent-guest-failed.service", ("stuck",))
    text = shown(replace(status(), guests=(guest,)), replace(PLAIN, colour=True))
    assert "failed  \x1b[32mrunning\x1b[0m" in text


def test_adjacent_equal_vfs_share_a_line() -> None:
    state = views.converging()
    assert state.pf
    observe(state, pf=replace(state.pf, vfs=tuple(views.vf(index, enabled=index == 5) for index in range(128))))
    observe(state, plan=replace(state.plan, batches=(), deferred=()))
    pf = replace(status().pfs[0], vfs=pf_status(state).vfs)
    lines = [line.rstrip() for line in screen(replace(status(), pfs=(pf,), guests=()), PLAIN) if "/vf" in line]
    assert [line.split()[0] for line in lines[-3:]] == [f"{views.STORAGE}/{vfs}" for vfs in ("vf0-4", "vf5", "vf6-127")]
    assert "has it open" in lines[-2]


def test_control_characters_in_names_are_escaped() -> None:
    pf = replace(status().pfs[0], interface="a\x1b[2Jb\n", rule="ä" * 300, problems=("x\x07y",))
    text = shown(replace(status(), pfs=(pf,)))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert r"a\x1b[2Jb\x0a" in text


def test_errors_include_policy_pf_and_guest_problems() -> None:
    guest = GuestStatus("x", GuestPhase.FAILED, "vfagent-guest-x.service", detail="its unit failed: signal")
    pf = replace(status().pfs[2], phase=Phase.FAILED, problems=("9 VFs are wanted, and 8 are possible",))
    failed = replace(status(), pfs=(pf,), guests=(guest,), policy=PolicyStatus((), "", 0.0, ("policy.toml:3: no",)))
    text = shown(failed)
    errors = text.partition("errors\n")[2].partition("\n\n")[0]
    assert errors.splitlines() == [
        "  policy not active: policy.toml:3: no",
        f"  {views.FRESH}: 9 VFs are wanted, and 8 are possible",
        "  guest x: its unit failed: signal",
    ]


def test_empty_sections_are_left_out() -> None:
    pf = replace(status().pfs[2], phase=Phase.CONVERGED)
    text = shown(replace(status(), pfs=(pf,), guests=()))
    assert not re.search(r"^(errors|now|recent|guest|VF)", text, re.MULTILINE)
