# SPDX-License-Identifier: Apache-2.0
"""Which loader boots through a VF, and its script or command line."""

from pathlib import Path

from tests.unit.guest.hosts import PF, policy_of
from vfagent.guests.spec.boot import ASSUMED, Boot, Loader, boot_of

IPXE = '[guest.ipxe]\naddress = "192.168.10.10/24"\nsanboot = "iscsi:192.168.10.1::::iqn.2016-01.com.example:cirros"\n'
KERNEL = '[guest.kernel]\nimage = "/k"\ncmdline = "root=/dev/sda"\n'
IGBVF, MLX5 = "8086:10ca", "15b3:1018"


def boot(folder: Path, hardware: str, *tables: str, firmware: str = "bios") -> Boot:
    text = PF.format(name="a", pci="*") + f'[[guest]]\nname = "x"\nvfs = ["a:0"]\nfirmware = "{firmware}"\n'
    return boot_of(policy_of(folder, text + "".join(tables)).guest[0], (hardware,), ASSUMED)


def test_ipxe_boots_through_vfs_it_has_a_driver_for(tmp_path: Path) -> None:
    result = boot(tmp_path, IGBVF, IPXE, KERNEL)
    assert (result.loader, result.problem) == (Loader.IMAGE, None)


def test_the_kernel_is_used_for_vfs_without_an_ipxe_driver(tmp_path: Path) -> None:
    assert boot(tmp_path, MLX5, IPXE, KERNEL).loader is Loader.KERNEL
    problem = boot(tmp_path, MLX5, IPXE).problem
    assert "has no driver for VFs 15b3:1018: set guest.kernel" in (problem or "")


def test_both_firmwares_boot_the_ipxe_image(tmp_path: Path) -> None:
    for firmware in ("bios", "uefi"):
        result = boot(tmp_path, IGBVF, IPXE, KERNEL, firmware=firmware)
        assert (result.loader, result.problem) == (Loader.IMAGE, None)


def test_the_users_own_script_needs_bios_or_a_rom(tmp_path: Path) -> None:
    own = '[guest.ipxe]\nscript = "/etc/own.ipxe"\n'
    assert boot(tmp_path, IGBVF, own, KERNEL, firmware="uefi").loader is Loader.KERNEL
    assert boot(tmp_path, IGBVF, own + 'loader = "rom"', firmware="uefi").problem is None


def test_undionly_is_refused_with_a_reason(tmp_path: Path) -> None:
    assert "a VF has none" in (boot(tmp_path, IGBVF, IPXE + 'loader = "undionly"').problem or "")


def test_the_rom_depends_on_the_vf_and_the_firmware(tmp_path: Path) -> None:
    roms = {name: boot(tmp_path, IGBVF, IPXE + 'loader = "rom"', firmware=name).rom for name in ("bios", "uefi")}
    assert roms["bios"]
    assert roms["uefi"]
    assert (roms["bios"].target, roms["uefi"].target) == ("bin/808610ca.rom", "bin-x86_64-efi/808610ca.efirom")
    assert "sanboot iscsi:192.168.10.1" in (roms["bios"].script or "")


def test_the_script_logs_in_by_chap_without_containing_the_secret(tmp_path: Path) -> None:
    chap = '[guest.chap]\nuser = "cirros"\nsecret = "/etc/vfagent/cirros.chap"\n'
    lines = (boot(tmp_path, IGBVF, IPXE, chap).script or "").splitlines()
    begin = lines.index("set username cirros")
    assert lines[begin + 1] == "set password ${smbios/11.4.0}"
    assert lines[begin + 2].startswith("sanboot ")


def test_the_script_sets_a_static_address_and_boots_the_target(tmp_path: Path) -> None:
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


def test_the_script_can_use_ipv6_and_dhcp(tmp_path: Path) -> None:
    six = (
        boot(
            tmp_path,
            IGBVF,
            IPXE.replace("192.168.10.10/24", "fd00::2/64").replace("192.168.10.1:", "[fd00::1]:")
            + 'gateway = "fd00::1"\n',
        ).script
        or ""
    ).splitlines()
    assert {"set net0/ip6 fd00::2", "set net0/len6 64", "set net0/gateway6 fd00::1"} <= set(six)
    dhcp = boot(tmp_path, IGBVF, '[guest.ipxe]\naddress = "dhcp"\n').script or ""
    assert "ifconf net0 || goto failed\nautoboot net0 || goto failed" in dhcp


def test_no_script_is_made_beside_the_users_own(tmp_path: Path) -> None:
    assert boot(tmp_path, IGBVF, '[guest.ipxe]\nscript = "/s"\n').script is None


def test_the_kernel_gets_disk_and_address_from_the_ipxe_table(tmp_path: Path) -> None:
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


def test_a_kernel_without_address_has_no_network(tmp_path: Path) -> None:
    assert boot(tmp_path, MLX5, KERNEL).cmdline == "root=/dev/sda"


def line(folder: Path, *tables: str, mac: str | None = None, vfs: int = 1) -> Boot:
    text = PF.format(name="a", pci="*") + f'[[guest]]\nname = "x"\nvfs = {[f"a:{n}" for n in range(vfs)]}\n'
    return boot_of(policy_of(folder, text + "".join(tables)).guest[0], (MLX5,) * vfs, ASSUMED, mac)


def test_of_several_vfs_the_first_alone_gets_the_address(tmp_path: Path) -> None:
    mac = "52:54:00:AA:BB:01"
    words = line(tmp_path, IPXE, KERNEL, mac=mac, vfs=2).cmdline.split()
    assert words[:2] == ["BOOTIF=01-52-54-00-aa-bb-01", "ip=192.168.10.10:::255.255.255.0:x::off"]
    assert "BOOTIF" not in line(tmp_path, IPXE, KERNEL, mac=mac).cmdline
    dhcp = line(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n', KERNEL, mac=mac, vfs=2).cmdline.split()
    assert dhcp[:2] == ["BOOTIF=01-52-54-00-aa-bb-01", "ip=dhcp"]


def test_the_address_of_several_vfs_needs_a_mac(tmp_path: Path) -> None:
    result = line(tmp_path, IPXE, KERNEL, mac="", vfs=2)
    assert result.problem == (
        "its address 192.168.10.10/24 is for the first of its VFs, which has no MAC: set mac in its [[pf.vf]]"
    )
    assert line(tmp_path, IPXE, KERNEL, mac="").problem is None
    assert line(tmp_path, '[guest.ipxe]\naddress = "dhcp"\n', KERNEL, mac="", vfs=2).cmdline.startswith("ip=dhcp")


def test_the_kernel_gets_the_name_server_and_the_initiator(tmp_path: Path) -> None:
    more = 'dns = "192.168.10.2"\ninitiator = "iqn.1993-08.org.debian:01:abc"\n'
    words = line(tmp_path, IPXE + more, KERNEL).cmdline.split()
    assert words[0] == "ip=192.168.10.10:::255.255.255.0:x::off:192.168.10.2"
    assert {"iscsi_initiator=iqn.1993-08.org.debian:01:abc", "rd.iscsi.initiator=iqn.1993-08.org.debian:01:abc"} < set(
        words
    )
    own = line(tmp_path, IPXE + more, KERNEL + 'initiator = "iqn.1993-08.org.debian:02"\ndns = "192.168.10.3"\n')
    assert own.cmdline.split()[0].endswith(":192.168.10.3")
    assert "iscsi_initiator=iqn.1993-08.org.debian:02" in own.cmdline


def test_ipxe_gets_the_name_server_and_the_initiator(tmp_path: Path) -> None:
    more = 'dns = "192.168.10.2"\ninitiator = "iqn.1993-08.org.debian:01:abc"\n'
    lines = (boot(tmp_path, IGBVF, IPXE + more).script or "").splitlines()
    assert {"set net0/dns 192.168.10.2", "set initiator-iqn iqn.1993-08.org.debian:01:abc"} < set(lines)


def test_dracut_gets_ipv6_and_every_portal(tmp_path: Path) -> None:
    root = "iscsi:[fd00::1]:::a:iqn.2016-01.x:a iscsi:[FD00::2]::3261:a:iqn.2016-01.x:a"
    kernel = f'[guest.kernel]\nimage = "/k"\nroot = "{root}"\naddress = "fd00::10/64"\ndns = "fd00::53"\n'
    words = line(tmp_path, kernel, 'gateway = "fd00::3"\ncmdline = "rd.neednet=1"\n').cmdline.split()
    assert words[0] == "ip=[fd00::10]::[fd00::3]:64:x::off:[fd00::53]"
    netroots = [word for word in words if word.startswith("netroot=")]
    assert netroots == [
        "netroot=iscsi:[fd00::1]::3260:10:iqn.2016-01.x:a",
        "netroot=iscsi:[FD00::2]::3261:10:iqn.2016-01.x:a",
    ]


def test_a_variable_of_ipxe_is_on_no_command_line(tmp_path: Path) -> None:
    booted = '[guest.ipxe]\naddress = "dhcp"\nsanboot = "iscsi:${next-server}::::iqn.2016-01.x:a"\n'
    root = 'root = "iscsi:192.168.10.1::::iqn.2016-01.x:a"\n'
    result = line(tmp_path, booted, KERNEL + root)
    assert "$" not in result.cmdline
    assert "iscsi_target_ip=192.168.10.1" in result.cmdline
