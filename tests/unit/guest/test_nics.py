# SPDX-License-Identifier: Apache-2.0
"""Virtio NICs of guests: what a policy may say, their MACs, and how a guest boots through them."""

from pathlib import Path

import pytest

from tests.unit.guest.hosts import PF, policy_of
from vfagent.errors import PolicyError, VfagentError
from vfagent.guests.spec.boot import Boot, Loader, boot_of
from vfagent.guests.spec.ipxe_image import Ability, IpxeImage
from vfagent.guests.spec.nics import nics_of, taps_of
from vfagent.guests.spec.placement import Placement
from vfagent.guests.state import boot_with
from vfagent.model.guest_unit import GuestVf
from vfagent.model.pci import PciAddress
from vfagent.policy.types import GuestRule

MACHINE = "0123456789abcdef0123456789abcdef"
GUEST = '[[guest]]\nname = "x"\n{head}[guest.ipxe]\naddress = "dhcp"\n'
NIC = '[[guest.nic]]\nbridge = "br0"\n'
VF = GuestVf(PciAddress("0000:01:00.0"), 0, PciAddress("0000:01:10.0"), 7, mac="02:00:00:00:00:01")
VFS = 'vfs = ["a:0"]\n'
OLD = {"bios": IpxeImage(frozenset({"1af4:1041"}), frozenset(Ability))}


def rule(folder: Path, *tables: str, head: str = VFS) -> GuestRule:
    return policy_of(folder, PF.format(name="a", pci="*") + GUEST.format(head=head) + "".join(tables)).guest[0]


def problem(folder: Path, *tables: str, head: str = VFS) -> str:
    with pytest.raises(PolicyError) as caught:
        rule(folder, *tables, head=head)
    [text] = caught.value.problems
    return text


def test_a_guest_needs_no_vf_where_it_has_a_nic(tmp_path: Path) -> None:
    assert rule(tmp_path, NIC, head="").nic[0].bridge == "br0"
    assert "or a [[guest.nic]]" in problem(tmp_path, head="")


@pytest.mark.parametrize(
    ("nic", "expected"),
    [
        (
            'standby_for = "a:1"\n',
            'nic[0].standby_for: found "a:1", allowed is one of the guest\'s VFs: "a:0"',
        ),
        ('standby_for = "a:0"\nmac = "52:54:00:00:00:01"\n', "found a MAC with standby_for"),
        ('standby_for = "a"\n' + NIC + 'standby_for = "a:0"\n', "a second time, allowed is one standby for a VF"),
        ('mac = "01:00:5e:00:00:01"\n', "allowed is"),
        ("vlan = 0\n", "allowed is 1 to 4094"),
        (NIC + NIC, "allowed are at most 2"),
    ],
)
def test_what_a_nic_cannot_be_is_refused(tmp_path: Path, nic: str, expected: str) -> None:
    assert expected in problem(tmp_path, NIC + nic)


def test_a_vlan_needs_a_bridge_that_filters(tmp_path: Path) -> None:
    bridge = '[[bridge]]\nname = "br0"\n'
    assert "does not filter by VLAN" in problem(tmp_path, NIC, "vlan = 10\n", bridge)
    assert rule(tmp_path, NIC, "vlan = 10\n", bridge, "vlan_filtering = true\n").nic[0].vlan == 10
    assert rule(tmp_path, NIC, "vlan = 10\n").nic[0].vlan == 10  # a foreign bridge


def test_guests_do_not_share_a_mac(tmp_path: Path) -> None:
    mac = 'mac = "52:54:00:00:00:01"\n'
    other = GUEST.format(head='vfs = ["a:1"]\n').replace('"x"', '"y"')
    assert "found MAC" in problem(tmp_path, NIC, mac, other, NIC, mac)


def test_one_fixed_mac_is_refused_for_several_guests(tmp_path: Path) -> None:
    text = PF.format(name="a", pci="*") + GUEST.format(head='each = "a:0-1"\n').replace('"x"', '"x-{index}"')
    with pytest.raises(PolicyError, match="found one MAC for several guests"):
        policy_of(tmp_path, text + NIC + 'mac = "52:54:00:00:00:01"\n')
    guests = policy_of(tmp_path, text + NIC + 'standby_for = "a"\n').guest
    assert guests[0].nic[0].standby_for == "a"


def test_stable_macs_differ_by_host_guest_and_nic(tmp_path: Path) -> None:
    two = rule(tmp_path, NIC, NIC)
    macs = [nic.mac for machine in (MACHINE, "f" * 32) for nic in nics_of(two, (VF,), machine)]
    assert len(set(macs)) == 4
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs)
    assert nics_of(two, (VF,), MACHINE) == nics_of(two, (VF,), MACHINE)


def test_the_names_of_taps_fit_and_differ(tmp_path: Path) -> None:
    taps = taps_of(rule(tmp_path, NIC, NIC), MACHINE)
    assert len({tap.name for tap in taps}) == 2
    assert all(len(tap.name) <= 15 and tap.mac.startswith("fe:") for tap in taps)


def test_a_standby_has_the_mac_of_its_vf(tmp_path: Path) -> None:
    for mac in ("", 'mac = "stable"\n'):
        standby = rule(tmp_path, NIC, mac, 'standby_for = "a:0"\n')
        [nic] = nics_of(standby, (VF,), MACHINE)
        assert (nic.mac, nic.standby_for) == (VF.mac, 0)
    with pytest.raises(VfagentError, match="has no MAC that its standby NIC can share"):
        nics_of(standby, (GuestVf(VF.pf, 0, VF.address, 7),), MACHINE)


def booted(folder: Path, *tables: str, head: str = VFS) -> Boot:
    guest = rule(folder, *tables, head=head)
    return boot_of(guest, ("8086:154c",) * len(guest.vfs), OLD)


def test_ipxe_boots_through_the_nic_where_it_cannot_through_the_vf(tmp_path: Path) -> None:
    assert "has no driver for VFs 8086:154c" in (booted(tmp_path).problem or "")
    for tables in ((NIC,), (NIC, 'standby_for = "a:0"\n')):
        assert booted(tmp_path, *tables) == Boot(Loader.IMAGE, booted(tmp_path, NIC).script)
    assert booted(tmp_path, NIC, head="").problem is None


def test_a_nic_beside_a_vf_that_ipxe_cannot_drive_leaves_the_boot_to_the_kernel(tmp_path: Path) -> None:
    kernel = '[guest.kernel]\nimage = "/k"\n'
    assert booted(tmp_path, kernel, NIC).loader is Loader.KERNEL
    assert booted(tmp_path, kernel, NIC, 'standby_for = "a:0"\n').loader is Loader.IMAGE
    assert booted(tmp_path, kernel, NIC, head="").loader is Loader.IMAGE


def test_without_a_vf_the_first_nic_has_the_address(tmp_path: Path) -> None:
    kernel = '[guest.kernel]\nimage = "/k"\naddress = "192.168.10.10/24"\n'
    text = PF.format(name="a", pci="*") + '[[guest]]\nname = "x"\n' + kernel + NIC + 'mac = "52:54:00:00:00:01"\n' + NIC
    boot = boot_with(Placement(policy_of(tmp_path, text).guest[0]), OLD, MACHINE)
    assert boot is not None
    assert boot.cmdline.split()[0] == "BOOTIF=01-52-54-00-00-00-01"


def test_a_vf_with_a_standby_runs_no_rom(tmp_path: Path) -> None:
    text = PF.format(name="a", pci="*") + GUEST.format(head=VFS) + 'loader = "rom"\n' + NIC + 'standby_for = "a:0"\n'
    with pytest.raises(PolicyError, match="for a VF with a standby"):
        policy_of(tmp_path, text)
