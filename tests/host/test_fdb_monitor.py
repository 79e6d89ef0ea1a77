# SPDX-License-Identifier: Apache-2.0
"""Notifications of the FDB of real bridges."""

import select

import pytest

from tests.host.namespace import add_veth, ip, run
from vfagent.kernel.fdb_monitor import FdbMonitor


def notified(monitor: FdbMonitor) -> bool:
    readable = bool(select.select([monitor.fileno()], [], [], 1.0)[0])
    monitor.drain()
    return readable


@pytest.mark.usefixtures("kernel")
def test_a_new_and_a_deleted_fdb_entry_are_notified() -> None:
    ip("link", "add", "br0", "type", "bridge")
    add_veth("port0", "guest0", up=True)
    ip("link", "set", "port0", "master", "br0")
    monitor = FdbMonitor()
    run("bridge", "fdb", "add", "52:54:00:00:00:01", "dev", "port0", "master", "static")
    assert notified(monitor)
    run("bridge", "fdb", "del", "52:54:00:00:00:01", "dev", "port0", "master")
    assert notified(monitor)
    monitor.close()


@pytest.mark.usefixtures("kernel")
def test_arp_entries_are_filtered_out() -> None:
    add_veth("port0", "guest0", up=True)
    monitor = FdbMonitor()
    ip("neigh", "add", "192.0.2.9", "lladdr", "52:54:00:00:00:01", "dev", "port0")
    ip("neigh", "del", "192.0.2.9", "dev", "port0")
    assert not notified(monitor)
    monitor.close()
