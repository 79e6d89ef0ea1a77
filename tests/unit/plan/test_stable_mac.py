# SPDX-License-Identifier: Apache-2.0
"""Stable MACs: the same each time, fit for use, and of no two VFs alike."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from vfagent.model.inventory import Netdev, Pf
from vfagent.model.pci import PciAddress
from vfagent.policy.match import mac_seed, stable_mac

MOST_VFS = 256


def pf(address: str, permanent_mac: str | None = None) -> Pf:
    netdev = Netdev("eth0", 2, "02:00:00:00:00:01", permanent_mac, 1500, admin_up=True)
    return Pf(PciAddress(address), "igb", "0x8086", "0x10c9", "0x020000", MOST_VFS, autoprobe=False, netdev=netdev)


@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, MOST_VFS - 1))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_it_is_a_locally_administered_unicast_address(seed: int, index: int) -> None:
    octets = stable_mac(seed, index).split(":")
    assert [len(octet) for octet in octets] == [2] * 6
    assert int(octets[0], 16) & 0b11 == 0b10


@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_vfs_of_one_pf_never_share_one(seed: int) -> None:
    assert len({stable_mac(seed, index) for index in range(MOST_VFS)}) == MOST_VFS


def test_no_two_vfs_of_a_rack_share_one() -> None:
    hosts, pfs = range(40), [pf(f"0000:{bus:02x}:00.{port}") for bus in range(8) for port in range(4)]
    seeds = [mac_seed(f"{host:032x}", one) for host in hosts for one in pfs]
    macs = {stable_mac(seed, index) for seed in seeds for index in range(0, MOST_VFS, 15)}
    assert len(macs) == len(seeds) * len(range(0, MOST_VFS, 15))
    # Each PF's addresses follow one another: what lies between them is free if its ends are.
    starts = sorted(seed % 2**46 for seed in seeds)
    assert min(after - before for before, after in pairwise(starts)) >= MOST_VFS


def test_it_stays_with_a_card_that_moves_to_another_slot() -> None:
    mac = "00:1b:21:aa:bb:cc"
    assert mac_seed("m", pf("0000:3b:00.0", mac)) == mac_seed("m", pf("0000:5e:00.0", mac))


def test_it_stays_with_the_slot_where_the_card_tells_no_permanent_address() -> None:
    assert mac_seed("m", pf("0000:3b:00.0")) != mac_seed("m", pf("0000:5e:00.0"))


def test_it_is_what_it_was_in_earlier_versions() -> None:
    found = stable_mac(mac_seed("0123456789abcdef0123456789abcdef", pf("0000:3b:00.0", "00:1b:21:aa:bb:cc")), 3)
    assert found == "de:a4:f6:df:03:f8"
