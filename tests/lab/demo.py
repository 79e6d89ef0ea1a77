# SPDX-License-Identifier: Apache-2.0
"""A demonstration: a host boots with VFs and a guest on one of them; a NIC is plugged in and gets its VFs."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.facts import vfs
from tests.lab.guest_facts import wait_printed
from tests.lab.image import hypervisor
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb, VirtioPf
from tests.lab.target import MARK, Target
from tests.lab.vm import VM

POLICY = Path(__file__).parents[2] / "config/examples/demo.toml"
_RULE = "─" * 78


def main() -> None:
    times: list[tuple[str, float]] = []
    with _timed(times, "lab images: built, or found in the cache"):
        hypervisor()
    _title("The policy")
    print(POLICY.read_text())
    payload = vfagent_tree(POLICY.read_text(), Target("0000:02:00.0").tree(), enabled=False)
    with VM([Igb("igb0"), VirtioPf("virtio0", vfs=2)], payload, hypervisor=True) as vm:
        _show_plan(vm, times)
        _show_boot(vm, times)
        _show_hotplug(vm, times)
        _show_guest(vm)
    _title("How long each took")
    for what, seconds in times:
        print(f"  {seconds:6.1f} s  {what}")


def _show_plan(vm: VM, times: list[tuple[str, float]]) -> None:
    vm.wait_boot()
    _title("A host with an 82576 and a virtio card, before: vfagent plan")
    _print(vm, "vfagent plan; true")
    vm.run("systemctl enable vfagent.service")


def _show_boot(vm: VM, times: list[tuple[str, float]]) -> None:
    with _timed(times, "reboot, until the host takes commands"):
        vm.reboot()
    with _timed(times, "from then to the first line of its guest, booted from an iSCSI disk through a VF"):
        wait_printed(vm, "cirros", MARK, timeout=120)
    vm.wait_boot()
    _title("The same host after its next boot: vfagent status")
    _print(vm, "vfagent status")
    _print(vm, "ip link show $(ls /sys/bus/pci/devices/0000:01:00.0/net)")
    ready = vm.run("systemctl show --value --property ActiveEnterTimestampMonotonic vfagent.service").stdout
    begun = vm.run("systemctl show --value --property InactiveExitTimestampMonotonic vfagent.service").stdout
    times.append(("of the boot: vfagent, from its start to READY", (int(ready) - int(begun)) / 1e6))


def _show_hotplug(vm: VM, times: list[tuple[str, float]]) -> None:
    _title("A second NIC is plugged in")
    with _timed(times, "from plugging a NIC in to its 4 VFs on vfio-pci with MAC and VLAN"):
        pf = vm.hotplug(Igb("igb1"))
        vm.wait_for(lambda: [vf.driver for vf in vfs(vm, pf) if vf.vlan == 10] == ["vfio-pci"] * 4, 60)
    vm.wait_for(f"vfagent status | grep -q '{pf}.*converged'", 30)
    _print(vm, "vfagent status")


def _show_guest(vm: VM) -> None:
    _title("The guest's serial console: journalctl -u vfagent-guest-cirros")
    text = vm.run("journalctl -a -o cat -u vfagent-guest-cirros").stdout
    plain = re.sub(r"\x1b\[[0-9;=?]*[A-Za-z]", "", text).replace("\r", "").splitlines()
    print("\n".join([line for line in plain if line.strip()][-12:]), flush=True)


def _title(text: str) -> None:
    print(f"\n{_RULE}\n{text}\n{_RULE}", flush=True)


def _print(vm: VM, command: str) -> None:
    print(vm.run(command, check=False, timeout=120).stdout, flush=True)


@contextmanager
def _timed(times: list[tuple[str, float]], what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    times.append((what, time.monotonic() - started))


if __name__ == "__main__":
    main()
