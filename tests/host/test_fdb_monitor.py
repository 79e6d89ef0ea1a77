# SPDX-License-Identifier: Apache-2.0
"""Hearing of what bridges learn, on real bridges."""

import select

import pytest

from tests.host.namespace import add_veth, ip, run
from vfagent.kernel.fdb_monitor import FdbMonitor


def heard(watch: FdbMonitor) -> bool:
    found = bool(select.select([watch.fileno()], [], [], 1.0)[0])
    watch.drain()
    return found


@pytest.mark.usefixtures("kernel")
def test_a_bridge_s_entry_is_heard_of_when_it_comes_and_when_it_goes() -> None:
    ip("link", "add", "br0", "type", "bridge")
    add_veth("port0", "guest0", up=True)
    ip("link", "set", "port0", "master", "br0")
    watch = FdbMonitor()
    run("bridge", "fdb", "add", "52:54:00:00:00:01", "dev", "port0", "master", "static")
    assert heard(watch)
    run("bridge", "fdb", "del", "52:54:00:00:00:01", "dev", "port0", "master")
    assert heard(watch)
    watch.close()


@pytest.mark.usefixtures("kernel")
def test_arp_entries_wake_nobody() -> None:
    add_veth("port0", "guest0", up=True)
    watch = FdbMonitor()
    ip("neigh", "add", "192.0.2.9", "lladdr", "52:54:00:00:00:01", "dev", "port0")
    ip("neigh", "del", "192.0.2.9", "dev", "port0")
    assert not heard(watch)
    watch.close()
