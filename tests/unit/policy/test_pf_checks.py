# SPDX-License-Identifier: Apache-2.0
"""Checks between the keys of one [[pf]] rule."""

import pytest

from tests.unit.policy.conftest import Problems

PF = '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\nvfs = 4\n'


def rule_problems(problems: Problems, rest: str) -> list[str]:
    """Without the name of the file."""
    return [line.removeprefix("policy.toml:") for line in problems(PF + rest)]


def vf(index: str, *pairs: str) -> str:
    return "\n".join(["[[pf.vf]]", f'index = "{index}"', *pairs, ""])


def test_indices_of_two_rules_may_not_overlap(problems: Problems) -> None:
    assert rule_problems(problems, vf("0-2") + vf("3") + vf("1,2")) == [
        "10:9: pf[0].vf[2].index: found index 1 a second time, allowed is once: first used at policy.toml:6: "
        'pf "a".vf "0-2".index'
    ]


def test_a_catch_all_may_overlap_as_the_last_rule(problems: Problems) -> None:
    assert not rule_problems(problems, vf("0-2") + vf("*"))


def test_a_rule_after_a_catch_all_is_refused(problems: Problems) -> None:
    (line,) = rule_problems(problems, vf("*") + vf("1"))
    assert line.startswith('6:9: pf[0].vf[0].index: found "*" before other [[pf.vf]], allowed is "*" after them')


def test_two_catch_alls_are_refused(problems: Problems) -> None:
    assert len(rule_problems(problems, vf("*") + vf("*"))) == 1


def test_a_rule_without_an_index_is_a_catch_all(problems: Problems) -> None:
    assert len(rule_problems(problems, "[[pf.vf]]\n" + vf("1"))) == 1


def test_an_index_beyond_the_number_of_vfs_is_refused(problems: Problems) -> None:
    assert rule_problems(problems, vf("2-4")) == [
        '6:9: pf[0].vf[0].index: found "2-4", allowed is 0 to 3: the rule creates 4 VFs'
    ]


def test_no_index_is_allowed_with_0_vfs(problems: Problems) -> None:
    assert problems(PF.replace("4", "0") + vf("0"))[0].endswith("allowed is none: the rule creates 0 VFs")


def test_any_index_is_allowed_with_a_percentage_of_vfs(problems: Problems) -> None:
    assert not problems(PF.replace("4", '"50%"') + vf("200"))


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ("qos = 0", "pf[0].vf[0].qos: found qos without vlan, allowed is qos with vlan"),
        (
            'vlan_protocol = "802.1Q"',
            "pf[0].vf[0].vlan_protocol: found vlan_protocol without vlan, allowed is vlan_protocol with vlan",
        ),
        ("qos = 3\nvlan = 0", "pf[0].vf[0].qos: found 3 with vlan 0, allowed is 0: without a VLAN there is no tag"),
        (
            'vlan_protocol = "802.1ad"\nvlan = 0',
            'pf[0].vf[0].vlan_protocol: found "802.1ad" with vlan 0, allowed is "802.1Q"',
        ),
        (
            "min_tx_rate = 2\nmax_tx_rate = 1",
            "pf[0].vf[0].min_tx_rate: found 2, allowed is at most max_tx_rate, 1",
        ),
        (
            'optional = ["vlan"]',
            'pf[0].vf[0].optional[0]: found "vlan" without vlan, allowed is isolation that the rule asks for',
        ),
        (
            'trust = true\noptional = ["trust"]',
            'pf[0].vf[0].optional[0]: found "trust" without trust = false, allowed is isolation that the rule asks for',
        ),
        (
            'mac = "stable"\noptional = ["mac", "mac"]',
            'pf[0].vf[0].optional[1]: found "mac" a second time, allowed is once',
        ),
        (
            'vlan = 5\noptional = ["qos"]',
            'pf[0].vf[0].optional[0]: found "qos", allowed is "mac", "vlan", "spoof_check", "trust", '
            '"node_guid" or "port_guid"',
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(problems: Problems, pairs: str, text: str) -> None:
    (line,) = rule_problems(problems, vf("0", pairs))
    assert line.partition(": ")[2] == text


@pytest.mark.parametrize(
    "pairs",
    [
        'vlan = 5\ntrust = false\noptional = ["vlan", "trust"]',
        "vlan = 0\nqos = 0",
        "min_tx_rate = 2",
        "min_tx_rate = 2\nmax_tx_rate = 0",
        "max_tx_rate = 2",
    ],
)
def test_compatible_settings_are_accepted(problems: Problems, pairs: str) -> None:
    assert not rule_problems(problems, vf("0", pairs))


def test_a_fixed_mac_for_several_vfs_is_refused(problems: Problems) -> None:
    assert rule_problems(problems, vf("1-2", 'mac = "52:54:00:00:00:01"')) == [
        '7:7: pf[0].vf[0].mac: found "52:54:00:00:00:01", which gives VFs 1 and 2 the same MAC, allowed is'
        ' one VF per MAC, did you mean "52:54:00:00:00:{index:02x}" or "stable"?'
    ]


def test_a_template_without_index_is_refused(problems: Problems) -> None:
    assert "allowed is" in rule_problems(problems, vf("*", 'mac = "52:54:00:00:00:{}"'))[0]


def test_a_fixed_mac_for_one_vf_is_accepted(problems: Problems) -> None:
    assert not rule_problems(problems, vf("1", 'mac = "52:54:00:00:00:01"') + vf("2", 'mac = "52:54:00:00:00:02"'))


def test_a_catch_all_for_one_remaining_vf_can_have_a_fixed_mac(problems: Problems) -> None:
    assert not rule_problems(problems, vf("0-2") + vf("*", 'mac = "52:54:00:00:00:01"'))


def test_two_rules_that_give_the_same_mac_are_refused(problems: Problems) -> None:
    (line,) = rule_problems(problems, vf("0", 'mac = "52:54:00:00:00:01"') + vf("1", 'mac = "52:54:00:00:00:0{index}"'))
    assert line.startswith(
        '10:7: pf[0].vf[1].mac: found "52:54:00:00:00:0{index}", which gives VFs 0 and 1 the same MAC'
    )


def test_a_template_must_give_each_vf_a_valid_mac(problems: Problems) -> None:
    many = PF.replace("4", '"max"')
    assert not problems(PF + vf("*", 'mac = "52:54:00:00:00:0{index}"'))
    (line,) = problems(many + vf("*", 'mac = "52:54:00:00:00:0{index}"'))
    assert 'which gives VF 10 "52:54:00:00:00:010", allowed is a unicast MAC for each VF' in line
    assert not problems(many + vf("*", 'mac = "52:54:00:00:00:{index:02x}"'))
    assert problems(many + vf("256", 'mac = "52:54:00:00:00:{index:02x}"'))


def test_a_template_that_gives_a_multicast_mac_is_refused(problems: Problems) -> None:
    (line,) = rule_problems(problems, vf("*", 'mac = "{index:02x}:54:00:00:00:01"'))
    assert 'which gives VF 1 "01:54:00:00:00:01"' in line


def vlan(*pairs: str) -> str:
    return "\n".join(["[[pf.vlan]]", "id = 10", 'name = "vlan10"', *pairs, ""])


def test_addresses_on_a_bridge_port_are_refused_with_the_reason(problems: Problems) -> None:
    pairs = ('bridge = "br0"', 'take_addresses_from = "vlan10"', 'addresses = ["192.168.10.1/24"]')
    (line,) = rule_problems(problems, vlan(*pairs))
    assert line.startswith('9:23: pf[0].vlan[0].take_addresses_from: found "vlan10", a port of bridge "br0"')
    assert line.endswith("so an address on the port never answers; the addresses belong on the bridge")


def test_a_vlan_interface_in_a_bridge_can_have_addresses(problems: Problems) -> None:
    assert not rule_problems(problems, vlan('bridge = "br0"', 'addresses = ["192.168.10.1/24"]'))


def test_addresses_can_be_taken_from_the_bridge_itself(problems: Problems) -> None:
    pairs = ('bridge = "br0"', 'addresses = ["192.168.10.1/24"]', 'take_addresses_from = "br0"')
    assert not rule_problems(problems, vlan(*pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        'bridge = "vlan10"',
        'take_addresses_from = "vlan10"\naddresses = ["192.168.10.1/24"]',
        'take_addresses_from = "eth0"',
        'addresses = ["192.168.10.1/24", "192.168.10.1/24"]',
    ],
)
def test_a_vlan_interface_with_contradicting_keys_is_refused(problems: Problems, pairs: str) -> None:
    assert len(rule_problems(problems, vlan(pairs))) == 1


MOVE = 'take_addresses_from = "eth0"\naddresses = ["192.168.10.1/24", "fd00::1/64"]'


@pytest.mark.parametrize("probe", ["192.168.10.254", "fd00::2", "fe80::1"])
def test_a_neighbour_of_any_address_can_be_the_probe(problems: Problems, probe: str) -> None:
    assert not rule_problems(problems, vlan(MOVE, f'probe = "{probe}"'))


@pytest.mark.parametrize("probe", ["192.168.11.254", "fd01::2"])
def test_a_probe_that_is_no_neighbour_is_refused(problems: Problems, probe: str) -> None:
    assert rule_problems(problems, vlan(MOVE, f'probe = "{probe}"')) == [
        f'10:9: pf[0].vlan[0].probe: found "{probe}", allowed is an address in the network of one of addresses:'
        " only a neighbour can answer"
    ]


def test_a_pf_cannot_have_two_interfaces_for_one_vlan(problems: Problems) -> None:
    second = vlan().replace("vlan10", "other")
    assert rule_problems(problems, vlan() + second) == [
        "9:6: pf[0].vlan[1].id: found VLAN 10 a second time, allowed is once: first used at policy.toml:5:"
        ' pf "a".vlan "vlan10"'
    ]
    assert not rule_problems(problems, vlan() + second + 'protocol = "802.1ad"\n')


def test_a_vf_vlan_is_refused_in_switchdev_mode(problems: Problems) -> None:
    switchdev = 'eswitch = "switchdev"\n'
    assert rule_problems(problems, switchdev + vf("0", "vlan = 10")) == [
        '8:8: pf[0].vf[0].vlan: found 10 with eswitch = "switchdev", allowed is 0: VLANs are set on the bridge ports'
    ]
    assert not rule_problems(problems, switchdev + vf("0", "vlan = 0"))
    assert not rule_problems(problems, vf("0", "vlan = 10"))


def test_a_bridge_without_a_rule_is_accepted(problems: Problems) -> None:
    assert not rule_problems(problems, vlan('bridge = "docker0"'))
