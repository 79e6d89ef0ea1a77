# SPDX-License-Identifier: Apache-2.0
"""One disk, one writer: local disks and iSCSI disks, however they are spelt."""

import pytest

from tests.unit.policy.conftest import Problems, Warned
from tests.unit.policy.test_guest_checks import DHCP, PF, guest, key_problems
from vfagent.policy.disk_uses import local_disk
from vfagent.policy.iscsi import IscsiUrl, differs_by_guest, iscsi_url

DISK = "iscsi:192.168.10.1::::iqn.2016-01.com.example:disk"
ONCE = (
    "allowed is once, or shared = true at both, for guests whose file system expects that: first used at policy.toml:"
)


def boots(url: str, *more: str) -> str:
    return "\n".join([f'ipxe.address = "dhcp"\nipxe.sanboot = "{url}"', *more])


def roots(url: str, *more: str) -> str:
    return "\n".join([f'kernel.image = "/k"\nkernel.address = "dhcp"\nkernel.root = "{url}"', *more])


def disk(path: str, more: str = "") -> str:
    return f'disk = [{{ path = "{path}"{more} }}]'


def pair(problems: Problems, first: str, second: str) -> list[str]:
    return key_problems(
        problems, guest('vfs = ["storage:0"]', first, name="a"), guest('vfs = ["storage:1"]', second, name="b")
    )


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        (boots(DISK), boots(DISK), "ipxe.sanboot"),
        (boots(DISK), roots(DISK), "kernel.root"),
        (boots(DISK), boots(DISK.replace("::::", "::3260:0:")), "ipxe.sanboot"),
        (boots(DISK), boots(DISK.replace("::::", ":6::0000-0000-0000-0000:")), "ipxe.sanboot"),
        (boots(DISK), boots(DISK.replace("disk", "DISK")), "ipxe.sanboot"),
        (boots("iscsi:San1.example.com.::::iqn.a"), boots("iscsi:san1.example.com::::iqn.a"), "ipxe.sanboot"),
        (boots("iscsi:[FD00:0::1]:::1:iqn.a"), boots("iscsi:[fd00::0001]:::1-0:iqn.a"), "ipxe.sanboot"),
        (boots("iscsi:[::ffff:10.0.0.1]::::iqn.a"), boots("iscsi:10.0.0.1::::iqn.a"), "ipxe.sanboot"),
        (boots("iscsi:10.0.0.1::::iqn.a iscsi:10.0.0.2::::iqn.a"), boots("iscsi:10.0.0.2::::iqn.a"), "ipxe.sanboot"),
        (boots("iscsi:${next-server}::::iqn.a"), boots("iscsi:${next-server}::::iqn.a"), "ipxe.sanboot"),
        (boots(DISK), disk(f"/dev/disk/by-path/ip-192.168.10.1:3260-iscsi-{DISK[22:]}-lun-0"), "disk[0].path"),
        (boots(DISK, "ipxe.shared = true"), boots(DISK), "ipxe.sanboot"),
        (disk("/srv/a"), disk("/srv//./a"), "disk[0].path"),
        (disk("/srv/a"), disk("/srv/a", ", readonly = true"), "disk[0].path"),
        (disk("/srv/a", ", readonly = true"), disk("/srv/a"), "disk[0].path"),
        (disk("/dev/vg0/my-disk"), disk("/dev/mapper/vg0-my--disk"), "disk[0].path"),
        (disk("/srv/base"), disk("/srv/top", ', format = "qcow2", backing = ["/srv/base"]'), "disk[0].backing[0]"),
    ],
)  # fmt: skip
def test_a_disk_of_two_guests_is_refused(problems: Problems, first: str, second: str, key: str) -> None:
    (line,) = pair(problems, first, second)
    assert line.startswith(f"guest[1].{key}: found ")
    assert ONCE in line or ONCE.replace("first used at", "first used read-only at") in line


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (boots(DISK), boots(DISK.replace("::::", ":::1:"))),
        (boots(DISK), boots(DISK.replace("::::", "::3261::"))),
        (boots(DISK), boots(DISK.replace("10.1", "10.2"))),
        (boots(DISK, "ipxe.shared = true"), boots(DISK, "ipxe.shared = true")),
        (boots(DISK, "ipxe.shared = true"), roots(DISK, "kernel.shared = true")),
        (boots("iscsi:${next-server}::::iqn.${hostname}"), boots("iscsi:${next-server}::::iqn.${hostname}")),
        (boots("http://10.0.0.1/a"), boots("http://10.0.0.1/a")),
        (disk("/srv/a", ", readonly = true"), disk("/srv/a", ", readonly = true")),
        (disk("/srv/a", ", shared = true"), disk("/srv/a", ", shared = true")),
    ],
)
def test_other_disks_and_shared_ones_are_accepted(problems: Problems, first: str, second: str) -> None:
    assert not pair(problems, first, second)


def test_a_third_guest_is_compared_with_every_other(problems: Problems) -> None:
    sharing = boots(DISK, "ipxe.shared = true")
    guests = [
        guest(f'vfs = ["storage:{n}"]', text, name=f"g{n}") for n, text in enumerate([sharing, sharing, boots(DISK)])
    ]
    (line,) = key_problems(problems, *guests)
    assert line.startswith("guest[2].ipxe.sanboot: found iSCSI disk")


def test_one_guest_boots_from_its_disk_by_ipxe_or_by_its_kernel(problems: Problems) -> None:
    both = f'ipxe.address = "dhcp"\nipxe.sanboot = "{DISK}"\nkernel.image = "/k"\nkernel.root = "{DISK}"'
    assert not key_problems(problems, guest('vfs = ["storage:0"]', both))


@pytest.mark.parametrize(
    ("pairs", "key"),
    [
        (boots(DISK), "ipxe.sanboot"),
        (roots(DISK), "kernel.root"),
        (boots("iscsi:${next-server}::::iqn.a"), "ipxe.sanboot"),
    ],
)
def test_guests_of_each_need_one_disk_each(problems: Problems, pairs: str, key: str) -> None:
    (line,) = key_problems(problems, guest('each = "storage:0-1"', pairs, name="n{index}"))
    assert line == (
        f"guest[0].{key}: found one iSCSI disk for several guests, allowed is a URL with {{index}}, or shared = true,"
        " for guests whose file system expects that"
    )


@pytest.mark.parametrize(
    "pairs",
    [
        boots(DISK.replace("disk", "{index}")),
        boots(DISK.replace("::::", ":::{index}:")),
        boots(DISK, "ipxe.shared = true"),
        boots("iscsi:${next-server}::::iqn.${net0/mac:hexhyp}"),
        boots("http://192.168.10.1/a"),
        disk("/srv/a", ", shared = true"),
    ],
)
def test_guests_of_each_may_share_what_is_marked(problems: Problems, pairs: str) -> None:
    assert not key_problems(problems, guest('each = "storage:0-1"', pairs, name="n{index}"))


def test_a_qcow2_image_cannot_be_shared(problems: Problems) -> None:
    (line,) = key_problems(problems, guest('vfs = ["storage:0"]', disk("/srv/a", ', format = "qcow2", shared = true')))
    assert line.startswith('guest[0].disk[0].shared: found shared = true with format "qcow2", allowed is with "raw"')


def test_an_initiator_is_one_guests(problems: Problems) -> None:
    name = 'ipxe.initiator = "iqn.1993-08.org.debian:01:{}"'
    (line,) = pair(problems, f"{DHCP}\n{name.format('a')}", f"{DHCP}\n{name.format('A')}")
    assert line.startswith('guest[1].ipxe.initiator: found initiator "iqn.1993-08.org.debian:01:a" a second time')
    (line,) = key_problems(problems, guest('each = "storage:0-1"', DHCP, name.format("a"), name="n{index}"))
    assert line.startswith("guest[0].ipxe.initiator: found one initiator for several guests, allowed is a name with")
    assert not key_problems(problems, guest('each = "storage:0-1"', DHCP, name.format("{index}"), name="n{index}"))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("iscsi:10.0.0.1::::iqn.2016-01.a:b:c", IscsiUrl("10.0.0.1", 3260, "0", "iqn.2016-01.a:b:c")),
        ("iscsi:10.0.0.1:6:3261:1:iqn.a", IscsiUrl("10.0.0.1", 3261, "1", "iqn.a")),
        ("iscsi:10.0.0.1:::000A-0-0-0:iqn.a", IscsiUrl("10.0.0.1", 3260, "10", "iqn.a")),
        ("iscsi:10.0.0.1:::0-1:iqn.a", IscsiUrl("10.0.0.1", 3260, "0000-0001-0000-0000", "iqn.a")),
        ("iscsi:[fd00::1]::::iqn.a", IscsiUrl("fd00::1", 3260, "0", "iqn.a")),
    ],
)
def test_an_iscsi_url_is_parsed(text: str, url: IscsiUrl) -> None:
    assert iscsi_url(text) == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("iscsi:192.168.10.1", "which names no target, allowed is iscsi:server:"),
        ("iscsi:::::iqn.a", "which names no server, allowed is iscsi:server:"),
        ("iscsi:a::::", "which names no target"),
        ("iscsi:a::iscsi:1:iqn.a", 'whose port is "iscsi", allowed is 1 to 65535, or nothing for 3260'),
        ("iscsi:a::0:1:iqn.a", 'whose port is "0"'),
        ("iscsi:a::65536:1:iqn.a", 'whose port is "65536"'),
        ("iscsi:a:17::1:iqn.a", 'whose protocol is "17"'),
        ("iscsi:a:::lun1:iqn.a", 'whose LUN is "lun1", allowed is a hexadecimal number'),
        ("iscsi:fd00::1::::iqn.a", "whose target is"),
        ("iscsi:[10.0.0.1::::iqn.a", "whose server is no IPv6 address in brackets"),
    ],
)
def test_a_wrong_field_of_root_or_sanboot_is_named(problems: Problems, text: str, problem: str) -> None:
    for pairs, key in ((boots(text), "ipxe.sanboot"), (roots(text), "kernel.root")):
        (line,) = key_problems(problems, guest('vfs = ["storage:0"]', pairs))
        assert line.startswith(f'guest[0].{key}: found "{text}", {problem}')


def test_a_local_disk_has_one_name() -> None:
    assert local_disk("/dev/mapper/vg--0-lv--a--b") == "/dev/vg-0/lv-a-b"
    assert local_disk("/dev/mapper/control") == "/dev/mapper/control"
    path = "/dev/disk/by-path/ip-192.0.2.5:3260-iscsi-iqn.2016-01.com.example:lun-lun-10"
    assert local_disk(path) == iscsi_url("iscsi:192.0.2.5:::a:iqn.2016-01.com.example:lun").disk
    assert local_disk(f"{path}-part1") == f"{path}-part1"


def test_only_a_setting_of_its_own_makes_a_url_a_guests_own() -> None:
    assert differs_by_guest("iscsi:a::::iqn.${hostname}")
    assert differs_by_guest("iscsi:a::::iqn.${net0/mac:hexhyp}")
    assert not differs_by_guest("iscsi:${next-server}::::iqn.${net0/root-path}")


def test_the_same_target_on_another_server_is_noted(warned: Warned) -> None:
    two = [guest(f'vfs = ["storage:{n}"]', boots(DISK.replace("10.1", f"10.{n + 1}")), name=f"g{n}") for n in (0, 1)]
    (line,) = warned(PF + "".join(two))
    assert line.partition(": ")[2] == (
        'guest "g1": boots from iqn.2016-01.com.example:disk of 192.168.10.2, and guest "g0" from the same name of'
        " 192.168.10.1: if these are portals of one disk, both write to it"
    )
    portals = guest('vfs = ["storage:0"]', boots(f"{DISK} {DISK.replace('10.1', '11.1')}"))
    assert not warned(PF + portals)


def test_a_partition_of_an_iscsi_disk_is_refused(problems: Problems) -> None:
    whole = f"/dev/disk/by-path/pci-0000:00:03.0-ip-192.168.10.1:3260-iscsi-{DISK[22:]}-lun-0"
    (line,) = key_problems(problems, guest('vfs = ["storage:0"]', disk(f"{whole}-part1")))
    assert line == (
        'guest[0].disk[0].path: found "-part1" of an iSCSI disk, allowed is the whole disk, the same name without'
        " -part1"
    )
    assert not key_problems(problems, guest('vfs = ["storage:0"]', disk(whole)))
    assert not key_problems(
        problems, guest('vfs = ["storage:0"]', disk("/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part1"))
    )


def test_secure_boot_with_a_kernel_is_warned_of(warned: Warned) -> None:
    rule = guest('vfs = ["storage:0"]', 'firmware = "uefi"', "secure_boot = true", 'kernel.image = "/k"')
    (line,) = warned(PF + rule)
    assert "secure_boot: secure boot does not protect this guest's kernel" in line
