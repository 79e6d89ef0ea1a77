# SPDX-License-Identifier: Apache-2.0
"""Runs in the VM: sets and reads back every VF attribute through vfagent's adapter, on netdevsim."""

import os
import subprocess
import sys
from pathlib import Path

from vfagent.kernel.devlink import KernelDevlink
from vfagent.kernel.rtnl import KernelRtnl
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan, VlanProtocol

BUS = Path("/sys/bus/netdevsim")
count = int(sys.argv[1])


def settings(index: int) -> VfSettings:
    return VfSettings(
        mac=f"52:54:00:cc:{index >> 8:02x}:{index & 255:02x}",
        vlan=Vlan(1 + index, index % 8, VlanProtocol.DOT1AD if index % 2 else VlanProtocol.DOT1Q),
        rate=Rate(index, 1000 + index),
        spoof_check=bool(index % 2),
        trust=bool(index % 3),
        link_state=list(LinkState)[index % 3],
        rss_query=bool(index % 5),
    )


(BUS / "new_device").write_text("7 1")
subprocess.run(["udevadm", "settle"], check=True)  # udev renames its netdev
device = BUS / "devices/netdevsim7"
Path("/sys/kernel/debug/netdevsim/netdevsim7/max_vfs").write_text(str(count))
(device / "sriov_numvfs").write_text(str(count))
ifindex = int(next((device / "net").iterdir()).joinpath("ifindex").read_text())
rtnl = KernelRtnl()
rtnl.set_vfs(ifindex, {index: settings(index) for index in range(count)})
link = rtnl.link(ifindex, vfs=True)
assert link is not None
wrong = {index: link.vfs.get(index) for index in range(count) if link.vfs.get(index) != settings(index)}
assert not wrong, wrong
rtnl.set_vfs(ifindex, {0: VfSettings(vlan=Vlan(0))})
cleared = rtnl.link(ifindex, vfs=True)
assert cleared is not None
assert cleared.vfs[0].vlan == Vlan(0), cleared.vfs[0]
mode = KernelDevlink().eswitch_mode(PciAddress("netdevsim7"), bus="netdevsim")
assert mode == "legacy", mode
(BUS / "del_device").write_text("7")
print(f"{count} VFs set and read back by process {os.getpid()}")
