# SPDX-License-Identifier: Apache-2.0
"""The kernel's link notifications, in a network of our own."""

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
def watch(veth: int) -> Iterator[LinkMonitor]:
    watch = LinkMonitor()
    watch.drain()
    yield watch
    watch.close()


def test_silence_is_no_change(watch: LinkMonitor) -> None:
    assert watch.drain() == (set(), False)
    assert not select.select([watch], [], [], 0)[0]


def test_a_link_set_up_by_hand_is_heard_of(watch: LinkMonitor, veth: int) -> None:
    ip("link", "set", "pf0", "up")
    assert select.select([watch], [], [], 1)[0]
    assert watch.drain() == ({veth}, False)


def test_an_address_is_heard_of(watch: LinkMonitor, veth: int) -> None:
    ip("addr", "add", "192.0.2.1/24", "dev", "pf0")
    assert watch.drain() == ({veth}, False)


def test_an_ipv6_address_is_heard_of(watch: LinkMonitor, veth: int) -> None:
    ip("link", "set", "pf0", "addrgenmode", "none", "up")
    ip("link", "set", "wire0", "addrgenmode", "none", "up")
    while select.select([watch], [], [], 0.1)[0]:
        watch.drain()
    ip("addr", "add", "2001:db8::1/64", "dev", "pf0", "nodad")
    assert select.select([watch], [], [], 5)[0]  # the kernel tells by a work queue of its own
    assert watch.drain() == ({veth}, False)


def test_only_the_link_that_changed_is_named(watch: LinkMonitor) -> None:
    other = add_veth("pf1", "wire1")
    watch.drain()
    ip("link", "set", "pf1", "mtu", "1400")
    assert watch.drain() == ({other}, False)


def test_a_link_that_goes_is_heard_of(watch: LinkMonitor, veth: int) -> None:
    ip("link", "del", "pf0")
    changed, lost = watch.drain()
    assert veth in changed
    assert not lost


def test_lost_notifications_are_told_once_and_the_watch_goes_on(watch: LinkMonitor, veth: int) -> None:
    with socket.socket(fileno=socket.dup(watch.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    for number in range(40):
        ip("link", "set", "pf0", "mtu", str(1300 + number))
    assert watch.drain()[1] is True
    assert watch.drain() == (set(), False)
    ip("link", "set", "pf0", "mtu", "1500")
    assert watch.drain() == ({veth}, False)


def test_two_hundred_changes_between_two_looks_are_one(watch: LinkMonitor, veth: int) -> None:
    commands = "".join(f"link set pf0 mtu {1300 + number % 2}\n" for number in range(200))
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    assert watch.drain() == ({veth}, False)
