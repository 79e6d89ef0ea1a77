# SPDX-License-Identifier: Apache-2.0
"""What is counted, and that it does not grow."""

import time
from typing import get_args

import pytest

from vfagent.metrics.counters import Counters, Histogram
from vfagent.model.autoconf import Ipv6Conf
from vfagent.model.network import Move, VlanTag
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.plan.attributes import ATTRIBUTES, differing, vf_index
from vfagent.plan.network_steps import (
    AddAddress,
    AddFdb,
    CreateBridge,
    CreateVlan,
    DeleteLink,
    LinkChange,
    MarkLink,
    MoveAddresses,
    RemoveAddress,
    RemoveFdb,
    RollBackMove,
    SetAutoconf,
    SetEswitch,
    SetHwmode,
    SetLink,
    SetRepresentor,
)
from vfagent.plan.steps import (
    KINDS,
    BindDriver,
    ConfigureVf,
    SetAdminState,
    SetAutoprobe,
    SetMtu,
    SetNumvfs,
    Step,
    UnbindDriver,
)

PF, VF = PciAddress("0000:01:00.0"), PciAddress("0000:01:10.0")
STEPS: dict[Step, tuple[str, ...]] = {
    SetAutoprobe(PF, on=False): ("autoprobe",),
    SetNumvfs(PF, 0): ("numvfs",),
    SetMtu(PF, 1, 9000): ("mtu",),
    SetAdminState(PF, 1, up=True): ("admin_state",),
    ConfigureVf(PF, 1, 0, VfSettings(vlan=Vlan(0), trust=False)): ("vlan", "trust"),
    BindDriver(PF, 0, VF, None): ("driver",),
    UnbindDriver(PF, 0, VF): ("driver",),
    CreateVlan(PF, "eth0", 1, "vlan10", VlanTag(10)): ("link",),
    CreateBridge(PF, "br0"): ("link",),
    MarkLink(PF, "br0", 2): ("link",),
    SetLink(PF, "br0", 2, LinkChange(up=True)): ("link",),
    SetRepresentor(PF, 0, "eth0_0", 3, LinkChange(up=True)): ("link",),
    SetAutoconf(PF, "eth0", 1, Ipv6Conf(0, 0, 1)): ("ipv6_autoconf",),
    DeleteLink(PF, "br0", 2): ("link",),
    AddAddress(PF, "br0", "192.0.2.1/24"): ("address",),
    RemoveAddress(PF, "br0", "192.0.2.1/24"): ("address",),
    MoveAddresses(PF, Move("br0", "br1", ("192.0.2.1/24",))): ("address",),
    RollBackMove(PF, Move("br0", "br1", ("192.0.2.1/24",))): ("address",),
    AddFdb(PF, 1, "02:00:00:00:00:01"): ("fdb",),
    RemoveFdb(PF, 1, "02:00:00:00:00:01"): ("fdb",),
    SetHwmode(PF, 1, "vepa"): ("hwmode",),
    SetEswitch(PF, "switchdev"): ("eswitch",),
}


def test_a_duration_is_counted_in_the_first_bucket_it_fits() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.1, 0.2, 1.0, 5.0):
        histogram.observe(seconds)
    assert list(histogram.cumulative()) == [("0.1", 1), ("1.0", 3), ("+Inf", 4)]
    assert histogram.count == 4
    assert histogram.sum_s == pytest.approx(6.3)


def test_every_step_has_a_kind_and_attributes() -> None:
    assert {type(step) for step in STEPS} == set(get_args(Step))
    assert {step.KIND for step in STEPS} == set(KINDS)
    assert all(step.changes == names for step, names in STEPS.items())
    assert {name for names in STEPS.values() for name in names} <= set(ATTRIBUTES)


def test_differences_are_grouped_by_vf() -> None:
    settings = ConfigureVf(PF, 1, 3, VfSettings(trust=True))
    differences = differing([SetMtu(PF, 1, 9000), settings, BindDriver(PF, 3, VF, None)])
    assert differences == {None: ("mtu",), 3: ("driver", "trust")}
    assert vf_index(settings) == 3


def test_counters_do_not_grow_with_the_number_of_steps() -> None:
    counters = Counters()
    before = (len(counters.steps), len(counters.drifts), len(counters.step_failures))
    for step in STEPS:
        counters.step_ended(step, 1.0, failed=True)
        counters.drifted([step])
    assert (len(counters.steps), len(counters.drifts), len(counters.step_failures)) == before
    assert sum(counters.step_failures.values()) == len(STEPS)


def test_requests_for_a_pf_that_waits_already_are_counted() -> None:
    counters = Counters()
    counters.asked(again=False)
    counters.asked(again=True)
    assert counters.coalesced == 1


@pytest.mark.parametrize(("uptime", "expected"), [(20.0, 20.0), (86_400.0, None)])
def test_boot_to_ready_is_set_only_if_the_boot_started_the_agent(
    uptime: float, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda clock: uptime)
    counters = Counters()
    counters.ready_after(4.0)
    assert counters.boot_to_ready_s == expected
