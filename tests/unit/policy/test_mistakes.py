# SPDX-License-Identifier: Apache-2.0
"""Mistakes that people make in a policy: the message says what to write instead."""

import pytest

from tests.unit.policy.conftest import Parse, Problems
from vfagent.policy.warnings import warnings

PF = '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n'
VF = f'{PF}[[pf.vf]]\nindex = "0"\n'
GUEST = f'{PF}vfs = 2\n[[pf.vf]]\ndriver = "vfio-pci"\n[[guest]]\nname = "g"\n'


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (f'{PF}vfs = "4"', "4"),
        (f"{PF}vfs = 4.0", "4"),
        (f'{PF}vfs = "all"', '"max"'),
        (f'{PF}mtu = "9000"', "9000"),
        (f'{VF}vlan = "10"', "10"),
        (f'{VF}max_tx_rate = "1Gbit"', "1000"),
        (f'{VF}max_tx_rate = "2.5 gbit/s"', "2500"),
        (f'{VF}max_tx_rate = "100Mbps"', "100"),
        (f'{VF}trust = "on"', "true"),
        (f'{VF}spoof_check = "off"', "false"),
        (f'{VF}link_state = "on"', '"enable"'),
        (f"{VF}link_state = false", '"disable"'),
        (f'{VF}mac = "5254.0012.3456"', '"52:54:00:12:34:56"'),
        (f"{PF}[[pf.vf]]\nindex = 0", '"0"'),
        (f"{PF}[[pf.vf]]\nindex = [0, 1]", '"0,1"'),
        (f'{PF}[[pf.vf]]\nindex = "all"', '"*"'),
        (f'{PF}[[pf.vlan]]\nid = 1\nname = "v"\naddresses = "192.168.10.1/24"', '["192.168.10.1/24"]'),
        (f'{PF}[[pf.vlan]]\nid = 1\nname = "v"\naddresses = ["fd00::1"]', '"fd00::1/64"'),
        ('[[pf]]\nname = "a"\nmatch = { vendor = 8086 }', '"8086"'),
        ('[[pf]]\nname = "a"\nmatch = { vendor = 0x8086 }', '"8086"'),
        ('[[pf]]\nname = "a"\nmatch = { device = 0x1572, driver = "i40e" }', '"1572"'),
        ('[[pf]]\nname = "a"\nmatch = { pci = "3b:0.1" }', '"0000:3b:00.1"'),
        ('[[pf]]\nname = "a"\nmatch = { mac = "52-54-00-AA-BB-CC" }', '"52:54:00:aa:bb:cc"'),
        ('[[pf]]\nname = "my rule"\nmatch = { driver = "igb" }', '"my-rule"'),
        ("agent.resync = 300", '"300s"'),
        ('agent.resync = "5m"', '"5min"'),
        ("agent.metrics = 9862", '"127.0.0.1:9862"'),
        (f'{GUEST}vfs = "a:0"\nipxe = {{ address = "dhcp" }}', '["a:0"]'),
        (f'{GUEST}vfs = ["a:0"]\nmemory = 512\nipxe = {{ address = "dhcp" }}', '"512M"'),
        (f'{GUEST}vfs = ["a:0"]\nmemory = "2GiB"\nipxe = {{ address = "dhcp" }}', '"2G"'),
        (f'{GUEST}vfs = ["a:0"]\nunit = {{ CPUQuota = 200 }}\nipxe = {{ address = "dhcp" }}', '"200%"'),
        (
            f'{GUEST}vfs = ["a:0"]\nipxe = {{ address = "dhcp", sanboot = "iscsi://192.168.10.1/iqn.2016-01.x:a/1" }}',
            '"iscsi:192.168.10.1:::1:iqn.2016-01.x:a"',
        ),
    ],
)
def test_a_value_of_another_form_is_shown_as_it_must_be_written(problems: Problems, text: str, meant: str) -> None:
    assert [line.rpartition(", did you mean ")[2] for line in problems(text)] == [f"{meant}?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{PF}numvfs = 4", 'pf[0].numvfs: found an unknown key, did you mean "vfs"?'),
        (f"{PF}virtual-function-count = 4", 'did you mean "vfs"?'),
        (f'{VF}proto = "802.1ad"', 'did you mean "vlan_protocol"?'),
        (f'{VF}state = "auto"', 'did you mean "link_state"?'),
        (f"{VF}MACSpoofCheck = true", 'did you mean "spoof_check"?'),
        (f"{VF}VLANId = 5", 'did you mean "vlan"?'),
        ('[[pf]]\nname = "a"\nmatch = { netdev = "ens1" }', 'did you mean "interface"?'),
        ('[[pf]]\nname = "a"\nmatch = { slot = "3b:00.0" }', 'did you mean "pci"?'),
        (f"{VF}vlans = [1, 2]", "vlans: found an unknown key: a VF has one port VLAN"),
        (f"{VF}vlan = [1, 2]", "allowed is 0 to 4094: a VF has one port VLAN"),
        (f"{VF}vfs = 4", "pf[0].vf[0].vfs: found a key of [[pf]] below [[pf.vf]], allowed is it above [[pf.vf]]"),
        (f"{PF}match.bus = {{ x = 1 }}", "match"),
        ("mtu = 9000", "mtu: found a key of [[pf]] or [[bridge]] above any table, allowed is it below"),
        ('[[pf.vf]]\nindex = "0"', "pf: found [[pf.vf]] without [[pf]] above it, allowed is [[pf]] first"),
        ("[[agent]]\nresync = '5min'", "agent: found [[agent]], allowed is [agent], once"),
        (f"{PF}match = 1", "a second time"),
        ('[[pf]]\nname = "a"\nmatch = "igb"', 'match: found "igb", allowed is a table such as { driver = "igb" }'),
        (
            '[[pf]]\nname = "a"\nmatch = { driver = ["igb", "ice"] }',
            'found an array, allowed is a pattern such as "igb*": write a rule for each, or a pattern',
        ),
        (
            '[[pf]]\nname = "a"\nmatch = { path = "0000:01:00.0" }',
            'allowed is an ID_PATH such as "pci-0000:01:00.0", or the key pci instead',
        ),
        (f'{PF}vfs = 300\n[[pf.vf]]\nmac = "52:54:00:00:00:{{index:02x}}"', 'did you mean "stable"'),
        (f'{PF}vfs = 4\n[[pf.vf]]\nmac = "52:54:00:00:00:{{index}}"', 'did you mean "52:54:00:00:00:{index:02x}"?'),
        ('{ "pf": [] }', "not TOML: found JSON"),
        ("network:\n  version: 2\n  ethernets:\n    ens1: {}\n", "not TOML: found YAML"),
        ("[Match]\nDriver=igb\n\n[SR-IOV]\nVirtualFunction=0\n", "not TOML: found a file of systemd"),
    ],
)
def test_a_mistake_gets_its_cause(problems: Problems, text: str, message: str) -> None:
    assert message in problems(text)[0]


def test_a_value_that_no_form_fits_gets_no_suggestion(problems: Problems) -> None:
    for text in (f'{VF}vlan = "ten"', f"{PF}vfs = -1", f'{VF}max_tx_rate = "fast"', f'{PF}vfs = "{"9" * 5000}"'):
        (line,) = problems(text)
        assert "did you mean" not in line


@pytest.mark.parametrize("match", ['driver = "igb"', 'pci = "0000:3b:*"', 'driver = "igb", interface = "ens*"'])
def test_a_vlan_interface_of_a_rule_for_several_ports_is_warned_of(parse: Parse, match: str) -> None:
    policy = parse(f'[[pf]]\nname = "a"\nmatch = {{ {match} }}\n[[pf.vlan]]\nid = 10\nname = "v10"')
    (line,) = warnings(policy)
    assert line.startswith("rule 'a': may match several ports, and its VLAN interface 'v10' can be on one only")


@pytest.mark.parametrize(
    "match", ['interface = "ens1"', 'pci = "0000:3b:00.0"', 'driver = "igb", mac = "52:54:00:00:00:01"']
)
def test_a_vlan_interface_of_a_rule_for_one_port_is_not_warned_of(parse: Parse, match: str) -> None:
    policy = parse(f'[[pf]]\nname = "a"\nmatch = {{ {match} }}\n[[pf.vlan]]\nid = 10\nname = "v10"')
    assert not [*warnings(policy)]


def test_a_bridge_that_no_rule_makes_is_warned_of(parse: Parse) -> None:
    text = f'{PF}eswitch = "switchdev"\n[[pf.vf]]\nbridge = "br1O"\n[[bridge]]\nname = "br10"\n'
    assert [*warnings(parse(text))] == [
        "rule 'a': no [[bridge]] makes 'br1O', so the host must have it (did you mean 'br10'?)"
    ]
