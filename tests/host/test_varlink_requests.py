# SPDX-License-Identifier: Apache-2.0
"""A plan and a release over Varlink, by the running service: the same as by the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.test_agent import PF, Service, Start, files, start
from vfagent.cli.main import main
from vfagent.service.control_client import ErrorReplyError, call

__all__ = ["files", "start"]
pytestmark = pytest.mark.usefixtures("kernel")

RULE = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n[[pf.vf]]\ndriver = "vfio-pci"\n'
FOUR = RULE.replace("vfs = 2", "vfs = 4")
PLAN, RELEASE, RELOAD = "io.vfagent.Plan", "io.vfagent.Release", "io.vfagent.Reload"


@pytest.fixture
def service(files: FakeKernel, start: Start) -> Service:
    files.tree.policy(RULE)
    files.tree.add_pf(PF)
    return start().ready()


def refused(root: Path, method: str, **parameters: object) -> tuple[str, dict[str, Any]]:
    with pytest.raises(ErrorReplyError) as raised:
        call(root, method, **parameters)
    return raised.value.name, raised.value.parameters


def phase_is(service: Service, phase: str) -> Callable[[], bool]:
    return lambda: bool(service.pf()["phase"] == phase)


def test_the_plan_is_that_of_the_command_line(
    files: FakeKernel, service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    root = files.tree.root
    assert call(root, PLAN)["plan"]["settled"] is True
    files.tree.policy(FOUR)
    plan = call(root, PLAN)["plan"]
    assert main(["plan", "--root", str(root), "--json"]) == 3
    assert plan == json.loads(capfd.readouterr().out)
    assert len(files.tree.vfs(PF)) == 2
    files.tree.policy(FOUR.replace("vfs = 4", 'vfs = "four"'))
    name, parameters = refused(root, PLAN)
    assert name == "io.vfagent.PolicyRefused"
    assert "found" in parameters["problems"][0]


def test_a_pf_is_released_until_the_next_reload(files: FakeKernel, service: Service) -> None:
    root = files.tree.root
    assert call(root, RELEASE, pf=PF) == {"address": PF}
    assert files.tree.vfs(PF) == []
    service.until(phase_is(service, "released"))
    assert call(root, RELEASE, pf=PF) == {"address": PF}
    assert refused(root, RELEASE, pf="ens9")[1]["reason"] == "ens9: there is no such PF"
    call(root, RELOAD)
    service.until(lambda: len(files.tree.vfs(PF)) == 2)


def test_a_pf_in_use_is_released_only_by_force(files: FakeKernel, service: Service) -> None:
    root, (vf, other) = files.tree.root, files.tree.vfs(PF)
    (files.tree.device(vf) / "enable").write_text("1\n")
    name, parameters = refused(root, RELEASE, pf=PF)
    assert (name, parameters["in_use"]) == ("io.vfagent.Refused", True)
    assert "vf0: a process has it open through vfio-pci" in parameters["reason"]
    assert files.tree.vfs(PF) == [vf, other]
    assert not list((root / "run/vfagent/released").iterdir())
    assert call(root, RELEASE, pf=PF, force=True) == {"address": PF}
    assert files.tree.vfs(PF) == []
