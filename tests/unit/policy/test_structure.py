# SPDX-License-Identifier: Apache-2.0
"""Each key by itself: the values it accepts and refuses."""

import pytest

from tests.unit.policy.conftest import Parse, Problems
from vfagent.policy.types import IndexSet, PfRule, VfCount, VlanRule

PF = '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n'
VLAN = '[[pf.vlan]]\nid = 10\nname = "vlan10"\n'
GUEST = '[[guest]]\nname = "g"\nvfs = ["a"]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pf = 1", "1:6: pf: found 1, allowed is a table for each: [[pf]] above its keys"),
        ("pf = [1]", "1:7: pf[0]: found 1, allowed is a table"),
        ("agent = []", "1:9: agent: found an array, allowed is a table"),
        ("agent.resync = 5", "1:16: agent.resync: found 5, allowed is 10s to 99999s, 1min to 9999min, or 1h to 99h"),
        ("version = true", "1:11: version: found true, allowed is 1"),
        ("version = 1979-05-27", "1:11: version: found a date or time, allowed is 1"),
        ("version = 0x" + "f" * 5000, "1:11: version: found an integer beyond 64 bits, allowed is 1"),
        ("version = nan", "1:11: version: found nan, allowed is 1"),
        (PF + "mtu = 68.0", "4:7: pf[0].mtu: found 68.0, allowed is 68 to 65535, did you mean 68?"),
        (
            PF + 'vfs = "0%"',
            '4:7: pf[0].vfs: found "0%", allowed is 0 to 65535 or "max" or a share such as "50%", did you mean 0?',
        ),
        (PF + "mtu = 67", "4:7: pf[0].mtu: found 67, allowed is 68 to 65535"),
        (PF + 'hwmode = "VEPA"', '4:10: pf[0].hwmode: found "VEPA", allowed is "veb" or "vepa", did you mean "vepa"?'),
        (PF + '[[pf.vlan]]\nname = "v"', "4:1: pf[0].vlan[0].id: found nothing, allowed is 1 to 4094"),
        ('[[pf]]\nname = "a"\nmatch = {}', None),
        ('[[pf]]\nname = "a"', '1:1: pf[0].match: found nothing, allowed is a table such as { driver = "igb" }'),
        (PF + '[[pf.vf]]\nindex = "0,2,2"', "5:9: pf[0].vf[0].index: found \"0,2,2\", but it names index 2 twice, "
         "allowed is each index once"),
        (PF + '[[pf.vf]]\nindex = "65535"', '5:9: pf[0].vf[0].index: found "65535", allowed are indices '
         "from 0 to 65534"),
        (PF + '[[pf.vf]]\nvlan = true', "5:8: pf[0].vf[0].vlan: found true, allowed is 0 to 4094"),
        (GUEST + "ipxe.address = 'dhcp'\nunit = { ExecStart = 'x' }", None),
        ('"a\\u001b[31m" = 1', None),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_refused_with_its_location(
    problems: Problems, text: str, expected: str | None
) -> None:
    lines = problems(text)
    assert lines
    if expected is not None:
        assert f"policy.toml:{expected}" in lines


def test_an_escape_sequence_in_a_key_is_shown_as_text(problems: Problems) -> None:
    (line,) = problems('"a\\u001b[31m" = 1')
    assert line.startswith('policy.toml:1:1: "a\\x1b[31m": found an unknown key')


def test_control_characters_in_a_pattern_are_named_as_the_reason(problems: Problems) -> None:
    (line,) = problems('[[pf]]\nname = "a"\nmatch = { host = "kvm\\u001b" }')
    assert line.endswith(
        'pf[0].match.host: found "kvm\\x1b" (control characters), allowed is a pattern such as "kvm-*"'
    )


def test_an_unknown_key_s_suggestion_ignores_case(problems: Problems) -> None:
    assert problems("Agent = {}")[0].endswith(
        ": found an unknown key, did you mean [agent]? Allowed are version, agent, pf, bridge, guest"
    )


def test_an_empty_match_is_refused(problems: Problems) -> None:
    (line,) = problems('[[pf]]\nname = "a"\nmatch = {}')
    assert line.startswith(
        "policy.toml:3:9: pf[0].match: found an empty table, allowed is at least one of driver, path"
    )


MACS = {
    "52:54:00:00:00": False, "00:00:00:00:00:00": False, "03:54:00:00:00:00": False, "52-54-00-00-00-00": False,
    "52:54:00:00:00:{vf}": False, "52:54:00:00:00:{index.real}": False, "52:54:00:00:00:{index:99999d}": False,
    "52:54:00:00:00:{index!r}": False, "random": False, "STABLE": False,
    "stable": True, "keep": True, "52:54:00:AA:00:01": True, "52:54:00:bb:00:{index:02x}": True,
}  # fmt: skip
NAMES = {
    "": False, ".": False, "..": False, "a/b": False, "a b": False, "a:b": False, "a" * 16: False, "ä": False,
    "a\\tb": False, "a": True, "a" * 15: True, "vlan.10": True, "br-0_x": True, "...": True,
}  # fmt: skip
GUESTS = {
    "../x": False, "-x": False, "_x": False, "a b": False, "%i": False, "x" * 300: False, "a\\nb": False,
    "a\\u0000b": False, "gаst": False, "G": False, "a.b": False, "": False, "x" * 33: False,
    "x" * 32: True, "a-b_1": True, "0": True,
}  # fmt: skip
METRICS = {
    "127.0.0.1": False, ":9862": False, "::1:80": False, "[::1]": False, "host:0": False, "host:65536": False,
    "unix:relative": False, "unix:/a/../b": False, "host:80 ": False, "unix:/" + "a" * 107: False, "[::1]:65535": True,
    "": True, "localhost:9862": True, "unix:/run/vfagent/metrics.sock": True,
}  # fmt: skip
PATHS = {
    "relative": False, "/a/../b": False, "/..": False, "/a,b": False, "": False, "/": False, "/a\\nb": False,
    "/a..b/c": True, "/usr/src/i pxe": True, "/a/..b": True, "/" + "a" * 1023: False,
}  # fmt: skip
ADDRESSES = {
    "192.168.10.1": False, "192.168.10.256/24": False, "192.168.10.1/33": False, "fd00::1/129": False,
    "1::2::3/64": False, "192.168.10.0/24": False, "192.168.10.255/24": False, "10.0.0.3/30": False,
    "224.0.0.1/24": False, "0.0.0.0/0": False, "ff02::1/64": False, "01.2.3.4/24": False, "fe80::1%eth0/64": False,
    "10.0.0.2/31": True, "10.0.0.3/31": True, "10.0.0.0/32": True, "10.0.0.0/8": False, "192.168.1.0/16": True,
    "fd00::/64": True,
    "192.168.10.1/0": True, "fd00::1/64": True, "::1/128": True, "1:2:3:4:5:6:7:8/64": True, "1:2:3:4:5:6:7::/64": True,
}  # fmt: skip
URLS = {
    "iscsi:": False, "ftp://host/": False, "iscsi:a b": False, "iscsi:a\\\"b": False, "iscsi:a'b": False,
    "http://a\\nb": False, "file:/etc/passwd": False, "iscsi:a\\\\b": False, "http://": False,
    "iscsi:foo": False, "iscsi:192.168.10.1:iqn.2016-01.com.example:a": False, "iscsi:::::iqn.a": False,
    "iscsi:a::::": False, "iscsi:fd00::1::::iqn.a": False, "iscsi:a::port::iqn.a": False,
    "iscsi:[fd00::1]:6:3260:1:iqn.2016-01.com.example:a": True, "iscsi:${root}": True, "iscsi:a:::1:iqn.a": True,
    "iscsi:192.168.10.1::::iqn.2016-01.com.example:cirros": True, "https://host/disk.img?x=1&y": True,
}  # fmt: skip
DISPLAYS = {
    "127.0.0.1": False, ":0": False, "127.0.0.1:": False, "127.0.0.1:0,password=on": False, "::1:0": False,
    "127.0.0.1:99": True, "[::1]:0": True, "localhost:1": True, "127.9.9.9:1": True,
    "unix": True, "unix:/run/x": False,
}  # fmt: skip


def cases(words: dict[str, bool]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("word", "allowed"), words.items())


def check(problems: Problems, text: str, *, allowed: bool) -> None:
    lines = [line for line in problems(text) if "a second time" not in line]
    assert (not lines) == allowed, lines


@cases(MACS)
def test_a_mac_is_stable_keep_unicast_or_a_template(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    check(problems, PF + f'[[pf.vf]]\nindex = "2"\nmac = "{word}"', allowed=allowed)


@cases(NAMES)
def test_an_interface_has_a_name_the_kernel_allows(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    check(problems, f'[[bridge]]\nname = "{word}"', allowed=allowed)


@cases(GUESTS)
def test_a_guest_has_a_name_that_is_safe_everywhere(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    pf = PF + '[[pf.vf]]\ndriver = "vfio-pci"\n'
    check(problems, f'{pf}[[guest]]\nname = "{word}"\nvfs = ["a"]\nipxe.address = "dhcp"', allowed=allowed)


@cases(METRICS)
def test_metrics_are_served_at_a_port_a_socket_or_not_at_all(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    check(problems, f'agent.metrics = "{word}"', allowed=allowed)


@cases(PATHS)
def test_a_path_is_absolute_and_safe_in_qemu_s_options(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    check(problems, f'agent.ipxe_source = "{word}"', allowed=allowed)


@cases(ADDRESSES)
def test_an_address_has_a_prefix_and_can_be_a_host_s(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    check(problems, PF + VLAN + f'addresses = ["{word}"]', allowed=allowed)


@cases(URLS)
def test_a_boot_url_cannot_inject_script_commands(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    pf = PF + '[[pf.vf]]\ndriver = "vfio-pci"\n'
    check(problems, f'{pf}{GUEST}ipxe = {{ address = "dhcp", sanboot = "{word}" }}', allowed=allowed)


@cases(DISPLAYS)
def test_a_display_is_an_address_and_a_number(problems: Problems, word: str, allowed: bool) -> None:  # noqa: FBT001
    pf = PF + '[[pf.vf]]\ndriver = "vfio-pci"\n'
    check(problems, f'{pf}{GUEST}ipxe.address = "dhcp"\nvnc = "{word}"', allowed=allowed)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4", VfCount(number=4)),
        ('"max"', VfCount(percent=100)),
        ('"50%"', VfCount(percent=50)),
        ("0", VfCount(number=0)),
    ],
)
def test_a_vf_count_is_a_number_a_share_or_all(parse: Parse, text: str, count: VfCount) -> None:
    assert parse(f"{PF}vfs = {text}").pf[0].vfs == count


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("*", None),
        ("0", ((0, 0),)),
        ("0-2", ((0, 2),)),
        ("0,2,5-7", ((0, 0), (2, 2), (5, 7))),
        ("1, 0", ((1, 1), (0, 0))),
    ],
)
def test_indices_keep_their_written_order(parse: Parse, text: str, ranges: tuple[tuple[int, int], ...] | None) -> None:
    assert parse(f'{PF}[[pf.vf]]\nindex = "{text}"').pf[0].vf[0].index == IndexSet(ranges)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30.0), ("5min", 300.0), ("2h", 7200.0)])
def test_a_period_becomes_seconds(parse: Parse, text: str, seconds: float) -> None:
    assert parse(f'agent.resync = "{text}"').agent.resync_s == seconds


@pytest.mark.parametrize(("text", "mebibytes"), [("512M", 512), ("2G", 2048), ("1T", 1048576)])
def test_memory_becomes_mebibytes(parse: Parse, text: str, mebibytes: int) -> None:
    pf = PF + '[[pf.vf]]\ndriver = "vfio-pci"\n'
    assert parse(f'{pf}{GUEST}ipxe.address = "dhcp"\nmemory = "{text}"').guest[0].memory_mib == mebibytes


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("vendor", "0x8086", "8086"),
        ("device", "10C9", "10c9"),
        ("pci", "3B:00.0", "0000:3b:00.0"),
        ("pci", "3b:*", "0000:3b:*"),
        ("pci", "0000:3b:00.*", "0000:3b:00.*"),
        ("pci", "0001:*", "0001:*"),
        ("mac", "52:54:00:AA:*", "52:54:00:aa:*"),
        ("mac", "52:54:00:AA:00:01", "52:54:00:aa:00:01"),
        ("pci", "0000:3b:00.[0-3]", "0000:3b:00.[0-3]"),
        ("pci", "10000:e1:00.0", "10000:e1:00.0"),
        ("vendor", "8?8[!7]", "8?8[!7]"),
        ("driver", "[]a]*", "[]a]*"),
        ("interface", "a[[]b", "a[[]b"),
    ],
)
def test_a_pattern_is_normalized_to_the_kernel_s_spelling(parse: Parse, key: str, written: str, read: str) -> None:
    rule = parse(f'[[pf]]\nname = "a"\nmatch = {{ {key} = "{written}" }}').pf[0]
    assert getattr(rule.match, key) == read


@pytest.mark.parametrize(
    ("key", "written", "allowed"),
    [
        *[("mac", word, "a MAC address such as") for word in ("52:54:00:12:34", "52-54-00-12-34-56", "nonsense")],
        *[("pci", word, "a PCI address such as") for word in ("0000:01:00", "01", "eth0", "0000:01:20.0", "1:2:3.4")],
        *[("vendor", word, "a hardware ID such as") for word in ("86", "0x808", "80867")],
        *[(key, "0[1", 'a set of characters such as [ab], or [[] for a literal "["') for key in ("vendor", "pci")],
        *[(key, "a[!]", "a set of characters") for key in ("driver", "host", "interface", "path")],
        *[(key, word, "a pattern without spaces around it") for key in ("driver", "host") for word in (" igb", "igb ")],
    ],
)
def test_a_pattern_that_no_pf_can_match_is_refused(problems: Problems, key: str, written: str, allowed: str) -> None:
    (line,) = problems(f'[[pf]]\nname = "a"\nmatch = {{ {key} = "{written}" }}')
    assert line.startswith(f'policy.toml:3:{14 + len(key)}: pf[0].match.{key}: found "{written}", ')
    assert f"allowed is {allowed}" in line


def test_mac_keep_leaves_the_mac_unset(parse: Parse) -> None:
    assert parse(PF + '[[pf.vf]]\nmac = "keep"').pf[0].vf[0].mac is None


def test_an_ipv6_address_is_normalized_to_the_kernel_s_spelling(parse: Parse) -> None:
    rule: VlanRule = parse(PF + VLAN + 'addresses = ["FD00:0:0::01/64"]').pf[0].vlan[0]
    assert rule.addresses == ("fd00::1/64",)


def test_rules_keep_their_order(parse: Parse) -> None:
    rules: tuple[PfRule, ...] = parse(PF + PF.replace('"a"', '"b"')).pf
    assert [rule.name for rule in rules] == ["a", "b"]


@pytest.mark.parametrize(
    ("pair", "allowed"),
    [
        ('CPUQuota = "200%"', True),
        ("CPUWeight = 100", True),
        ('MemoryMax = "infinity"', True),
        ('AllowedCPUs = "0-3,8"', True),
        ("TasksMax = 64", True),
        ('TimeoutStopSec = "90s"', True),
        ('NUMAPolicy = "bind"', True),
        ('MemoryHigh = "16777215T"', True),
        ('MemoryHigh = "16777216T"', False),  # 2**64 bytes: no number of D-Bus
        ('MemorySwapMax = "99999999T"', False),
        ('MemoryMax = "999999999999G"', False),
        ('MemoryMax = "0%"', False),  # refused by systemd
        ('MemoryHigh = "1%"', True),
        ('MemoryHigh = "100%"', True),
        ('MemoryMin = "0%"', True),
        ('AllowedCPUs = "8-3"', False),  # no CPU at all, which systemd takes for all of them
        ('AllowedCPUs = "0,8-3 4"', False),
        ('CPUAffinity = "3-3,8191"', True),
        ('CPUAffinity = "0-8192"', False),
        ('NUMAMask = "1023"', True),
        ('NUMAMask = "1024"', False),
        ('AllowedMemoryNodes = "1-0"', False),
        ('Description = "a guest"', True),
        ('Description = "two\\nlines"', False),
        ('CPUQuota = "200"', False),
        ("Nice = 20", False),
        ('ExecStartPre = "/bin/sh"', False),
        ('DeviceAllow = "/dev/sda rw"', False),
        ('User = "root"', False),
    ],
)
def test_only_listed_unit_properties_are_accepted(problems: Problems, pair: str, allowed: bool) -> None:  # noqa: FBT001
    pf = PF + '[[pf.vf]]\ndriver = "vfio-pci"\n'
    check(problems, f'{pf}{GUEST}ipxe.address = "dhcp"\n[guest.unit]\n{pair}', allowed=allowed)


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ('AllowedCPUs = "0,8-3"', 'found "0,8-3", where 8-3 ends before it begins, allowed is 3-8'),
        ('NUMAMask = "1024"', 'found "1024", where 1024 is too high, allowed is at most 1023'),
        ('MemoryHigh = "99999999T"', 'found "99999999T", which is more than systemd can count'),
    ],
)
def test_a_unit_property_that_systemd_would_refuse_is_explained(problems: Problems, pair: str, text: str) -> None:
    pf = PF + '[[pf.vf]]\ndriver = "vfio-pci"\n'
    (line,) = problems(f'{pf}{GUEST}ipxe.address = "dhcp"\n[guest.unit]\n{pair}')
    assert text in line
