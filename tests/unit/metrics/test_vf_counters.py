# SPDX-License-Identifier: Apache-2.0
"""IFLA_VF_STATS as rtnl_fill_vfinfo() writes it."""

import errno
import struct

import pytest

from tests.host.netlink import NESTED, VfInfo, attribute, link_message
from vfagent.kernel.getlink import link_in
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
    found = counters_of(link_message(2, "eth0", info(0, 1, 2, 3, 4, 5, 6, 7, 8), info(1, *[0] * 8)))
    assert found[0] == VfCounters(
        rx_packets=1, tx_packets=2, rx_bytes=3, tx_bytes=4, broadcast=5, multicast=6, rx_dropped=7, tx_dropped=8
    )
    assert found[1] == VfCounters(*[0] * 8)


def test_a_number_of_64_bits_is_whole() -> None:
    assert counters_of(link_message(2, "eth0", info(0, 2**64 - 1)))[0].rx_packets == 2**64 - 1


def test_a_counter_that_an_older_kernel_lacks_is_not_zero() -> None:
    found = counters_of(link_message(2, "eth0", info(0, 1, 2, 3, 4, 5, 6)))
    assert (found[0].multicast, found[0].rx_dropped) == (6, None)


def test_a_pf_without_vfs_or_without_counters_has_none() -> None:
    assert counters_of(link_message(2, "eth0")) == {}
    assert counters_of(link_message(2, "eth0", VfInfo(0).pack())) == {}


@pytest.mark.parametrize("cut", range(16, 400, 7))
def test_a_list_that_is_cut_is_not_believed(cut: int) -> None:
    whole = link_message(2, "eth0", info(0, *range(1, 9)), info(1, *range(1, 9)))
    found = counters_of(whole[: 32 + cut])
    assert set(found) in (set(), {0})
    assert all(one == VfCounters(*range(1, 9)) for one in found.values())


def test_a_vf_that_the_driver_does_not_tell_of_takes_no_other_s_counters() -> None:
    found = counters_of(link_message(2, "eth0", info(0, 1), info(2, 3)))
    assert {index: one.rx_packets for index, one in found.items()} == {0: 1, 2: 3}


def longer(message: bytes, rest: bytes) -> bytes:
    return struct.pack("=I", len(message) + len(rest)) + message[4:] + rest


def test_a_message_whose_list_has_wrapped_its_length_is_refused() -> None:
    whole = link_message(2, "eth0", info(0, *range(1, 9)))
    rest = attribute(NUM_VF, struct.pack("=I", 340)) + attribute(0x7FF, bytes(0xFF00)) * 2
    with pytest.raises(OSError, match="Message too long") as caught:
        counters_of(longer(whole, rest))
    assert caught.value.errno == errno.EMSGSIZE


def test_a_message_that_is_long_for_other_reasons_is_read() -> None:
    whole = link_message(2, "eth0", info(0, 1))
    rest = attribute(NUM_VF, struct.pack("=I", 1)) + attribute(0x7FF, bytes(0xFF00)) * 2
    assert counters_of(longer(whole, rest))[0].rx_packets == 1


def test_the_kernel_s_error_is_an_oserror() -> None:
    header = struct.pack("=IHHII", 36, 2, 0, 1, 0)
    with pytest.raises(OSError) as caught:
        counters_of(header + struct.pack("=i", -errno.ENODEV) + bytes(16))
    assert caught.value.errno == errno.ENODEV
