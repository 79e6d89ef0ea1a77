# SPDX-License-Identifier: Apache-2.0
"""The loader that serves a VF, and what it is given."""

from pathlib import Path

import pytest

from tests.unit.guest.hosts import PF, policy_of
from vfagent.guests.spec.boot import Boot, IscsiUrl, Loader, boot_of, iscsi_url

IPXE = '[guest.ipxe]\naddress = "192.168.10.10/24"\nsanboot = "iscsi:192.168.10.1::::iqn.2016-01.com.example:cirros"\n'
KERNEL = '[guest.kernel]\nimage = "/k"\ncmdline = "root=/dev/sda"\n'
IGBVF, MLX5 = "8086:10ca", "15b3:1018"


def boot(folder: Path, hardware: str, *tables: str, firmware: str = "bios") -> Boot:
    text = PF.format(name="a", pci="*") + f'[[guest]]\nname = "x"\nvfs = ["a:0"]\nfirmware = "{firmware}"\n'
    return boot_of(policy_of(folder, text + "".join(tables)).guest[0], (hardware,))


def test_ipxe_drives_what_it_has_a_driver_for(tmp_path: Path) -> None:
    found = boot(tmp_path, IGBVF, IPXE, KERNEL)
    assert (found.loader, found.problem) == (Loader.IMAGE, None)


def test_the_kernel_serves_the_vfs_that_ipxe_cannot_drive(tmp_path: Path) -> None:
    assert boot(tmp_path, MLX5, IPXE, KERNEL).loader is Loader.KERNEL
    problem = boot(tmp_path, MLX5, IPXE).problem
    assert problem == "iPXE has no driver for VFs 15b3:1018: give it a guest.kernel"


def test_both_firmwares_boot_by_the_image(tmp_path: Path) -> None:
    for firmware in ("bios", "uefi"):
        found = boot(tmp_path, IGBVF, IPXE, KERNEL, firmware=firmware)
        assert (found.loader, found.problem) == (Loader.IMAGE, None)


def test_a_script_of_the_users_own_needs_bios_or_a_rom(tmp_path: Path) -> None:
    own = '[guest.ipxe]\nscript = "/etc/own.ipxe"\n'
    assert "under BIOS only" in (boot(tmp_path, IGBVF, own, firmware="uefi").problem or "")
    assert boot(tmp_path, IGBVF, own + 'loader = "rom"', firmware="uefi").problem is None


def test_undionly_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "a VF has none" in (boot(tmp_path, IGBVF, IPXE + 'loader = "undionly"').problem or "")


def test_a_rom_is_made_for_the_vf_and_the_firmware(tmp_path: Path) -> None:
    found = {one: boot(tmp_path, IGBVF, IPXE + 'loader = "rom"', firmware=one).rom for one in ("bios", "uefi")}
    assert found["bios"]
    assert found["uefi"]
    assert (found["bios"].target, found["uefi"].target) == ("bin/808610ca.rom", "bin-x86_64-efi/808610ca.efirom")
    assert "sanboot iscsi:192.168.10.1" in (found["bios"].script or "")


def test_a_target_with_chap_is_logged_in_to_and_the_script_holds_no_secret(tmp_path: Path) -> None:
    chap = '[guest.chap]\nuser = "cirros"\nsecret = "/etc/vfagent/cirros.chap"\n'
    lines = (boot(tmp_path, IGBVF, IPXE, chap).script or "").splitlines()
    begin = lines.index("set username cirros")
    assert lines[begin + 1] == "set password ${smbios/11.4.0}"
    assert lines[begin + 2].startswith("sanboot ")


def test_the_script_is_the_seeds(tmp_path: Path) -> None:
    lines = (boot(tmp_path, IGBVF, IPXE + 'gateway = "192.168.10.1"').script or "").splitlines()
    assert lines[0] == "#!ipxe"
    begin = lines.index("ifopen net0 || goto failed")
    assert lines[begin + 1 : begin + 5] == [
        "set net0/ip 192.168.10.10",
        "set net0/netmask 255.255.255.0",
        "set net0/gateway 192.168.10.1",
        "sanboot iscsi:192.168.10.1::::iqn.2016-01.com.example:cirros || goto failed",
    ]
    assert any(line.startswith("echo vfagent: guest x: cannot boot iscsi:192.168.10.1") for line in lines)


def test_the_script_speaks_ipv6_and_dhcp(tmp_path: Path) -> None:
    six = (
        boot(tmp_path, IGBVF, IPXE.replace("192.168.10.10/24", "fd00::2/64") + 'gateway = "fd00::1"\n').script or ""
    ).splitlines()
    assert {"set net0/ip6 fd00::2", "set net0/len6 64", "set net0/gateway6 fd00::1"} <= set(six)
    dhcp = boot(tmp_path, IGBVF, '[guest.ipxe]\naddress = "dhcp"\n').script or ""
    assert "ifconf net0 || goto failed\nautoboot net0 || goto failed" in dhcp


def test_a_script_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    assert boot(tmp_path, IGBVF, '[guest.ipxe]\nscript = "/s"\n').script is None


def test_the_kernel_gets_disk_and_address_from_ipxes_table(tmp_path: Path) -> None:
    words = boot(tmp_path, MLX5, IPXE + 'gateway = "192.168.10.1"\n', KERNEL).cmdline.split()
    assert words == [
        "ip=192.168.10.10::192.168.10.1:255.255.255.0:x::off",
        "iscsi_initiator=iqn.2010-04.org.ipxe:x",
        "iscsi_target_name=iqn.2016-01.com.example:cirros",
        "iscsi_target_ip=192.168.10.1",
        "iscsi_target_port=3260",
        "netroot=iscsi:192.168.10.1::3260:0:iqn.2016-01.com.example:cirros",
        "rd.iscsi.initiator=iqn.2010-04.org.ipxe:x",
        "root=/dev/sda",
    ]


def test_a_kernel_alone_may_have_no_network(tmp_path: Path) -> None:
    assert boot(tmp_path, MLX5, KERNEL).cmdline == "root=/dev/sda"


def test_a_root_that_is_no_disk_is_a_problem(tmp_path: Path) -> None:
    found = boot(tmp_path, MLX5, KERNEL + 'root = "iscsi:192.168.10.1"\naddress = "dhcp"\n')
    assert found.problem == "iscsi:192.168.10.1 names no server and target; it is iscsi:SERVER::::TARGET"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("iscsi:10.0.0.1::::iqn.2016-01.a:b:c", IscsiUrl("10.0.0.1", 3260, "0", "iqn.2016-01.a:b:c")),
        ("iscsi:10.0.0.1:6:3261:1:iqn.a", IscsiUrl("10.0.0.1", 3261, "1", "iqn.a")),
        ("iscsi:[fd00::1]::::iqn.a", IscsiUrl("fd00::1", 3260, "0", "iqn.a")),
    ],
)
def test_an_iscsi_url_is_read(text: str, url: IscsiUrl) -> None:
    assert iscsi_url(text) == url
