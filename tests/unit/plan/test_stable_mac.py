# SPDX-License-Identifier: Apache-2.0
"""Stable MACs: the same each time, valid, and different for any two VFs."""

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
def test_a_stable_mac_is_a_locally_administered_unicast_address(seed: int, index: int) -> None:
    octets = stable_mac(seed, index).split(":")
    assert [len(octet) for octet in octets] == [2] * 6
    assert int(octets[0], 16) & 0b11 == 0b10


@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_vfs_of_one_pf_have_different_stable_macs(seed: int) -> None:
    assert len({stable_mac(seed, index) for index in range(MOST_VFS)}) == MOST_VFS


def test_all_vfs_of_a_rack_have_different_stable_macs() -> None:
    hosts, pfs = range(40), [pf(f"0000:{bus:02x}:00.{port}") for bus in range(8) for port in range(4)]
    seeds = [mac_seed(f"{host:032x}", pf) for host in hosts for pf in pfs]
    macs = {stable_mac(seed, index) for seed in seeds for index in range(0, MOST_VFS, 15)}
    assert len(macs) == len(seeds) * len(range(0, MOST_VFS, 15))
    # The MACs of one PF are consecutive, so ranges do not overlap if their starts are far enough apart.
    starts = sorted(seed % 2**46 for seed in seeds)
    assert min(after - before for before, after in pairwise(starts)) >= MOST_VFS


def test_a_stable_mac_follows_the_card_to_another_slot() -> None:
    mac = "00:1b:21:aa:bb:cc"
    assert mac_seed("m", pf("0000:3b:00.0", mac)) == mac_seed("m", pf("0000:5e:00.0", mac))


def test_a_stable_mac_stays_with_the_slot_of_a_card_without_permanent_address() -> None:
    assert mac_seed("m", pf("0000:3b:00.0")) != mac_seed("m", pf("0000:5e:00.0"))


def test_a_stable_mac_is_the_same_as_in_earlier_versions() -> None:
    mac = stable_mac(mac_seed("0123456789abcdef0123456789abcdef", pf("0000:3b:00.0", "00:1b:21:aa:bb:cc")), 3)
    assert mac == "de:a4:f6:df:03:f8"
