# SPDX-License-Identifier: Apache-2.0
"""A PF that has no netdev here: whether one may come, and what cannot be done without it. Pure."""

from collections.abc import Iterator

from vfagent.model.desired import DesiredPf
from vfagent.model.evidence import UIO_DRIVERS, is_vfio
from vfagent.model.inventory import Pf
from vfagent.plan.quirks import quirks_of
from vfagent.plan.vf import Problem

NETDEV_GRACE_S = 10.0
"""How long the netdev of a PF is waited for once its driver is bound. Then its VFs are made without."""


def netdev_may_come(pf: Pf) -> bool:
    """Whether a netdev of this PF may yet appear here: of a NIC, by a driver that is not known to make none.

    A driver may make it some time after its probe: virtio_net and mlx5_core's part for Ethernet are modules that udev
    loads for a device below the PF. InfiniBand's is ib_ipoib's.
    """
    if pf.netdev or pf.netdev_away or not pf.is_nic or pf.driver is None:
        return False
    quirks, host_driver = quirks_of(pf.driver), not (is_vfio(pf.driver) or pf.driver in UIO_DRIVERS)
    return host_driver and not (quirks.no_netdev or quirks.netdev_with_vfs)


def netdev_comes_with_vfs(pf: Pf) -> bool:
    return pf.netdev is None and not pf.vfs and quirks_of(pf.driver).netdev_with_vfs


def without_netdev(desired: DesiredPf, pf: Pf) -> Iterator[Problem]:
    """What the rule asks of the PF's netdev, which is not there."""
    if pf.netdev or netdev_comes_with_vfs(pf):
        return
    why = "the PF has no netdev"
    if desired.mtu is not None:
        yield Problem(f"mtu {desired.mtu} cannot be set: {why}")
    if desired.hwmode:
        yield Problem(f"hwmode {desired.hwmode} cannot be set: {why}")
