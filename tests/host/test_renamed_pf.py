# SPDX-License-Identifier: Apache-2.0
"""A PF is renamed away from its rule, as by an upgrade: status, metrics and journal say it, and its VFs stay."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.test_agent import PF, running_agent
from tests.host.tree import point
from tests.unit.metrics import views
from vfagent.metrics.counters import Counters
from vfagent.metrics.view import View
from vfagent.model.pci import PciAddress
from vfagent.service.agent import Agent

pytestmark = pytest.mark.usefixtures("kernel")

POLICY = (
    '[[pf]]\nname = "uplink"\nmatch = { interface = "ens7f0" }\nassume_idle = true\nvfs = 2\n'
    '[[pf.vf]]\ndriver = "vfio-pci"\n'
)
REASON = "rule 'uplink': waits for a PF that it matches: interface = 'ens7f0' (did you mean 'ens7f0np0'?)"


def rename(files: FakeKernel, before: str, after: str) -> None:
    folder, names = files.tree.device(PF) / "net", files.tree.root / "sys/class/net"
    (folder / before).rename(folder / after)
    (names / before).unlink()
    point(names / after, os.path.relpath(folder / after, names))


async def reconciled(agent: Agent) -> None:
    """As after udev's event for the renamed netdev."""
    agent.scheduler.mark_dirty(PciAddress(PF), now=True)
    while agent.scheduler.working or agent.scheduler.pfs[PciAddress(PF)].request.dirty:
        await asyncio.sleep(0.01)


def rule_pfs(agent: Agent) -> list[str]:
    page = views.text(View(agent.snapshot(), Counters()))
    return [line for line in page.splitlines() if line.startswith("vfagent_rule_pfs")]


def test_a_pf_that_is_renamed_away_from_its_rule_is_missed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = FakeKernel(tmp_path / "root")
    files.tree.policy(POLICY)
    files.tree.add_pf(PF, interface="ens7f0")

    async def scenario() -> None:
        async with running_agent(files) as agent:
            await reconciled(agent)
            assert agent.snapshot().policy.unused_rules == ()
            assert rule_pfs(agent) == ['vfagent_rule_pfs{rule="uplink"} 1.0']
            rename(files, "ens7f0", "ens7f0np0")
            await reconciled(agent)
            assert agent.snapshot().policy.unused_rules == (REASON,)
            assert rule_pfs(agent) == ['vfagent_rule_pfs{rule="uplink"} 0.0']
            assert len(files.tree.vfs(PF)) == 2
            rename(files, "ens7f0np0", "ens7f0")
            await reconciled(agent)
            assert agent.snapshot().policy.unused_rules == ()

    run_to_end(scenario())
    assert caplog.text.count(REASON) == 1
