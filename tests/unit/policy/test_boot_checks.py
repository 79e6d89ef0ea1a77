# SPDX-License-Identifier: Apache-2.0
"""What cannot boot is refused, with its cause and what to write instead."""

import pytest

from tests.unit.policy.conftest import Problems
from tests.unit.policy.test_guest_checks import DHCP, FIXED, guest, guest_problems, key_problems

TARGET = "iqn.2016-01.com.example:a"
URL = f'sanboot = "iscsi:192.168.10.1::::{TARGET}"'
ROOT = f'root = "iscsi:192.168.10.1::::{TARGET}"'


def kernel(*pairs: str) -> str:
    words = ", ".join(('image = "/k"', *pairs))
    return f"kernel = {{ {words} }}"


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (
            f'ipxe = {{ {FIXED}, sanboot = "iscsi:san1.example.com::::{TARGET}" }}',
            'ipxe.sanboot: found the host name "san1.example.com" and a fixed address without a name server, allowed is'
            ' an IP address, or a name with dns = "ADDRESS"',
        ),
        (
            f'ipxe = {{ {FIXED}, sanboot = "http://www.example.com/a" }}',
            'ipxe.sanboot: found the host name "www.example.com" and a fixed address without a name server',
        ),
        (kernel(FIXED, f'root = "iscsi:san1::::{TARGET}"'), 'kernel.root: found the host name "san1" and a fixed'),
        (
            f'ipxe = {{ {FIXED}, sanboot = "iscsi:192.168.11.1::::{TARGET}" }}',
            'ipxe.sanboot: found "192.168.11.1" outside the network of 192.168.10.10/24, allowed is with a gateway',
        ),
        (kernel(FIXED, f'root = "iscsi:10.0.0.1::::{TARGET}"'), 'kernel.root: found "10.0.0.1" outside the network'),
        (
            f'ipxe = {{ {FIXED}, sanboot = "iscsi:[fd00::1]::::{TARGET}" }}',
            'ipxe.sanboot: found "fd00::1", allowed is a server of the same family as address, 192.168.10.10/24',
        ),
        (
            f"ipxe = {{ {DHCP.removeprefix('ipxe.')}, dns = \"192.168.10.1\" }}",
            "ipxe.dns: found a name server without a fixed address, allowed is with one: DHCP names it",
        ),
        (
            f'ipxe = {{ {DHCP.removeprefix("ipxe.")}, sanboot = "iscsi:${{next-server}}::::{TARGET}" }}\n{kernel()}',
            "kernel.root: found nothing, and a kernel does not know ${next-server} of ipxe.sanboot, allowed is a root"
            " without variables",
        ),
        (
            kernel('address = "dhcp"', f'root = "iscsi:${{next-server}}::::{TARGET}"'),
            f'kernel.root: found "iscsi:${{next-server}}::::{TARGET}", allowed is a URL without ${{next-server}}',
        ),
        (
            kernel('cmdline = "a=${net0/mac}"'),
            'kernel.cmdline: found "${net0/mac}", allowed is text: nothing replaces it on a kernel\'s command line',
        ),
        (
            kernel('address = "fd00::2/64"', f'root = "iscsi:[fd00::1]::::{TARGET}"'),
            'kernel.address: found "fd00::2/64", which initramfs-tools cannot give an interface, allowed is IPv4, or an'
            " initramfs of dracut, which a word such as rd.neednet=1 in cmdline shows",
        ),
        (
            kernel('address = "dhcp"', f'root = "iscsi:[fd00::1]::::{TARGET}"'),
            "kernel.root: found an IPv6 server, which initramfs-tools cannot reach, allowed is IPv4",
        ),
        (
            kernel('address = "dhcp"', 'cmdline = "quiet ip=eth0:dhcp"'),
            "kernel.cmdline: found ip= beside address, from which vfagent makes it, allowed is one of them",
        ),
        (
            kernel('address = "dhcp"', ROOT, 'cmdline = "netroot=iscsi:b"'),
            "kernel.cmdline: found netroot= beside root, from which vfagent makes it",
        ),
        (
            'firmware = "uefi"\nipxe.script = "/etc/vfagent/a.ipxe"',
            "ipxe.script: found a script with UEFI, which the distribution's iPXE image does not run, allowed is"
            ' one with loader = "rom", a kernel beside it, or address and sanboot instead',
        ),
        (
            f'{DHCP}\nrestart = "on-watchdog"',
            'restart: found "on-watchdog", allowed is "on-failure" or another: QEMU sends systemd no watchdog messages',
        ),
        (
            'ipxe = { script = "/a", dns = "10.0.0.1" }',
            "ipxe.dns: found dns with script, allowed is one of them: the script replaces dns",
        ),
        (f"{DHCP}\nipxe.vlan = 30", "ipxe.vlan: found an unknown key: a guest's VLAN is vlan in the [[pf.vf]]"),
        (f'{DHCP}\nipxe.initiator = "iqn.2016-01.x:a_b"', 'ipxe.initiator: found "iqn.2016-01.x:a_b", allowed is'),
    ],
)  # fmt: skip
def test_what_cannot_boot_is_refused(problems: Problems, pairs: str, text: str) -> None:
    (line,) = guest_problems(problems, pairs)
    assert line.startswith(f"guest[0].{text}")


@pytest.mark.parametrize(
    "pairs",
    [
        f'ipxe = {{ {FIXED}, dns = "192.168.10.1", sanboot = "iscsi:san1.example.com::::{TARGET}" }}',
        f'ipxe = {{ address = "dhcp", sanboot = "iscsi:san1.example.com::::{TARGET}" }}',
        f'ipxe = {{ {FIXED}, gateway = "192.168.10.1", sanboot = "iscsi:10.0.0.1::::{TARGET}" }}',
        f'ipxe = {{ {FIXED}, sanboot = "iscsi:192.168.10.1::::{TARGET} iscsi:192.168.11.1::::{TARGET}" }}',
        f'ipxe = {{ {FIXED}, initiator = "iqn.1993-08.org.debian:01:abcdef", {URL} }}',
        kernel('address = "fd00::2/64"', f'root = "iscsi:[fd00::1]::::{TARGET}"', 'cmdline = "rd.neednet=1"'),
        kernel('address = "fd00::2/64"', 'initrd = "/boot/initramfs-6.12.img"'),
        kernel('cmdline = "ip=eth0:dhcp root=/dev/nfs shell=${PATH}"'),
        'firmware = "uefi"\nipxe = { script = "/etc/a.ipxe", loader = "rom" }',
        f'firmware = "uefi"\nipxe = {{ script = "/etc/a.ipxe" }}\n{kernel()}',
    ],
)
def test_what_can_boot_is_accepted(problems: Problems, pairs: str) -> None:
    assert not guest_problems(problems, pairs)


def test_a_command_line_is_as_long_as_linux_reads_it(problems: Problems) -> None:
    dhcp = 'address = "dhcp"'
    line = "x" * (2047 - len("ip=dhcp "))
    assert not guest_problems(problems, kernel(dhcp, f'cmdline = "{line}"'))
    assert guest_problems(problems, kernel(dhcp, f'cmdline = "{line}x"')) == [
        "guest[0].kernel.cmdline: found a command line of 2048 characters, allowed are 2047: Linux drops the rest"
    ]
    assert not guest_problems(problems, kernel(f'cmdline = "{"x" * 2047}"'))
    target = f'root = "iscsi:192.168.10.1::::{TARGET}"'
    (line,) = guest_problems(problems, kernel(FIXED, target, f'cmdline = "{"x" * 2046}"'))
    assert line.startswith("guest[0].kernel.cmdline: found a command line of 2")
    assert line.endswith("characters, allowed are 2047: Linux drops the rest")


@pytest.mark.parametrize("pairs", [f"ipxe = {{ {FIXED}, {URL} }}", kernel(FIXED, ROOT)])
def test_a_name_that_makes_no_iscsi_name_is_refused(problems: Problems, pairs: str) -> None:
    (line,) = key_problems(problems, guest('vfs = ["storage:0"]', pairs, name="b_1"))
    assert line == (
        'guest[0].name: found "b_1", which makes "iqn.2010-04.org.ipxe:b_1", and an iSCSI name has no _, allowed is a'
        " name without _, or initiator"
    )
    own = pairs.replace("{ ", '{ initiator = "iqn.2016-01.x:b-1", ', 1)
    assert not key_problems(problems, guest('vfs = ["storage:0"]', own, name="b_1"))
    assert not key_problems(problems, guest('vfs = ["storage:0"]', DHCP, name="b_1"))


@pytest.mark.parametrize(
    ("pairs", "key", "folder"),
    [
        ('disk = [{ path = "/home/alice/a.raw" }]', "disk[0].path", "/home"),
        ('disk = [{ path = "/srv/a", format = "qcow2", backing = ["/tmp/b"] }]', "disk[0].backing[0]", "/tmp"),
        ('disk = [{ path = "//var/./tmp/a" }]', "disk[0].path", "/var/tmp"),
        ('disk = [{ path = "/dev/shm/a" }]', "disk[0].path", "/dev/shm"),
        (kernel().replace("/k", "/root/vmlinuz"), "kernel.image", "/root"),
        (kernel('initrd = "/run/user/0/initrd"'), "kernel.initrd", "/run/user"),
        ('ipxe.script = "/home/a.ipxe"', "ipxe.script", "/home"),
        (f'{DHCP}\nchap = {{ user = "a", secret = "/root/chap" }}', "chap.secret", "/root"),
        (f'{DHCP}\nvnc = "unix"\nvnc_password = "/tmp/p"', "vnc_password", "/tmp"),
    ],
)
def test_a_path_that_the_sandbox_hides_is_refused(problems: Problems, pairs: str, key: str, folder: str) -> None:
    (line,) = guest_problems(problems, pairs)
    assert line.startswith(f"guest[0].{key}: found ")
    assert f" sees nothing of {folder}, allowed" in line or f" sees nothing of the host's {folder}, allowed" in line


@pytest.mark.parametrize(
    "text", ["home/alice", "root/x", 'seed.user_data = "tmp/a"', 'seed.meta_data = "home/instance-id: x"']
)
def test_a_text_that_is_no_path_is_no_hidden_path(problems: Problems, text: str) -> None:
    pairs = text if text.startswith("seed") else f'credentials = {{ motd = "{text}" }}'
    assert not guest_problems(problems, f"{DHCP}\n{pairs}")


@pytest.mark.parametrize("path", ["/homes/a", "/srv/home/a", "/rooted", "/dev/vg/tmp"])
def test_a_path_that_only_begins_alike_is_accepted(problems: Problems, path: str) -> None:
    assert not guest_problems(problems, f'disk = [{{ path = "{path}" }}]')


@pytest.mark.parametrize("mark", ["{index:02x}", "{Index}", "{ index }", "{vf}", "{number}"])
@pytest.mark.parametrize("pairs", ['kernel.cmdline = "a=MARK"', 'unit.Description = "guest MARK"'])
def test_a_mark_that_nothing_replaces_is_refused(problems: Problems, pairs: str, mark: str) -> None:
    text = ['each = "storage:0-1"', 'kernel.image = "/k"', pairs.replace("MARK", mark)]
    (line,) = key_problems(problems, guest(*text, name="n{index}"))
    assert line.endswith(f'found "{mark}", which no index replaces, allowed is {{index}}')


@pytest.mark.parametrize("text", ["{instance-id: a-{index}}", "[a, {index}]", " {name: a}"])
@pytest.mark.parametrize("key", ["user_data", "meta_data", "network_config"])
def test_a_seed_in_flow_style_is_refused_with_each(problems: Problems, key: str, text: str) -> None:
    pairs = f'{DHCP}\nseed.{key} = "{text}"'
    (line,) = key_problems(problems, guest('each = "storage:0-1"', pairs, name="n{index}"))
    assert line.startswith(
        f'guest[0].seed.{key}: found YAML in flow style, "{text.lstrip()[0]}", allowed is block style'
    )
    if "{index}" not in text:
        assert not guest_problems(problems, pairs)


def test_a_mapping_within_a_seed_is_no_mark(problems: Problems) -> None:
    pairs = f'{DHCP}\nseed.network_config = "ethernets:\\n  a:\\n    match: {{name: e*}}\\n"'
    assert not key_problems(problems, guest('each = "storage:0-1"', pairs, name="n{index}"))


@pytest.mark.parametrize("word", ["iscsi_target_port=3261", "rd.iscsi.initiator=iqn.2016-01.com.example:b"])
def test_words_that_vfagent_makes_are_refused_on_the_command_line(problems: Problems, word: str) -> None:
    (line,) = guest_problems(problems, kernel(FIXED, ROOT, f'cmdline = "{word}"'))
    name = word.partition("=")[0]
    assert line.startswith(f"guest[0].kernel.cmdline: found {name}= beside root, from which vfagent makes it")


@pytest.mark.parametrize(
    ("pairs", "key"),
    [
        (kernel().replace("/k", "/srv/{index}/k"), "kernel.image"),
        (kernel('initrd = "/srv/{index}/i"'), "kernel.initrd"),
        ('disk = [{ path = "/a", format = "qcow2", backing = ["/b{index}"] }]', "disk[0].backing[0]"),
        (f'{DHCP}\nunit.Description = "{{index}}"', "unit.Description"),
    ],
)
def test_an_index_needs_each_wherever_it_stands(problems: Problems, pairs: str, key: str) -> None:
    (line,) = guest_problems(problems, pairs)
    assert line == f"guest[0].{key}: found {{index}} without each, allowed is {{index}} only with each"
