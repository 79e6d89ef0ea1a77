# SPDX-License-Identifier: Apache-2.0
"""Checks between the keys of one [[guest]] rule, and between guests and their VFs."""

import json

import pytest

from tests.unit.policy.conftest import Problems

PF = """\
[[pf]]
name = "storage"
match = { driver = "igb" }
vfs = 4
[[pf.vf]]
index = "0-2"
driver = "vfio-pci"
[[pf.vf]]
index = "3"
"""
DHCP = 'ipxe.address = "dhcp"'
FIXED = 'address = "192.168.10.10/24"'
URL = 'sanboot = "iscsi:192.168.10.1::::iqn.2016-01.com.example:cirros"'
ROOT = 'root = "iscsi:192.168.10.1::::iqn.2016-01.com.example:a"'
ALLOWED = 'allowed is a VF with driver = "vfio-pci" or a variant of it'


def guest(*pairs: str, name: str = "g") -> str:
    return "\n".join(["[[guest]]", f'name = "{name}"', *pairs, ""])


def key_problems(problems: Problems, *guests: str) -> list[str]:
    """Each problem without its file and line."""
    return [line.split(": ", 1)[1] for line in problems(PF + "".join(guests))]


def guest_problems(problems: Problems, *pairs: str) -> list[str]:
    return key_problems(problems, guest('vfs = ["storage:0"]', *pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        DHCP,
        f"ipxe = {{ {FIXED}, {URL} }}",
        f'ipxe = {{ {FIXED}, {URL}, gateway = "192.168.10.1" }}',
        f'ipxe = {{ address = "fd00::2/64", {URL.replace("192.168.10.1", "[fd00::1]")}, gateway = "fe80::1" }}',
        'ipxe.script = "/etc/vfagent/a.ipxe"',
        'ipxe = { script = "/a", loader = "rom", rom = "/usr/b" }',
        'kernel.image = "/vmlinuz"',
        f'kernel = {{ image = "/vmlinuz", {ROOT}, {FIXED} }}',
        f'ipxe = {{ {FIXED}, {URL} }}\nkernel = {{ image = "/vmlinuz", gateway = "192.168.10.1" }}',
        'ipxe.address = "dhcp"\nkernel.image = "/vmlinuz"',
        f'ipxe.address = "dhcp"\nkernel = {{ image = "/vmlinuz", {ROOT} }}',
        'disk = [{ path = "/dev/vg/a" }, { path = "/b", format = "qcow2", readonly = true }]',
        f'{DHCP}\ndisk = [{{ path = "/a" }}]',
        'kernel = { image = "/vmlinuz", cmdline = "root=/dev/vda1" }\ndisk = [{ path = "/a" }]',
        f'{DHCP}\nkernel.image = "/vmlinuz"\ndisk = [{{ path = "/a" }}]\nseed.user_data = "/etc/vfagent/user-data"',
        f'{DHCP}\nseed.user_data = """#cloud-config\nruncmd:\n\t- [ls]\n"""\nseed.network_config = "/n"',
        'firmware = "uefi"\nsecure_boot = true\nmachine = "pc-q35-7.2"\ndisk = [{ path = "/a" }]',
        f'firmware = "uefi"\nipxe = {{ {FIXED}, {URL}, filename = "/EFI/debian/grubx64.efi" }}',
        f"firmware = 'uefi'\nipxe = {{ {FIXED}, {URL}, filename = '\\EFI\\debian\\grubx64.efi' }}",
        f'{DHCP}\ncredentials = {{ "ssh.authorized_keys.root" = "/k", hostname = "a" }}',
        'ipxe.address = "dhcp"\nunit.MemoryMax = "1G"',
        'ipxe.address = "dhcp"\nunit.MemoryMax = "50%"',
        'ipxe.address = "dhcp"\nmemory = "16G"\nhugepages = "1G"\nunit.MemoryMax = "2G"',
        'ipxe.address = "dhcp"\nhugepages = true\nunit.MemoryHigh = "256M"',
        f'{DHCP}\nnuma = "strict"\nunit.CPUAffinity = "0-3"',
    ],
)
def test_a_boot_method_is_accepted(problems: Problems, pairs: str) -> None:
    assert not guest_problems(problems, pairs)


@pytest.mark.parametrize("pages", ["true", '"2M"'])
def test_huge_pages_need_memory_of_whole_pages(problems: Problems, pages: str) -> None:
    (line,) = guest_problems(problems, f'{DHCP}\nmemory = "513M"\nhugepages = {pages}')
    assert line == "guest[0].memory: found 513M with huge pages of 2M, allowed is a multiple of 2M"
    assert not guest_problems(problems, f'{DHCP}\nmemory = "514M"\nhugepages = {pages}')


@pytest.mark.parametrize(
    ("vfs", "allowed"),
    [
        ('"storage", "storage"', 'vfs = ["storage:0", "storage:1"] and standby_for = "storage:0"'),
        ('"storage:1", "storage:2"', 'vfs = ["storage:1", "storage:2"] and standby_for = "storage:1"'),
    ],
)
def test_a_standby_for_one_of_two_vfs_names_its_index(problems: Problems, vfs: str, allowed: str) -> None:
    nic = 'nic = [{ bridge = "br0", standby_for = "storage" }]'
    (line,) = key_problems(problems, guest(f"vfs = [{vfs}]", DHCP, nic))
    assert line.startswith(
        f'guest[0].nic[0].standby_for: found "storage", which is 2 VFs, allowed is one of them by its index: {allowed}'
    )


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (
            "cpus = 1",
            "guest[0]: found no boot method, allowed is one of ipxe, kernel and disk, such as [guest.ipxe] with"
            ' address = "dhcp"',
        ),
        (
            'kernel.image = "/a"\nipxe = { address = "dhcp", loader = "image" }',
            'guest[0].kernel: found a kernel with ipxe.loader = "image", allowed is with "auto", which falls back'
            " to the kernel",
        ),
        (
            'disk = [{ path = "/a" }]\nsecure_boot = true',
            'guest[0].secure_boot: found secure boot without UEFI, allowed is with firmware = "uefi"',
        ),
        (
            f'{DHCP}\nfirmware = "uefi"\nsecure_boot = true',
            "guest[0].secure_boot: found secure boot with ipxe, allowed is without: distributions' iPXE is not signed",
        ),
        (
            f'ipxe = {{ {FIXED}, {URL}, filename = "/EFI/a.efi" }}',
            'guest[0].ipxe.filename: found a file name, allowed is one with firmware = "uefi" and sanboot',
        ),
        (
            f"{DHCP}\nseed = {{}}",
            "guest[0].seed: found an empty table, allowed is at least one of user_data, meta_data, network_config",
        ),
        (
            f'{DHCP}\nseed.user_data = "/a/../b"',
            'guest[0].seed.user_data: found "/a/../b" (".." leaves the folder), allowed is an absolute path without'
            ' "..", commas or control characters, or text that does not begin with /',
        ),
        (
            f'{DHCP}\nseed.meta_data = "{{index}}"',
            "guest[0].seed.meta_data: found {index} without each, allowed is {index} only with each",
        ),
        (
            f'{DHCP}\ncredentials.ssh.authorized_keys = "/k"',
            "guest[0].credentials.ssh: found a table, allowed is a value: a name with dots needs quotes, as"
            ' "ssh.authorized_keys"',
        ),
        (
            f'{DHCP}\ncredentials."a=b" = "/k"',
            'guest[0].credentials."a=b": found "a=b", allowed is a name of letters, digits, ., _, @, ~, + and -, at'
            " most 128",
        ),
        (
            f"{DHCP}\ncredentials.a = 1",
            'guest[0].credentials.a: found 1, allowed is an absolute path without "..", commas or control characters,'
            ' or text that does not begin with /, did you mean "1"?',
        ),
        (
            f"{DHCP}\ncredentials = 1",
            "guest[0].credentials: found 1, allowed is a table",
        ),
        (
            "ipxe = {}",
            'guest[0].ipxe.address: found nothing, allowed is "dhcp" or an address such as "192.168.10.10/24"',
        ),
        (
            f"ipxe = {{ {FIXED} }}",
            'guest[0].ipxe.sanboot: found nothing, allowed is sanboot or script with an address that is not "dhcp"',
        ),
        (
            f'ipxe = {{ script = "/a", {URL} }}',
            "guest[0].ipxe.sanboot: found sanboot with script, allowed is one of them: the script replaces sanboot",
        ),
        (
            'ipxe = { address = "dhcp", gateway = "192.168.10.1" }',
            "guest[0].ipxe.gateway: found a gateway without a fixed address, allowed is with one",
        ),
        (
            f'ipxe = {{ {FIXED}, {URL}, gateway = "fd00::1" }}',
            'guest[0].ipxe.gateway: found "fd00::1", allowed is an address of the same family as address',
        ),
        (
            f'ipxe = {{ {FIXED}, {URL}, gateway = "192.168.11.1" }}',
            'guest[0].ipxe.gateway: found "192.168.11.1", allowed is an address in the network of 192.168.10.10/24',
        ),
        (
            'ipxe = { address = "dhcp", rom = "/usr/a" }',
            'guest[0].ipxe.rom: found a ROM with loader "auto", allowed is a ROM with loader "rom"',
        ),
        (
            f'kernel = {{ image = "/a", {FIXED}, gateway = "192.168.11.1" }}',
            'guest[0].kernel.gateway: found "192.168.11.1", allowed is an address in the network of 192.168.10.10/24',
        ),
        (
            f'kernel = {{ image = "/a", {ROOT} }}',
            'guest[0].kernel.address: found nothing with root, allowed is "dhcp" or an address such as'
            ' "192.168.10.10/24"',
        ),
        (
            f'{DHCP}\nmemory = "2G"\nunit.MemoryMax = "1G"',
            'guest[0].unit.MemoryMax: found "1G", allowed is more than the guest\'s memory, 2048M',
        ),
        (
            f'{DHCP}\nmemory = "2G"\nunit.MemoryHigh = "2000M"',
            'guest[0].unit.MemoryHigh: found "2000M", allowed is more than the guest\'s memory, 2048M',
        ),
        (
            f'{DHCP}\nmemory = "1500M"\nhugepages = "1G"',
            "guest[0].memory: found 1500M with huge pages of 1G, allowed is a multiple of 1G",
        ),
        (
            f'{DHCP}\nnuma = "strict"\nunit.NUMAPolicy = "bind"',
            'guest[0].numa: found "strict" with NUMAPolicy in its unit, allowed is one of them',
        ),
        (
            'disk = [{ path = "/a" }]\nchap = { user = "a", secret = "/b" }',
            "guest[0].chap: found chap without an iSCSI disk, allowed is with ipxe or kernel",
        ),
        (
            f'{DHCP}\nvnc = "127.0.0.1:{{index}}"',
            "guest[0].vnc: found {index} without each, allowed is {index} only with each",
        ),
        (
            f'{DHCP}\nvnc_remote = "192.0.2.10:0"',
            'guest[0].vnc_password: found nothing with vnc_remote, allowed is an absolute path without "..", commas or'
            " control characters: other hosts can open the screen",
        ),
        (
            f'{DHCP}\nvnc = "unix"\nvnc_remote = "192.0.2.10:0"\nvnc_password = "/p"',
            "guest[0].vnc_remote: found vnc_remote with vnc, allowed is one of them",
        ),
        (
            f'{DHCP}\nvnc_password = "/p"',
            "guest[0].vnc_password: found a password without a screen, allowed is with vnc or vnc_remote",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(problems: Problems, pairs: str, text: str) -> None:
    assert guest_problems(problems, pairs) == [text]


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/home/me/a.rom", "/usr/../etc/a.rom", "/var/lib/vfagent", "a.rom", "/usr/a,b.rom"]
)
def test_a_rom_outside_the_folders_of_root_is_refused(problems: Problems, path: str) -> None:
    (line,) = guest_problems(problems, f'ipxe = {{ address = "dhcp", loader = "rom", rom = "{path}" }}')
    assert line.endswith("allowed is a file below /etc/vfagent/, /opt/, /srv/, /usr/ or /var/lib/vfagent/")


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "-x", "_x", "a b", "%i", "x" * 33, "x" * 300, "a\\nb", "a\\u0000", "\u0430bc", "a,b", "a=b", "a.b"),
        *("a/b", "A", "", "{index:02x}"),
    ],
)
def test_a_guest_name_with_special_characters_is_refused(problems: Problems, name: str) -> None:
    (line,) = key_problems(problems, guest('vfs = ["storage:0"]', DHCP, name=name))
    assert line.startswith("guest[0].name: found")


@pytest.mark.parametrize(
    "pairs",
    [
        'ipxe = { address = "dhcp", script = "/a,readonly=off" }',
        'ipxe = { address = "10.0.0.1/24,x=y", sanboot = "iscsi:a::::b" }',
        'ipxe = { address = "dhcp", sanboot = "iscsi:a::::b\\nshell" }',
        'ipxe = { address = "dhcp", sanboot = "iscsi:a::::b || shell" }',
        'ipxe = { address = "dhcp", gateway = "10.0.0.1 && shell" }',
        'kernel = { image = "/k,x=y" }',
        'kernel = { image = "/k", initrd = "/../i" }',
        'kernel = { image = "/k", cmdline = "a\\nb" }',
        'disk = [{ path = "/d,if=none" }]',
        'ipxe.address = "dhcp"\nvnc = "127.0.0.1:0,password=on"',
        'ipxe.address = "dhcp"\nvnc = "unix:/etc/x"',
        'ipxe.address = "dhcp"\nunit.Description = "a\\nb"',
        'ipxe.address = "dhcp"\nunit.ExecStartPre = "/bin/sh"',
        'ipxe.address = "dhcp"\nchap = { user = "a && shell", secret = "/s" }',
        'ipxe.address = "dhcp"\nchap = { user = "a,b", secret = "/s" }',
        'ipxe.address = "dhcp"\nchap = { user = "a", secret = "s" }',
    ],
)
def test_a_value_that_injects_another_option_is_refused(problems: Problems, pairs: str) -> None:
    assert guest_problems(problems, pairs)


@pytest.mark.parametrize(
    "path", ["/a b", "/a%i", "/a\\b", "/a'b", '/a"b', "/a$b", "/a;b", "/a:b", "/\N{SNOWMAN}", "/{x}"]
)
def test_a_disk_path_that_systemd_would_change_is_refused(problems: Problems, path: str) -> None:
    [text] = guest_problems(problems, f"disk = [{{ path = {json.dumps(path)} }}]")
    assert "systemd may misread" in text
    assert "use a symbolic link" in text


@pytest.mark.parametrize("path", ["/srv/a-b_c.d+e@f=g", "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0"])
def test_a_plain_disk_path_is_allowed(problems: Problems, path: str) -> None:
    assert guest_problems(problems, f'disk = [{{ path = "{path}" }}]') == []


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (
            "storage:3",
            f'found "storage:3", whose driver is "host", {ALLOWED}',
        ),
        ("storage:4", 'found "storage:4", allowed is 0 to 3: the rule creates 4 VFs'),
        ("store:0", 'found "store:0", allowed is the name of a [[pf]] rule, did you mean "storage:0"?'),
    ],
)
def test_a_vf_that_no_rule_creates_for_guests_is_refused(problems: Problems, reference: str, text: str) -> None:
    assert key_problems(problems, guest(f'vfs = ["{reference}"]', DHCP)) == [f"guest[0].vfs[0]: {text}"]


def test_a_label_without_index_needs_a_rule_with_vfs_for_guests(problems: Problems) -> None:
    assert not key_problems(problems, guest('vfs = ["storage"]', DHCP))
    pf = '[[pf]]\nname = "other"\nmatch = { driver = "x" }\n'
    assert key_problems(problems, pf, guest('vfs = ["other"]', DHCP)) == [
        'guest[0].vfs[0]: found "other", whose rule binds no VF to vfio-pci, allowed is a rule that has a [[pf.vf]]'
        ' with driver = "vfio-pci"'
    ]


def test_a_vf_that_keeps_its_driver_is_named_by_its_index(problems: Problems) -> None:
    pf = '[[pf]]\nname = "other"\nmatch = { driver = "x" }\n[[pf.vf]]\nindex = "0"\ndriver = "keep"\n'
    assert not key_problems(problems, pf, guest('vfs = ["other:0"]', DHCP))
    assert key_problems(problems, pf, guest('vfs = ["other"]', DHCP)) == [
        'guest[0].vfs[0]: found "other", whose rule binds no VF to vfio-pci, allowed is a rule that has a [[pf.vf]]'
        ' with driver = "vfio-pci", or an index, such as "other:0", as the rule has driver = "keep"'
    ]
    assert key_problems(problems, pf, guest('vfs = ["other:1"]', DHCP)) == [
        'guest[0].vfs[0]: found "other:1", which no [[pf.vf]] of the rule includes, allowed is a VF with'
        ' driver = "vfio-pci", or with driver = "keep" where another program binds it to vfio-pci'
    ]


def test_a_guest_without_a_pf_rule_is_refused(problems: Problems) -> None:
    (line,) = problems(guest('vfs = ["storage:0"]', DHCP))
    assert line.endswith('found "storage:0", allowed is none: there is no [[pf]] rule')


def test_a_guest_without_a_vf_is_refused(problems: Problems) -> None:
    assert key_problems(problems, guest(DHCP)) == [
        "guest[0].vfs: found no VF, allowed is at least one in vfs, or each, or a [[guest.nic]]"
    ]


def test_two_guests_cannot_have_the_same_vf(problems: Problems) -> None:
    lines = key_problems(
        problems, guest('vfs = ["storage:0"]', DHCP), guest('each = "storage:0-1"', DHCP, name="node{index}")
    )
    assert lines == [
        'guest[1].each: found VF "storage:0" a second time, allowed is once: first used at'
        ' policy.toml:12: guest "g".vfs[0]'
    ]


def test_a_reference_to_a_malformed_rule_is_no_problem(problems: Problems) -> None:
    assert problems(PF.replace("vfs = 4", "vfs = -1") + guest('vfs = ["storage:0"]', DHCP)) == [
        'policy.toml:4:7: pf[0].vfs: found -1, allowed is 0 to 65535 or "max" or a share such as "50%"'
    ]


def test_well_formed_rules_are_compared_despite_a_malformed_one(problems: Problems) -> None:
    wrong = '[[bridge]]\nnme = "br0"\n'
    lines = key_problems(
        problems, guest('vfs = ["storage:3"]', DHCP), guest('vfs = ["storage:3"]', DHCP, name="h"), wrong
    )
    twice = ["guest[1].vfs[0]"] * 2
    assert [line.split(": ")[0] for line in lines] == ["guest[0].vfs[0]", *twice, "bridge[0].name", "bridge[0].nme"]


def test_each_needs_a_name_with_an_index(problems: Problems) -> None:
    (line,) = key_problems(problems, guest('each = "storage:0-1"', DHCP, name="node"))
    assert (
        line == 'guest[0].name: found "node" for several guests, allowed is a name with {index}, such as "node-{index}"'
    )


def test_the_name_of_each_guest_has_at_most_32_characters(problems: Problems) -> None:
    text = PF.replace("vfs = 4", "vfs = 12").replace("0-2", "4-11")
    name = "n" * 31 + "{index}"
    assert not problems(text + guest('each = "storage:4-9"', DHCP, name=name))
    (line,) = problems(text + guest('each = "storage:4-10"', DHCP, name=name))
    assert line.endswith(f'found "{name}", which gives "{"n" * 31}10", allowed are at most 32 characters')


def test_a_name_with_an_index_needs_each(problems: Problems) -> None:
    (line,) = key_problems(problems, guest('vfs = ["storage:0"]', DHCP, name="node{index}"))
    assert line.startswith('guest[0].name: found "node{index}" without each')


def test_reversed_indices_in_each_are_refused(problems: Problems) -> None:
    (line,) = key_problems(problems, guest('each = "storage:2-0"', DHCP, name="node{index}"))
    assert line == 'guest[0].each: found "storage:2-0", but 2-0 is reversed, did you mean 0-2?'


def test_each_creates_at_most_1024_guests(problems: Problems) -> None:
    text = PF.replace("vfs = 4", 'vfs = "max"').replace('"3"', '"3-9999"\ndriver = "vfio-pci"')
    (line,) = problems(text + guest('each = "storage:0-1024"', DHCP, name="node{index}"))
    assert line.endswith("guest[0]: found more than 1024 guests up to here, allowed are 1024 in all")


@pytest.mark.parametrize(
    ("several", "single", "key"),
    [
        (DHCP, DHCP, "name"),
        (f'{DHCP}\nvnc = "127.0.0.1:{{index}}"', f'{DHCP}\nvnc = "127.0.0.1:1"', "vnc"),
        ('disk = [{ path = "/a{index}" }]', 'disk = [{ path = "/a1" }]', "disk[0].path"),
    ],
)
@pytest.mark.parametrize("each", ["storage:1-2", "storage:*"])
def test_a_guest_cannot_share_with_a_guest_of_each(
    problems: Problems, several: str, single: str, key: str, each: str
) -> None:
    all_for_guests = PF.replace('index = "3"\n', 'index = "3"\ndriver = "vfio-pci"\n')
    name = "node1" if key == "name" else "other"
    text = all_for_guests + guest(f'each = "{each}"', several, name="node{index}")
    lines = problems(text + guest('vfs = ["storage"]', single, name=name))
    assert [line.split(": ")[1] for line in lines] == [f"guest[1].{key}"]


@pytest.mark.parametrize(
    ("pairs", "key"),
    [
        (f"ipxe = {{ {FIXED}, {URL.replace('cirros', '{index}')} }}", "ipxe.address"),
        (f'{DHCP}\nvnc = "127.0.0.1:0"', "vnc"),
        (f'{DHCP}\nvnc_remote = "192.0.2.10:0"\nvnc_password = "/p"', "vnc_remote"),
        ('disk = [{ path = "/a" }]', "disk[0].path"),
    ],
)
def test_guests_of_each_cannot_share_an_address_display_or_disk(problems: Problems, pairs: str, key: str) -> None:
    (line,) = key_problems(problems, guest('each = "storage:0-1"', pairs, name="node{index}"))
    assert line.startswith(f"guest[0].{key}: found")


def test_guests_of_each_can_share_a_read_only_disk(problems: Problems) -> None:
    disk = 'disk = [{ path = "/a", readonly = true }, { path = "/b{index}" }]'
    assert not key_problems(problems, guest('each = "storage:0-1"', disk, name="node{index}"))


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (f'{DHCP}\nvnc = "127.0.0.1:0"', 'guest[1].vnc: found display "127.0.0.1:0" a second time'),
        (
            f'ipxe = {{ {FIXED}, sanboot = "http://192.168.10.1/disk" }}',
            'guest[1].ipxe.address: found address "192.168.10.10" a second time',
        ),
        ('disk = [{ path = "/a" }]', 'guest[1].disk[0].path: found writable disk "/a" a second time'),
    ],
)
def test_two_guests_cannot_share_an_address_display_or_disk(problems: Problems, pairs: str, text: str) -> None:
    first, second = (guest(f'vfs = ["storage:{index}"]', pairs, name=f"g{index}") for index in (0, 1))
    (line,) = key_problems(problems, first, second)
    assert line.startswith(text)
    assert "first used at policy.toml:" in line


def test_each_guest_has_a_socket_of_its_own(problems: Problems) -> None:
    first, second = (guest(f'vfs = ["storage:{index}"]', DHCP, 'vnc = "unix"', name=f"g{index}") for index in (0, 1))
    assert not key_problems(problems, first, second)
    assert not key_problems(problems, guest('each = "storage:0-1"', DHCP, 'vnc = "unix"', name="node{index}"))


@pytest.mark.parametrize("vnc", ["192.0.2.10:0", "0.0.0.0:0", "[::]:0", "[2001:db8::1]:0", "128.0.0.1:0"])
def test_a_screen_for_other_hosts_needs_a_key_of_its_own(problems: Problems, vnc: str) -> None:
    (line,) = guest_problems(problems, DHCP, f'vnc = "{vnc}"')
    assert line == (
        f'guest[0].vnc: found "{vnc}" (an address that other hosts reach is vnc_remote, with vnc_password), '
        'allowed is "unix", or a loopback address and a display such as "127.0.0.1:0"'
    )
    assert not guest_problems(problems, DHCP, f'vnc_remote = "{vnc}"', 'vnc_password = "/p"')


def test_ipxe_and_kernel_of_one_guest_can_have_the_same_address(problems: Problems) -> None:
    assert not guest_problems(problems, f'ipxe = {{ {FIXED}, {URL} }}\nkernel = {{ image = "/a", {ROOT}, {FIXED} }}')


def test_a_url_with_a_password_is_refused(problems: Problems) -> None:
    [line] = guest_problems(problems, 'ipxe = { address = "dhcp", sanboot = "http://me:secret@10.0.0.1/disk" }')
    assert "allowed is a URL without user and password" in line


@pytest.mark.parametrize(("screen", "most"), [("", 29), ('vnc = "unix"', 28)])
def test_a_guest_has_as_many_devices_as_its_machine_has_slots(problems: Problems, screen: str, most: int) -> None:
    pf = PF.replace("vfs = 4", "vfs = 40").replace('"0-2"', '"0-2,4-39"')
    vfs = [f"storage:{number}" for number in range(4, 4 + most)]
    assert not problems(pf + guest(f"vfs = {vfs}", DHCP, screen))
    (line,) = problems(pf + guest(f"vfs = {vfs}", DHCP, screen, 'disk = [{ path = "/a" }]'))
    beside = " beside a screen" if screen else ""
    assert line.endswith(
        f"found {most + 1} VFs, disks and NICs, allowed are {most}{beside}: the guest's machine has no more slots"
    )
