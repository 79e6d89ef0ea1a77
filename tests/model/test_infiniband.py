# SPDX-License-Identifier: Apache-2.0
"""InfiniBand: GUIDs are set before a VF is bound, bound again where its driver has to read them, and never under it."""

import errno

import pytest

from tests.model import effects, foreign
from tests.model.agent import Agent
from tests.model.devices import PfDevice
from tests.model.drivers import MLX5, MLX5_IB, PfDriver
from tests.model.effects import Effect, Kind
from tests.model.facts import pf_facts
from tests.model.hosts import Port, make_host
from tests.model.policies import policy_of
from tests.model.process import Kill
from vfagent.model.vf_settings import VfSettings
from vfagent.policy.types import Policy, VfRule

GUID = "02:00:00:03:00:00:41:{index:02x}"
OTHER = "02:00:00:03:00:00:42:{index:02x}"


def guids(driver: str, template: str = GUID) -> Policy:
    return policy_of(2, VfRule(driver=driver, node_guid=template, port_guid=template))


def converged(policy: Policy) -> tuple[Agent, PfDevice]:
    kernel = make_host((Port(MLX5_IB),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy)
    assert not agent.settle(pf.address).failures
    return agent, pf


def of(template: str) -> list[str]:
    return [template.format(index=index) for index in range(2)]


def read(pf: PfDevice) -> list[str | None]:
    """The GUIDs that the host's driver of each VF has read."""
    return [vf.read.port_guid for vf in pf.vfs]


@pytest.mark.parametrize("driver", ["vfio-pci", "host"])
def test_new_vfs_have_their_guids_before_a_driver(driver: str) -> None:
    _, pf = converged(guids(driver))
    assert [vf.driver for vf in pf.vfs] == [{"host": "mlx5_core"}.get(driver, driver)] * 2
    assert [(vf.settings.node_guid, vf.settings.port_guid) for vf in pf.vfs] == [(guid, guid) for guid in of(GUID)]
    assert read(pf) == of(GUID)


@pytest.mark.parametrize("driver", ["host", "keep"])
def test_a_new_guid_reaches_an_idle_hosts_driver_also_after_a_kill_at_any_step(driver: str) -> None:
    agent, pf = converged(guids(driver))
    agent.policy = guids(driver, OTHER)
    done = agent.converge(pf.address).done
    assert read(pf) == of(OTHER)
    assert [vf.driver for vf in pf.vfs] == ["mlx5_core"] * 2
    wanted = pf_facts(pf)
    for kill in (Kill(number, after=after) for number in range(len(done)) for after in (False, True)):
        agent, pf = converged(guids(driver))
        agent.policy = guids(driver, OTHER)
        assert agent.converge(pf.address, kill=kill).killed
        agent.restart(forget=False)
        assert not agent.settle(pf.address).failures
        assert (read(pf), pf_facts(pf)) == (of(OTHER), wanted), kill


def test_a_vf_in_use_keeps_its_guid_until_it_is_free() -> None:
    agent, pf = converged(guids("vfio-pci"))
    foreign.opens_group(pf.vfs[0])
    agent.policy = guids("vfio-pci", OTHER)
    run = agent.converge(pf.address)
    assert [deferred.step.changes for deferred in run.plan.deferred] == [("node_guid", "port_guid")]
    assert [vf.settings.port_guid for vf in pf.vfs] == [of(GUID)[0], of(OTHER)[1]]
    foreign.stops_all_use(agent.kernel)
    agent.settle(pf.address)
    assert [vf.settings.port_guid for vf in pf.vfs] == of(OTHER)


def test_a_mac_on_infiniband_is_a_problem_and_its_vf_goes_to_nobody() -> None:
    kernel = make_host((Port(MLX5_IB),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(2, VfRule(driver="vfio-pci", mac="stable", port_guid="stable")))
    run = agent.settle(pf.address)
    assert [problem.lacks for problem in run.plan.problems] == ["mac", "mac"]
    assert [vf.driver for vf in pf.vfs] == [None, None]
    assert not run.failures


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(MLX5, VfSettings(port_guid=of(GUID)[0])), (MLX5_IB, VfSettings(trust=True)), (MLX5_IB, VfSettings(mac="02::"))],
)
def test_the_fake_kernel_refuses_what_the_link_layer_lacks(kind: PfDriver, settings: VfSettings) -> None:
    kernel = make_host((Port(kind, vfs=1),))
    (pf,) = kernel.present()
    with pytest.raises(OSError) as refused:
        effects.carry_out(kernel, Effect(Kind.VF, pf.address, "", 0, settings))
    assert refused.value.errno == errno.EOPNOTSUPP
