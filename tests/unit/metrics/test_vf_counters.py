# SPDX-License-Identifier: Apache-2.0
"""IFLA_VF_STATS as rtnl_fill_vfinfo() writes it."""

import errno
import struct

import pytest

from tests.host.netlink import NESTED, VfInfo, attribute, link_message
from vfagent.kernel.links import link_in
from vfagent.kernel.vf_counters import VfCounters, counters_in

STATS, NUM_VF = 8, 21


def info(index: int, *numbers: int) -> bytes:
    """With the padding attributes between, which the kernel puts in for 64-bit alignment."""
    kinds = (0, 1, 2, 3, 4, 5, 7, 8)
    values = (
        attribute(6, b"") + attribute(kind, struct.pack("=Q", number))
        for kind, number in zip(kinds, numbers, strict=False)
    )
    plain = VfInfo(index).pack()[4:]
    return attribute(1, plain + attribute(STATS | NESTED, b"".join(values)))


def counters_of(message: bytes) -> dict[int, VfCounters]:
    return counters_in(link_in(message))


def test_each_vf_s_counters_are_read() -> None:
    counters = counters_of(link_message(2, "eth0", info(0, 1, 2, 3, 4, 5, 6, 7, 8), info(1, *[0] * 8)))
    assert counters[0] == VfCounters(
        rx_packets=1, tx_packets=2, rx_bytes=3, tx_bytes=4, broadcast=5, multicast=6, rx_dropped=7, tx_dropped=8
    )
    assert counters[1] == VfCounters(*[0] * 8)


def test_a_64_bit_counter_is_not_truncated() -> None:
    assert counters_of(link_message(2, "eth0", info(0, 2**64 - 1)))[0].rx_packets == 2**64 - 1


def test_a_counter_missing_in_an_older_kernel_is_none() -> None:
    counters = counters_of(link_message(2, "eth0", info(0, 1, 2, 3, 4, 5, 6)))
    assert (counters[0].multicast, counters[0].rx_dropped) == (6, None)


def test_a_pf_without_vfs_or_without_counters_has_none() -> None:
    assert counters_of(link_message(2, "eth0")) == {}
    assert counters_of(link_message(2, "eth0", VfInfo(0).pack())) == {}


@pytest.mark.parametrize("cut", range(16, 400, 7))
def test_a_truncated_list_is_ignored(cut: int) -> None:
    whole = link_message(2, "eth0", info(0, *range(1, 9)), info(1, *range(1, 9)))
    counters = counters_of(whole[: 32 + cut])
    assert set(counters) in (set(), {0})
    assert all(vf == VfCounters(*range(1, 9)) for vf in counters.values())


def test_a_vf_that_the_driver_omits_gets_no_other_vfs_counters() -> None:
    counters = counters_of(link_message(2, "eth0", info(0, 1), info(2, 3)))
    assert {index: vf.rx_packets for index, vf in counters.items()} == {0: 1, 2: 3}


def longer(message: bytes, rest: bytes) -> bytes:
    return struct.pack("=I", len(message) + len(rest)) + message[4:] + rest


def test_a_list_longer_than_its_16_bit_length_is_refused() -> None:
    whole = link_message(2, "eth0", info(0, *range(1, 9)))
    rest = attribute(NUM_VF, struct.pack("=I", 340)) + attribute(0x7FF, bytes(0xFF00)) * 2
    with pytest.raises(OSError, match="Message too long") as caught:
        counters_of(longer(whole, rest))
    assert caught.value.errno == errno.EMSGSIZE


def test_a_long_message_with_a_short_list_is_read() -> None:
    whole = link_message(2, "eth0", info(0, 1))
    rest = attribute(NUM_VF, struct.pack("=I", 1)) + attribute(0x7FF, bytes(0xFF00)) * 2
    assert counters_of(longer(whole, rest))[0].rx_packets == 1


def test_a_netlink_error_is_an_oserror() -> None:
    header = struct.pack("=IHHII", 36, 2, 0, 1, 0)
    with pytest.raises(OSError) as caught:
        counters_of(header + struct.pack("=i", -errno.ENODEV) + bytes(16))
    assert caught.value.errno == errno.ENODEV
