# SPDX-License-Identifier: Apache-2.0
"""Runs in the VM: changes two eswitches of netdevsim to switchdev and back, with vfagent's adapters and steps."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vfagent.kernel.devlink import KernelDevlink
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import LinkChange, SetRepresentor
from vfagent.reconcile.execute_network import execute_network
from vfagent.reconcile.observe_network import representors
from vfagent.store.identity import open_host

BUS = Path("/sys/bus/netdevsim")
count = int(sys.argv[1])
host, devlink = open_host(), KernelDevlink()


def uplink(number: int) -> str:
    """The port that belongs to no VF and no PF: p1, because port numbers start at 1."""
    ports = (BUS / f"devices/netdevsim{number}/net").iterdir()
    return next(port.name for port in ports if re.fullmatch(r"p\d+", (port / "phys_port_name").read_text().strip()))


def mode(number: int) -> str | None:
    return devlink.eswitch_mode(PciAddress(f"netdevsim{number}"), bus="netdevsim")


def go_and_come_back(number: int) -> int:
    address = PciAddress(f"netdevsim{number}")
    (BUS / "new_device").write_text(f"{number} 1")
    Path(f"/sys/kernel/debug/netdevsim/{address}/max_vfs").write_text(str(count))
    (BUS / f"devices/{address}/sriov_numvfs").write_text(str(count))
    assert mode(number) == "legacy"
    devlink.set_eswitch_mode(address, "switchdev", bus="netdevsim")
    subprocess.run(["udevadm", "settle"], check=True)  # udev renames new netdevs
    assert mode(number) == "switchdev"
    observed = tuple(representors(host, uplink(number)))
    assert sorted(representor.index for representor in observed) == list(range(count)), observed
    assert not any(representor.admin_up for representor in observed)
    for representor in observed:
        step = SetRepresentor(address, representor.index, representor.name, representor.ifindex, LinkChange(up=True))
        execute_network(step, host, force=False)
    assert all(representor.admin_up for representor in representors(host, uplink(number)))
    devlink.set_eswitch_mode(address, "legacy", bus="netdevsim")
    assert mode(number) == "legacy"
    subprocess.run(["udevadm", "settle"], check=True)
    assert not tuple(representors(host, uplink(number)))
    (BUS / "del_device").write_text(str(number))
    return len(observed)


with ThreadPoolExecutor() as together:
    print("representors:", *together.map(go_and_come_back, (11, 12)))
