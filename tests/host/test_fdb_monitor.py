# SPDX-License-Identifier: Apache-2.0
"""Notifications of the FDB of real bridges and devices."""

import select

import pytest

from tests.host.namespace import add_veth, ip, link, run
from vfagent.kernel.fdb_monitor import FdbChange, FdbMonitor
from vfagent.kernel.host_network import KernelNetwork

MAC = "52:54:00:00:00:01"


def notified(monitor: FdbMonitor) -> set[FdbChange]:
    select.select([monitor.fileno()], [], [], 1.0)
    changes, lost = monitor.drain()
    assert not lost
    return changes


@pytest.mark.usefixtures("kernel")
def test_a_new_and_a_deleted_fdb_entry_are_notified_with_port_and_bridge() -> None:
    ip("link", "add", "br0", "type", "bridge")
    port = add_veth("port0", "guest0", up=True)
    ip("link", "set", "port0", "master", "br0")
    monitor, change = FdbMonitor(), FdbChange(port, int(link("br0")["ifindex"]), MAC)
    run("bridge", "fdb", "add", MAC, "dev", "port0", "master", "static")
    assert notified(monitor) == {change}
    run("bridge", "fdb", "del", MAC, "dev", "port0", "master")
    assert notified(monitor) == {change}
    monitor.close()


@pytest.mark.usefixtures("kernel")
def test_of_a_devices_own_entries_only_those_that_went_are_notified() -> None:
    """Those that come are vfagent's own."""
    port, monitor = add_veth("port0", "guest0", up=True), FdbMonitor()
    KernelNetwork().add_fdb(port, MAC)
    assert notified(monitor) == set()
    KernelNetwork().remove_fdb(port, MAC)
    assert notified(monitor) == {FdbChange(port, None, MAC)}
    monitor.close()


@pytest.mark.usefixtures("kernel")
def test_arp_entries_are_filtered_out() -> None:
    add_veth("port0", "guest0", up=True)
    monitor = FdbMonitor()
    ip("neigh", "add", "192.0.2.9", "lladdr", MAC, "dev", "port0")
    ip("neigh", "del", "192.0.2.9", "dev", "port0")
    assert not select.select([monitor.fileno()], [], [], 1.0)[0]
    monitor.close()
