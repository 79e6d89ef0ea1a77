# SPDX-License-Identifier: Apache-2.0
"""Which MACs of bridges' ports go into a PF's FDB: what guests send from is not to be trusted."""

import pytest

from vfagent.plan.local_macs import MOST_PER_PORT, BridgeEntry, LocalMacs, choose

GUEST, OTHER, TARGET = "52:54:00:00:00:01", "52:54:00:00:00:02", "02:00:00:00:00:03"
NONE = frozenset[str]()


def guest_port(mac: str, port: str = "tap0", *, static: bool = False) -> BridgeEntry:
    return BridgeEntry("vmbr0", port, mac, local=True, static=static)


def flood(port: str, count: int = 3000) -> list[BridgeEntry]:
    return [guest_port(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", port) for number in range(count)]


def chosen(macs: LocalMacs) -> list[str]:
    return [mac for _, mac in macs.chosen]


def test_what_local_ports_brought_is_chosen_and_what_an_uplink_brought_is_not() -> None:
    uplink = BridgeEntry("vmbr0", "eno1", OTHER, local=False)
    assert choose([guest_port(GUEST), uplink], NONE, NONE) == LocalMacs((("vmbr0", GUEST),))


def test_a_guest_that_uses_a_mac_of_the_wire_does_not_get_it() -> None:
    macs = choose([guest_port(GUEST), guest_port(TARGET)], frozenset({TARGET}), NONE)
    assert macs == LocalMacs((("vmbr0", GUEST),), on_the_wire=(("tap0", TARGET),))


def test_a_mac_that_is_in_the_fdb_already_is_not_kept_once_it_is_on_the_wire() -> None:
    assert not chosen(choose([guest_port(TARGET)], frozenset({TARGET}), frozenset({TARGET})))


@pytest.mark.parametrize("bridge", ["vmbr0", "vmbr20"])
def test_a_mac_that_an_uplink_brought_in_another_vlan_or_bridge_is_on_the_wire(bridge: str) -> None:
    macs = choose([guest_port(TARGET), BridgeEntry(bridge, "eno1.20", TARGET, local=False)], NONE, NONE)
    assert macs == LocalMacs(on_the_wire=(("tap0", TARGET),))


def test_of_a_port_that_uses_many_macs_of_the_wire_one_is_noted() -> None:
    entries = flood("tap0")
    assert len(choose(entries, frozenset(entry.mac for entry in entries), NONE).on_the_wire) == 1


def test_a_flood_of_macs_gets_no_more_than_one_port_may_have() -> None:
    macs = choose([*flood("tap0"), guest_port(GUEST, "tap1")], NONE, NONE)
    assert len(macs.chosen) == MOST_PER_PORT + 1
    assert GUEST in chosen(macs)
    assert macs.crowded == ("tap0",)


def test_a_flood_does_not_replace_what_the_fdb_has() -> None:
    """Else each new MAC would be a step, and the guest's own MAC would come and go."""
    macs = choose([*flood("tap0"), guest_port(GUEST)], NONE, present=frozenset({GUEST}))
    assert chosen(macs)[0] == GUEST
    assert len(macs.chosen) == MOST_PER_PORT


def test_each_port_gets_its_first_mac_before_one_gets_its_second() -> None:
    macs = choose([*flood("tap0", 3), guest_port(GUEST, "tap1")], NONE, NONE)
    assert set(chosen(macs)[:2]) == {"02:00:00:00:00:00", GUEST}


def test_static_entries_come_first_and_are_not_counted() -> None:
    """libvirt's macTableManager and administrators make them; no guest can."""
    static = [guest_port(f"52:54:00:00:01:{number:02x}", static=True) for number in range(20)]
    macs = choose([*flood("tap0"), *static], NONE, NONE)
    assert chosen(macs)[:20] == [entry.mac for entry in static]
    assert len(macs.chosen) == 20 + MOST_PER_PORT
