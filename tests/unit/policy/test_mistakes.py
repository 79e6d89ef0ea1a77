# SPDX-License-Identifier: Apache-2.0
"""Mistakes that people make in a policy: the message says what to write instead."""

import pytest

from tests.unit.policy.conftest import Parse, Problems, Warned
from vfagent.errors import PolicyError

PF = '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n'
VF = f'{PF}[[pf.vf]]\nindex = "0"\n'
VLAN = f'{PF}[[pf.vlan]]\nid = 10\nname = "v10"\n'
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
        (f'{GUEST}vfs = ["a:0"]\nunit = {{ TimeoutStopSec = "5m" }}\nipxe = {{ address = "dhcp" }}', '"5min"'),
        (f'{GUEST}vfs = ["a:0"]\nunit = {{ TimeoutStopSec = "2 hours" }}\nipxe = {{ address = "dhcp" }}', '"2h"'),
        ("agent.metrics = 9862", '"127.0.0.1:9862"'),
        (f'{GUEST}vfs = "a:0"\nipxe = {{ address = "dhcp" }}', '["a:0"]'),
        (f'{GUEST}vfs = ["a:0"]\nmemory = 512\nipxe = {{ address = "dhcp" }}', '"512M"'),
        (f'{GUEST}vfs = ["a:0"]\nmemory = "2GiB"\nipxe = {{ address = "dhcp" }}', '"2G"'),
        (f'{GUEST}vfs = ["a:0"]\nunit = {{ CPUQuota = 200 }}\nipxe = {{ address = "dhcp" }}', '"200%"'),
        (f"{PF}vfs = 0.5", '"50%"'),
        (f'{PF}vfs = "50 %"', '"50%"'),
        (f'{PF}vfs = "0%"', "0"),
        (f"{PF}eswitch = true", '"switchdev"'),
        (f"{PF}fdb = false", '"off"'),
        (f'{VF}vlan = "none"', "0"),
        (f"{VF}trust = 1", "true"),
        (f'{VF}link_state = "up"', '"enable"'),
        (f"{VF}vlan = 3\nvlan_protocol = 0x88a8", '"802.1ad"'),
        (f'{VF}vlan = 3\nvlan_protocol = "dot1q"', '"802.1Q"'),
        (f'{VF}driver = "iavf.ko"', '"iavf"'),
        (f'{VF}mac = "random"', '"stable"'),
        (f'{VF}mac = ""', '"keep"'),
        (f'{VF}mac = "53:54:00:12:34:56"', '"52:54:00:12:34:56"'),
        (f'{VF}mac = "ff:ff:ff:ff:ff:ff"', '"stable"'),
        (f'{VF}mac = "52:54:00:bb:00:${{vf}}"', '"52:54:00:bb:00:{index:02x}"'),
        (f'{VF}mac = "52:54:00:bb:00:%02x"', '"52:54:00:bb:00:{index:02x}"'),
        (f'{VF}mac = "52:54:00:bb:00:*"', '"52:54:00:bb:00:{index:02x}"'),
        (f'{PF}[[pf.vf]]\nindex = ["0", "1"]', '"0,1"'),
        (f'{PF}[[pf.vf]]\nindex = "0..3"', '"0-3"'),
        (f'{PF}[[pf.vf]]\nindex = "0:3"', '"0-3"'),
        (f'{PF}[[pf.vf]]\nindex = "0;2"', '"0,2"'),
        (f'{PF}[[pf.vf]]\nindex = "vf0"', '"0"'),
        ('[[pf]]\nname = "a"\nmatch = { vendor = "Intel" }', '"8086"'),
        ('[[pf]]\nname = "a"\nmatch = { pci = "pci-0000:3b:00.1" }', '"0000:3b:00.1"'),
        ('[[pf]]\nname = "a"\nmatch = { pci = "0000:3b:00" }', '"0000:3b:00.*"'),
        ('[[pf]]\nname = "a"\nmatch = { mac = "90:e2:ba" }', '"90:e2:ba:*"'),
        (f'{VLAN}addresses = ["192.168.1.2/255.255.255.0"]', '"192.168.1.2/24"'),
        (f'{VLAN}addresses = ["192.168.01.2/24"]', '"192.168.1.2/24"'),
        (f'{VLAN}addresses = ["192.168.1.0/24"]', '"192.168.1.1/24"'),
        ('agent.resync = "1d"', '"24h"'),
        ('agent.resync = "1h30min"', '"90min"'),
        ('agent.metrics = ":9862"', '"127.0.0.1:9862"'),
        ('agent.metrics = "http://127.0.0.1:9862/metrics"', '"127.0.0.1:9862"'),
        ('agent.metrics = "::1:9862"', '"[::1]:9862"'),
        ('agent.metrics = "/run/metrics.sock"', '"unix:/run/metrics.sock"'),
        ("agent.metrics = false", '""'),
        (f'{GUEST}vfs = ["a[0]"]\nipxe = {{ address = "dhcp" }}', '"a:0"'),
        (f'{GUEST}vfs = ["a:*"]\nipxe = {{ address = "dhcp" }}', '"a"'),
        (f'{GUEST}vfs = ["a:0"]\nmemory = "1.5G"\nipxe = {{ address = "dhcp" }}', '"1536M"'),
        (f'{GUEST}vfs = ["a:0"]\nmemory = "524288K"\nipxe = {{ address = "dhcp" }}', '"512M"'),
        (f'{GUEST}vfs = ["a:0"]\nmemory = "512"\nipxe = {{ address = "dhcp" }}', '"512M"'),
        (f'{GUEST}vfs = ["a:0"]\nfirmware = "OVMF"\nipxe = {{ address = "dhcp" }}', '"uefi"'),
        (f'{GUEST}vfs = ["a:0"]\nrestart = true\nipxe = {{ address = "dhcp" }}', '"always"'),
        (f'{GUEST}vfs = ["a:0"]\nvnc = ":0"\nipxe = {{ address = "dhcp" }}', '"127.0.0.1:0"'),
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
        (f"{VF}vf = 0", 'did you mean "index"?'),
        (f'{VF}query_rss = "on"', 'did you mean "rss_query"?'),
        ('[[pf]]\nname = "a"\nmatch = { pfNames = "ens1" }', 'did you mean "interface"?'),
        ('[[pf]]\nname = "a"\nmatch = { permaddr = "02:00:00:00:00:01" }', 'did you mean "mac"?'),
        (f'{PF}deviceType = "vfio-pci"', "a VF's driver is driver in its [[pf.vf]]"),
        ('[[guest]]\nname = "g"\nhostdev = "0000:3b:02.0"', 'did you mean "vfs"?'),
        ('[[guest]]\nname = "g"\n[[guest.disk]]\npath = "rbd:pool/image"', "a network disk: map it to a block device"),
        (
            f'{PF}vfs = 1\n[[pf.vf]]\ndriver = "vfio-pci"\n[[guest]]\nname = "g"\nvfs = ["a"]\n'
            'ipxe.address = "fd00::5/64"\n'
            'ipxe.sanboot = "iscsi:fd00::1::3260:1:iqn.2020-01.com.example:a"',
            "one of IPv6 is written in brackets, [fd00::1]",
        ),
        (f'{VF}proto = "802.1ad"', 'did you mean "vlan_protocol"?'),
        (f'{VF}state = "auto"', 'did you mean "link_state"?'),
        (f"{VF}MACSpoofCheck = true", 'did you mean "spoof_check"?'),
        (f"{VF}VLANId = 5", 'did you mean "vlan"?'),
        ('[[pf]]\nname = "a"\nmatch = { netdev = "ens1" }', 'did you mean "interface"?'),
        ('[[pf]]\nname = "a"\nmatch = { slot = "3b:00.0" }', 'did you mean "pci"?'),
        (f"{VF}vlans = [1, 2]", "vlans: found an unknown key: a VF has one port VLAN"),
        (f"{VF}vlan = [1, 2]", "allowed is 0 to 4094: a VF has one port VLAN"),
        (f"{VF}vfs = 4", "pf[0].vf[0].vfs: found a key of [[pf]] below [[pf.vf]]: move it above [[pf.vf]]"),
        (f"{PF}match.bus = {{ x = 1 }}", "match"),
        (
            "mtu = 9000",
            "mtu: found a key of [[pf]] or [[bridge]] above any table: write mtu below the one that is meant",
        ),
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
        ("[connection]\nid=ens1\n[sriov]\ntotal-vfs=4\n", "not TOML: found a keyfile of NetworkManager"),
        ("auto ens1\niface ens1 inet manual\n", "not TOML: found a file of ifupdown"),
        ("DEVICE=ens1\nONBOOT=yes\n", "not TOML: found a shell's variables, as in ifcfg files"),
        ("options igb max_vfs=7\n", "not TOML: found options of a kernel module"),
        ('ACTION=="add", SUBSYSTEM=="net"\n', "not TOML: found a udev rule"),
        ("ip link set ens1 vf 0 vlan 10\n", "not TOML: found a shell's command"),
        ("<domain type='kvm'/>\n", "not TOML: found XML"),
        (f"```toml\n{PF}```\n", "not TOML: found a fence of Markdown"),
        (f"{PF}<<<<<<< HEAD\nvfs = 4\n", "not TOML: found a conflict that git left"),
        (f"{PF}trust = true", "found a key of [[pf.vf]] in [[pf]]: write trust below [[pf.vf]]"),
        (f'{PF}interface = "ens1"', "found a key of match in [[pf]], allowed is match = { interface = … }"),
        (f'{PF}driver = "igb"', "found a key of [pf.match] and [[pf.vf]] in [[pf]]"),
        (f"{PF}vlan = 10", "allowed is a table for each: [[pf.vlan]] above its keys, or vlan below [[pf.vf]]"),
        (f'{PF}[[vf]]\nindex = "0"', "found vf as a table of its own, allowed is [[pf.vf]], below its [[pf]]"),
        ("[metrics]\nlisten = 1", "found metrics as a table, allowed is metrics = … below [agent]"),
        (f"{PF}vfs = 4\n[[pf.vfs]]\nindex = 1", "it has a value in line 4, did you mean [[pf.vf]]?"),
        ('[[nic]]\nbridge = "a"', "found nic as a table of its own, allowed is [[guest.nic]], below its [[guest]]"),
        ('[[vm]]\nname = "a"', "did you mean [[guest]]?"),
        ('[[bridge]]\nname = "b"\nports = ["v"]', "found an unknown key: a VLAN interface and a VF in switchdev mode"),
        (f'{VLAN}gateway = "192.168.1.1"', "found an unknown key: vfagent sets no routes"),
        (f"{PF}enabled = true", "found an unknown key: a rule is active while it is in the policy"),
        (
            f'{VF}mac = ["52:54:00:00:00:01", "52:54:00:00:00:02"]',
            'write [[pf.vf]] for each VF, with its index, or "stable"',
        ),
    ],
)
def test_a_mistake_gets_its_cause(problems: Problems, text: str, message: str) -> None:
    assert message in problems(text)[0]


def test_a_rule_is_named_and_not_numbered(parse: Parse) -> None:
    rules = f'{PF}vfs = 4\n[[pf.vf]]\nindex = "0"\n[[pf.vf]]\nindex = "0"\n[[guest]]\nmemory = 1'
    with pytest.raises(PolicyError) as caught:
        parse(rules)
    overlap, nameless, *_ = (line.partition("policy.toml:")[2] for line in caught.value.problems)
    assert overlap.startswith('8:9: pf "a".vf "0".index: found index 0 a second time')
    assert overlap.endswith(': pf "a".vf "0".index')
    assert nameless.startswith("9:1: guest[0].name: found nothing")


def test_a_value_that_no_form_fits_gets_no_suggestion(problems: Problems) -> None:
    for text in (
        f'{VF}vlan = "ten"',
        f'{PF}[[pf.vf]]\nindex = "70000"',
        f"{PF}vfs = -1",
        f'{VF}max_tx_rate = "fast"',
        f'{PF}vfs = "{"9" * 5000}"',
        f"{VF}driver = true",
    ):
        (line,) = problems(text)
        assert "did you mean" not in line


@pytest.mark.parametrize("match", ['driver = "igb"', 'pci = "0000:3b:*"', 'driver = "igb", interface = "ens*"'])
def test_a_vlan_interface_of_a_rule_for_several_ports_is_warned_of(warned: Warned, match: str) -> None:
    (line,) = warned(f'[[pf]]\nname = "a"\nmatch = {{ {match} }}\n[[pf.vlan]]\nid = 10\nname = "v10"')
    text = 'may match several ports, and the VLAN interface "v10" can be on one only'
    assert line.startswith(f'policy.toml:3:9: pf "a".match: {text}')


@pytest.mark.parametrize(
    "match", ['interface = "ens1"', 'pci = "0000:3b:00.0"', 'driver = "igb", mac = "52:54:00:00:00:01"']
)
def test_a_vlan_interface_of_a_rule_for_one_port_is_not_warned_of(warned: Warned, match: str) -> None:
    assert not warned(f'[[pf]]\nname = "a"\nmatch = {{ {match} }}\n[[pf.vlan]]\nid = 10\nname = "v10"')


def test_a_bridge_that_no_rule_makes_is_warned_of(warned: Warned) -> None:
    text = f'{PF}eswitch = "switchdev"\n[[pf.vf]]\nbridge = "br1O"\n[[bridge]]\nname = "br10"\n'
    (line,) = warned(text)
    assert line.startswith('policy.toml:6:10: pf "a".vf "*".bridge: no [[bridge]] makes "br1O", so the host must have')
    assert line.endswith('it, did you mean "br10"?')


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[agent]\nresync = '5min'", "no [[pf]] rule: every NIC is left as it is"),
        (
            f'{PF}[[pf]]\nname = "b"\nmatch = {{ driver = "igb", interface = "ens1" }}',
            'pf "b".match: the rule never applies, as rule "a" before it matches all that it matches',
        ),
        (
            f'[[pf]]\nname = "all"\nmatch = {{ driver = "*" }}\n{PF}',
            'pf "a".match: the rule never applies, as rule "all" before it matches all that it matches',
        ),
        (
            '[[pf]]\nname = "a"\nmatch = { driver = "igb|ixgbe" }',
            'match.driver: "igb|ixgbe" is no pattern as a shell has',
        ),
        (
            '[[pf]]\nname = "a"\nmatch = { interface = "ens.*" }',
            'match.interface: "ens.*" is no pattern as a shell has',
        ),
        ('[[pf]]\nname = "a"\nmatch = { driver = "!igb" }', 'match.driver: "!igb" is no pattern as a shell has'),
        ('[[pf]]\nname = "a"\nmatch = { driver = "$DRIVER" }', 'match.driver: "$DRIVER" is no pattern as a shell has'),
        (
            '[[pf]]\nname = "a"\nmatch = { interface = "ens1f0#0-3" }',
            'names VFs as SR-IOV operators do: here it is [[pf.vf]] with index = "0-3"',
        ),
        ('[[pf]]\nname = "a"\nmatch = { driver = "igbvf" }', '"igbvf" is a driver of VFs: that of the PF is "igb"'),
        ('[[pf]]\nname = "a"\nmatch = { path = "/sys/class/net/a" }', '"/sys/class/net/a" is no ID_PATH'),
    ],
)
def test_what_is_rarely_meant_is_warned_of(warned: Warned, text: str, warning: str) -> None:
    (line,) = warned(text)
    assert warning in line


@pytest.mark.parametrize(
    "second", ['driver = "ice"', 'driver = "i?b"', 'driver = "igb*"', 'interface = "ens1"', 'driver = "igb-uio"']
)
def test_a_later_rule_that_may_apply_is_not_warned_of(warned: Warned, second: str) -> None:
    assert not warned(f'{PF}[[pf]]\nname = "b"\nmatch = {{ {second} }}')
