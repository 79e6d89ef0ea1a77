# SPDX-License-Identifier: Apache-2.0
"""vfagent's main job, to look at: a host boots and finds its VFs ready; a NIC is plugged in and gets its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.facts import vfs
from tests.lab.image import host
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.vm import VM

POLICY = Path(__file__).parents[2] / "config/examples/lab.toml"
_RULE = "─" * 78


def main() -> None:
    times: list[tuple[str, float]] = []
    with _timed(times, "lab images: built, or found in the cache"):
        host()
    _title("The policy")
    print(POLICY.read_text())
    with VM([Igb("igb0")], vfagent_tree(POLICY.read_text(), enabled=False)) as vm:
        _show_plan(vm, times)
        _show_boot(vm, times)
        _show_hotplug(vm, times)
    _title("How long each took")
    for what, seconds in times:
        print(f"  {seconds:6.1f} s  {what}")


def _show_plan(vm: VM, times: list[tuple[str, float]]) -> None:
    vm.wait_boot()
    _title("A host with one 82576, before: vfagent plan")
    _print(vm, "vfagent plan; true")
    vm.run("systemctl enable vfagent.service")


def _show_boot(vm: VM, times: list[tuple[str, float]]) -> None:
    with _timed(times, "reboot, until the host takes commands"):
        vm.reboot()
    vm.wait_boot()
    _title("The same host after its next boot: vfagent status")
    _print(vm, "vfagent status")
    _print(vm, "ip link show $(ls /sys/bus/pci/devices/0000:01:00.0/net)")
    shown = vm.run("systemctl show --value --property ActiveEnterTimestampMonotonic vfagent.service").stdout
    begun = vm.run("systemctl show --value --property InactiveExitTimestampMonotonic vfagent.service").stdout
    times.append(("of the boot: vfagent, from its start to READY", (int(shown) - int(begun)) / 1e6))


def _show_hotplug(vm: VM, times: list[tuple[str, float]]) -> None:
    _title("A second NIC is plugged in")
    with _timed(times, "from plugging a NIC in to its 4 VFs on vfio-pci with MAC and VLAN"):
        pf = vm.hotplug(Igb("igb1"))
        vm.wait_for(lambda: [vf.driver for vf in vfs(vm, pf) if vf.vlan == 10] == ["vfio-pci"] * 4, 60)
    vm.wait_for(f"vfagent status | grep -q '{pf}.*converged'", 30)
    _print(vm, "vfagent status")


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
