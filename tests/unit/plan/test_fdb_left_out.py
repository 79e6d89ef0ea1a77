# SPDX-License-Identifier: Apache-2.0
"""Which MACs go into no FDB, although a bridge above the PF has them."""

from dataclasses import replace

from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.network import HostNetwork, Link
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.fdb import plan_fdb
from vfagent.plan.quirks import quirks_of

ADDRESS, VF_MAC, BRIDGE, GUEST = (
    PciAddress("0000:a1:00.0"),
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    "02:aa:bb:00:00:01",
)
NETDEV = Netdev("ens1", 4, "02:00:00:00:a1:00", None, 1500, admin_up=True, master="vmbr0")
NETWORK = HostNetwork(
    links=(
        Link("ens1", 4, mac=NETDEV.mac, master=9, admin_up=True),
        Link("vmbr0", 9, kind="bridge", mac=BRIDGE, admin_up=True),
    ),
    learnt=(("vmbr0", GUEST), ("vmbr0", VF_MAC)),
)
PF = Pf(
    ADDRESS,
    "mlx5_core",
    "0x15b3",
    "0x1021",
    "0x020000",
    8,
    autoprobe=False,
    vfs=(Vf(0, PciAddress("0000:a1:00.2"), settings=VfSettings(mac=VF_MAC)),),
    netdev=NETDEV,
    network=NETWORK,
    eswitch="legacy",
)
DESIRED = DesiredPf(ADDRESS, "pve", numvfs=1, mtu=None, vfs=(), fdb=True)


def added(pf: Pf) -> list[str]:
    steps, _ = plan_fdb(DESIRED, pf, DriverState(), quirks_of(pf.driver))
    return [planned.step.mac for planned in steps]  # type: ignore[union-attr]


def test_the_macs_of_a_bridge_and_of_its_local_ports_are_added() -> None:
    assert added(PF) == [BRIDGE, GUEST]


def test_a_vfs_own_mac_that_a_local_port_uses_too_is_not_added() -> None:
    """The card has it for the VF. As an entry of the PF it would draw the VF's frames to the host."""
    assert VF_MAC not in added(PF)
    assert VF_MAC in added(replace(PF, vfs=(replace(PF.vfs[0], settings=None),)))


def test_nothing_is_added_in_switchdev_mode_or_without_vfs() -> None:
    """Representors in the bridge tell the card; without VFs nobody has to reach the bridge by it."""
    assert (added(replace(PF, eswitch="switchdev")), added(replace(PF, vfs=()))) == ([], [])
