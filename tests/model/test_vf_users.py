# SPDX-License-Identifier: Apache-2.0
"""A change that would disturb a VF in use is deferred until the VF is not in use any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import foreign, ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.devices import PfDevice, VfDevice
from tests.model.drivers import DRIVERS, IGB, NIC_DRIVERS, NVME, QAT, SILENT, PfDriver
from tests.model.facts import shortcomings
from tests.model.hosts import Port, make_host, ports
from tests.model.kernel import Kernel
from tests.model.policies import one_rule, policy_of
from vfagent.model.vf_settings import Rate, Vlan, VlanProtocol
from vfagent.plan.steps import BindDriver
from vfagent.policy.types import Policy, VfRule
from vfagent.reconcile.reports import Report, StepStarted

USES = ("group open", "up", "port", "addressed", "away", "device")
VFIO_VFS = VfRule(driver="vfio-pci", vlan=10)


def use_vf(kernel: Kernel, vf: VfDevice, how: str) -> None:
    if how == "group open":
        foreign.opens_group(vf)
    elif how == "device":
        foreign.uses_device(kernel.pf_of(vf), vf)
    elif how == "away":
        foreign.moves_netdev_away(kernel, vf)
    else:
        foreign.uses_netdev(vf, how)


def converged(port: Port, policy: Policy) -> tuple[Agent, PfDevice]:
    kernel = make_host((port,))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy)
    agent.settle(pf.address)
    return agent, pf


@given(
    port=ports((*DRIVERS, QAT)),
    first=one_rule(),
    then=one_rule(),
    uses=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(USES)), min_size=1, max_size=3),
)
@examples(150)
def test_a_new_policy_is_deferred_while_vfs_are_in_use(
    *, port: Port, first: Policy, then: Policy, uses: list[tuple[int, str]]
) -> None:
    ledger.counted["histories"] += 1
    agent, pf = converged(port, first)
    for index, how in uses:
        for vf in pf.vfs[index : index + 1]:
            use_vf(agent.kernel, vf, how)
    agent.policy = then
    run = agent.settle(pf.address)
    assert not run.failures
    if pf.in_use and not run.plan.deferred:
        assert agent.converge(pf.address).done == []
    foreign.stops_all_use(agent.kernel)
    run = agent.settle(pf.address)
    desired = run.observations[-1].desired
    assert not run.plan.deferred or pf.kind.silent_use
    assert desired is None or not shortcomings(pf, desired)


@given(
    port=ports((*DRIVERS, QAT)),
    earlier=st.none() | one_rule(),
    policy=one_rule(),
    at=st.integers(0, 25),
    index=st.integers(0, 4),
    how=st.sampled_from(USES),
)
@examples(200)
def test_a_vf_opened_between_plan_and_step_is_not_changed(
    *, port: Port, earlier: Policy | None, policy: Policy, at: int, index: int, how: str
) -> None:
    ledger.counted["histories"] += 1
    agent, pf = converged(port, policy if earlier is None else earlier)
    agent.policy = policy
    steps: list[StepStarted] = []

    def watch(report: Report) -> None:
        if isinstance(report, StepStarted):
            steps.append(report)
            if len(steps) == at + 1 and index < len(pf.vfs):
                use_vf(agent.kernel, pf.vfs[index], how)

    agent.converge(pf.address, watch=watch)
    foreign.stops_all_use(agent.kernel)
    desired = agent.settle(pf.address).observations[-1].desired
    assert desired is None or not shortcomings(pf, desired)


def test_six_vfs_replace_four_that_are_not_in_use() -> None:
    agent, pf = converged(Port(), policy_of(4, VFIO_VFS))
    agent.policy = policy_of(6, VFIO_VFS)
    agent.converge(pf.address)
    assert [vf.driver for vf in pf.vfs] == ["vfio-pci"] * 6


def test_six_vfs_do_not_replace_four_while_one_is_in_use() -> None:
    agent, pf = converged(Port(), policy_of(4, VFIO_VFS))
    foreign.opens_group(pf.vfs[3])
    agent.policy = policy_of(6, VFIO_VFS)
    run = agent.converge(pf.address)
    (deferred,) = run.plan.deferred
    assert (run.done, len(pf.vfs)) == ([], 4)
    assert deferred.blocker == "vf3: a process has it open through vfio-pci"
    foreign.closes_group(pf.vfs[3])
    agent.converge(pf.address)
    assert len(pf.vfs) == 6


def test_settings_that_do_not_disturb_are_set_on_a_vf_in_use() -> None:
    agent, pf = converged(Port(up=True), policy_of(2, VFIO_VFS))
    foreign.opens_group(pf.vfs[0])
    agent.policy = policy_of(2, VfRule(driver="vfio-pci", vlan=20, spoof_check=False, max_tx_rate=500))
    run = agent.converge(pf.address)
    assert [item.step.describe() for item in run.plan.deferred] == ["set 0000:10:00.0/vf0 vlan 20"]
    used, free = pf.vfs[0].settings, pf.vfs[1].settings
    assert (used.vlan, used.spoof_check, used.rate) == (Vlan(10), False, Rate(0, 500))
    assert (free.vlan, free.spoof_check, free.rate) == (Vlan(20), False, Rate(0, 500))


@pytest.mark.parametrize(
    ("kind", "how"), [*((IGB, how) for how in ("up", "port", "addressed", "away")), (NVME, "device"), (QAT, "device")]
)
def test_a_vf_that_the_host_uses_goes_to_no_guest_and_is_not_removed(kind: PfDriver, how: str) -> None:
    agent, pf = converged(Port(kind), policy_of(8, VfRule(driver="host")))
    used = pf.vfs[3]
    use_vf(agent.kernel, used, how)
    assert used.in_use
    for policy in (policy_of(8, VfRule(driver="vfio-pci")), policy_of(0)):
        agent.policy = policy
        assert agent.converge(pf.address).plan.deferred
        assert (used.driver, len(pf.vfs)) == (kind.vf_driver, 8)


def test_a_vf_that_is_opened_right_before_its_step_keeps_its_driver() -> None:
    agent, pf = converged(Port(), policy_of(2, VFIO_VFS))
    agent.policy = policy_of(2, VfRule(driver="host", vlan=10))

    def watch(report: Report) -> None:
        if isinstance(report, StepStarted) and isinstance(report.step, BindDriver) and report.step.index == 1:
            foreign.opens_group(pf.vfs[1])

    run = agent.converge(pf.address, watch=watch)
    assert [failure.refused for failure in run.failures] == [True]
    assert pf.vfs[1].driver == "vfio-pci"


@given(port=ports(NIC_DRIVERS, management=(True,)), policy=one_rule())
@examples(100)
def test_the_management_pf_is_not_changed(*, port: Port, policy: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host((port,))
    (pf,) = kernel.present()
    assert pf.netdev
    run = Agent(kernel, policy).settle(pf.address)
    assert (len(pf.vfs), pf.netdev.mtu, pf.netdev.admin_up) == (port.vfs, port.mtu, True)
    assert not run.failures


def test_the_management_pf_is_changed_with_allow_management() -> None:
    _, pf = converged(Port(management=True), policy_of(3, VFIO_VFS, mtu=9000, allow_management=True))
    assert pf.netdev
    assert (len(pf.vfs), pf.netdev.mtu) == (3, 9000)


def test_an_unsupported_attribute_is_tried_once_and_noted() -> None:
    agent, pf = converged(Port(IGB), policy_of(2, VfRule(link_state=None, max_tx_rate=100, min_tx_rate=50)))
    run = agent.converge(pf.address)
    assert run.done == []
    assert run.plan.notes == ("min_tx_rate is not supported by igb",)
    assert pf.vfs[0].settings.rate == Rate(0, 100)


def test_unreported_settings_are_set_again_after_a_reset() -> None:
    agent, pf = converged(Port(SILENT), policy_of(2, VfRule(driver="vfio-pci", vlan=10, trust=True)))
    foreign.resets(pf)
    agent.converge(pf.address)
    assert [(vf.settings.vlan, vf.settings.trust) for vf in pf.vfs] == [(Vlan(10), True)] * 2


def test_unreported_settings_are_set_once_while_others_are_deferred() -> None:
    agent, pf = converged(Port(SILENT), policy_of(2, VfRule(driver="vfio-pci", vlan=10, spoof_check=False)))
    foreign.opens_group(pf.vfs[0])
    foreign.sets_vlan(pf.vfs[0], 7)
    agent.converge(pf.address)
    run = agent.converge(pf.address)
    assert (run.done, run.failures, len(run.plan.deferred)) == ([], (), 1)


def test_a_host_driver_reads_the_mac_that_was_set_for_another_driver() -> None:
    """Its VLAN is refused, so the VF is not bound to vfio-pci, and then the rule gives it back to the host."""
    mac = "52:54:00:bb:00:{index:02x}"
    refused = VfRule(driver="vfio-pci", mac=mac, vlan=10, vlan_protocol=VlanProtocol.DOT1AD)
    agent, pf = converged(Port(IGB, vfs=1, autoprobe=True), policy_of(None, refused))
    assert pf.vfs[0].settings.mac == "52:54:00:bb:00:00"
    agent.policy = policy_of(None, VfRule(driver="host", mac=mac))
    agent.settle(pf.address)
    netdev = pf.vfs[0].netdev
    assert netdev is not None
    assert netdev.mac == "52:54:00:bb:00:00"
