# SPDX-License-Identifier: Apache-2.0
"""For how long a refusal by the driver is believed."""

from dataclasses import replace

import pytest

from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute

LINK = Netdev("ens1", 3, "02:00:00:00:00:00", None, 1500, admin_up=True)
DOWN = replace(LINK, carrier=False)
PF = Pf(
    PciAddress("0000:3b:00.0"), "ice", "0x8086", "0x1592", "0x020000", 8, autoprobe=False, netdev=LINK, eswitch="legacy"
)
REFUSED = {Attribute.VLAN: "EOPNOTSUPP", Attribute.RATE: "EOPNOTSUPP", Attribute.ESWITCH: "EOPNOTSUPP"}


def refused(pf: Pf) -> DriverState:
    return replace(DriverState().for_pf(pf), unsupported=REFUSED)


def test_a_refusal_is_believed_while_nothing_changes() -> None:
    assert refused(PF).for_pf(PF) == refused(PF)
    assert refused(PF).for_pf(replace(PF, netdev=DOWN)).unsupported == REFUSED


@pytest.mark.parametrize(
    "later",
    [replace(PF, driver="i40e"), replace(PF, netdev=replace(LINK, ifindex=7)), replace(PF, eswitch="switchdev")],
    ids=["driver", "netdev", "mode"],
)
def test_all_refusals_are_forgotten_with_another_driver_or_mode(later: Pf) -> None:
    assert refused(PF).for_pf(later).unsupported == {}


def test_what_the_link_may_decide_is_tried_again_when_it_comes_up() -> None:
    """Not the eswitch mode, which costs the VFs, nor the link state, which igb never takes."""
    down = replace(PF, netdev=DOWN)
    others = {Attribute.ESWITCH: "EOPNOTSUPP", Attribute.LINK_STATE: "EOPNOTSUPP"}
    state = replace(refused(down), unsupported={**REFUSED, **others})
    assert state.for_pf(PF).unsupported == others


def test_what_isolates_is_tried_again_on_new_vfs_and_rates_are_not() -> None:
    kept = {Attribute.RATE: "EOPNOTSUPP", Attribute.ESWITCH: "EOPNOTSUPP"}
    assert refused(PF).without_vfs().unsupported == kept
