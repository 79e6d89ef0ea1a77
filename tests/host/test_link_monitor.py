# SPDX-License-Identifier: Apache-2.0
"""rtnetlink's notifications, in a network namespace."""

import select
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.host.namespace import add_veth, ip
from vfagent.kernel.link_monitor import LinkMonitor

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def veth(kernel: None) -> int:
    return add_veth("pf0", "wire0")


@pytest.fixture
def monitor(veth: int) -> Iterator[LinkMonitor]:
    monitor = LinkMonitor()
    monitor.drain()
    yield monitor
    monitor.close()


def test_without_notifications_nothing_has_changed(monitor: LinkMonitor) -> None:
    assert monitor.drain() == (set(), False)
    assert not select.select([monitor], [], [], 0)[0]


def test_a_link_set_up_by_hand_is_notified(monitor: LinkMonitor, veth: int) -> None:
    ip("link", "set", "pf0", "up")
    assert select.select([monitor], [], [], 1)[0]
    assert monitor.drain() == ({veth}, False)


def test_an_address_is_notified(monitor: LinkMonitor, veth: int) -> None:
    ip("addr", "add", "192.0.2.1/24", "dev", "pf0")
    assert monitor.drain() == ({veth}, False)


def test_an_ipv6_address_is_notified(monitor: LinkMonitor, veth: int) -> None:
    ip("link", "set", "pf0", "addrgenmode", "none", "up")
    ip("link", "set", "wire0", "addrgenmode", "none", "up")
    while select.select([monitor], [], [], 0.1)[0]:
        monitor.drain()
    ip("addr", "add", "2001:db8::1/64", "dev", "pf0", "nodad")
    assert select.select([monitor], [], [], 5)[0]  # the kernel sends it from a work queue
    assert monitor.drain() == ({veth}, False)


def test_only_the_changed_link_is_notified(monitor: LinkMonitor) -> None:
    other = add_veth("pf1", "wire1")
    monitor.drain()
    ip("link", "set", "pf1", "mtu", "1400")
    assert monitor.drain() == ({other}, False)


def test_a_deleted_link_is_notified(monitor: LinkMonitor, veth: int) -> None:
    ip("link", "del", "pf0")
    changed, lost = monitor.drain()
    assert veth in changed
    assert not lost


def test_lost_notifications_are_reported_once_and_the_monitor_goes_on(monitor: LinkMonitor, veth: int) -> None:
    with socket.socket(fileno=socket.dup(monitor.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    for number in range(40):
        ip("link", "set", "pf0", "mtu", str(1300 + number))
    assert monitor.drain()[1] is True
    assert monitor.drain() == (set(), False)
    ip("link", "set", "pf0", "mtu", "1500")
    assert monitor.drain() == ({veth}, False)


def test_two_hundred_changes_between_two_reads_are_one(monitor: LinkMonitor, veth: int) -> None:
    commands = "".join(f"link set pf0 mtu {1300 + number % 2}\n" for number in range(200))
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    assert monitor.drain() == ({veth}, False)
