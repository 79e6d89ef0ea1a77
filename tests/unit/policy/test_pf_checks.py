# SPDX-License-Identifier: Apache-2.0
"""What must hold between the keys of one [[pf]] rule."""

import pytest

from tests.unit.policy.conftest import Problems

PF = '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\nvfs = 4\n'


def logged(problems: Problems, rest: str) -> list[str]:
    """Without the name of the file."""
    return [line.removeprefix("policy.toml:") for line in problems(PF + rest)]


def vf(index: str, *pairs: str) -> str:
    return "\n".join(["[[pf.vf]]", f'index = "{index}"', *pairs, ""])


def test_indices_of_two_rules_may_not_overlap(problems: Problems) -> None:
    assert logged(problems, vf("0-2") + vf("3") + vf("1,2")) == [
        "10:9: pf[0].vf[2].index: found index 1 a second time, allowed is once: first used at policy.toml:6: "
        "pf[0].vf[0].index"
    ]


def test_a_catch_all_may_overlap_as_the_last_rule(problems: Problems) -> None:
    assert not logged(problems, vf("0-2") + vf("*"))


def test_rules_after_a_catch_all_would_never_be_used(problems: Problems) -> None:
    (line,) = logged(problems, vf("*") + vf("1"))
    assert line.startswith('6:9: pf[0].vf[0].index: found "*" before other rules, allowed is "*" as the last')


def test_two_catch_alls_are_refused(problems: Problems) -> None:
    assert len(logged(problems, vf("*") + vf("*"))) == 1


def test_a_rule_without_an_index_is_a_catch_all(problems: Problems) -> None:
    assert len(logged(problems, "[[pf.vf]]\n" + vf("1"))) == 1


def test_an_index_beyond_the_number_of_vfs_is_refused(problems: Problems) -> None:
    assert logged(problems, vf("2-4")) == [
        '6:9: pf[0].vf[0].index: found "2-4", allowed is 0 to 3: the rule creates 4 VFs'
    ]


def test_no_index_fits_a_rule_without_vfs(problems: Problems) -> None:
    assert problems(PF.replace("4", "0") + vf("0"))[0].endswith("allowed is none: the rule creates 0 VFs")


def test_any_index_fits_a_share_of_the_card_s_vfs(problems: Problems) -> None:
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
    ],
)
def test_settings_that_contradict_each_other_are_refused(problems: Problems, pairs: str, text: str) -> None:
    (line,) = logged(problems, vf("0", pairs))
    assert line.partition(": ")[2] == text


@pytest.mark.parametrize(
    "pairs", ["vlan = 0\nqos = 0", "min_tx_rate = 2", "min_tx_rate = 2\nmax_tx_rate = 0", "max_tx_rate = 2"]
)
def test_settings_that_agree_are_taken(problems: Problems, pairs: str) -> None:
    assert not logged(problems, vf("0", pairs))


def test_a_fixed_mac_for_several_vfs_is_refused(problems: Problems) -> None:
    assert logged(problems, vf("1-2", 'mac = "52:54:00:00:00:01"')) == [
        '7:7: pf[0].vf[0].mac: found "52:54:00:00:00:01", which gives VFs 1 and 2 the same MAC, allowed is'
        " one VF per MAC"
    ]


def test_a_template_that_names_no_index_is_a_fixed_mac(problems: Problems) -> None:
    assert "allowed is" in logged(problems, vf("*", 'mac = "52:54:00:00:00:{}"'))[0]


def test_a_fixed_mac_for_one_vf_is_taken(problems: Problems) -> None:
    assert not logged(problems, vf("1", 'mac = "52:54:00:00:00:01"') + vf("2", 'mac = "52:54:00:00:00:02"'))


def test_a_fixed_mac_in_a_catch_all_is_taken_where_one_vf_is_left(problems: Problems) -> None:
    assert not logged(problems, vf("0-2") + vf("*", 'mac = "52:54:00:00:00:01"'))


def test_two_rules_that_give_one_mac_are_refused(problems: Problems) -> None:
    (line,) = logged(problems, vf("0", 'mac = "52:54:00:00:00:01"') + vf("1", 'mac = "52:54:00:00:00:0{index}"'))
    assert line.startswith(
        '10:7: pf[0].vf[1].mac: found "52:54:00:00:00:0{index}", which gives VFs 0 and 1 the same MAC'
    )


def test_a_template_gives_a_valid_mac_for_each_vf_it_is_for(problems: Problems) -> None:
    many = PF.replace("4", '"max"')
    assert not problems(PF + vf("*", 'mac = "52:54:00:00:00:0{index}"'))
    (line,) = problems(many + vf("*", 'mac = "52:54:00:00:00:0{index}"'))
    assert 'which gives VF 10 "52:54:00:00:00:010", allowed is a unicast MAC for each VF' in line
    assert not problems(many + vf("*", 'mac = "52:54:00:00:00:{index:02x}"'))
    assert problems(many + vf("256", 'mac = "52:54:00:00:00:{index:02x}"'))


def test_a_template_that_gives_a_multicast_mac_is_refused(problems: Problems) -> None:
    (line,) = logged(problems, vf("*", 'mac = "{index:02x}:54:00:00:00:01"'))
    assert 'which gives VF 1 "01:54:00:00:00:01"' in line


def vlan(*pairs: str) -> str:
    return "\n".join(["[[pf.vlan]]", "id = 10", 'name = "vlan10"', *pairs, ""])


def test_an_address_asked_for_on_a_bridge_port_explains_itself(problems: Problems) -> None:
    pairs = ('bridge = "br0"', 'take_addresses_from = "vlan10"', 'addresses = ["192.168.10.1/24"]')
    (line,) = logged(problems, vlan(*pairs))
    assert line.startswith('9:23: pf[0].vlan[0].take_addresses_from: found "vlan10", a port of bridge "br0"')
    assert line.endswith("so an address on the port never answers; the addresses belong on the bridge")


def test_a_vlan_device_in_a_bridge_may_have_addresses_for_the_bridge_holds_them(problems: Problems) -> None:
    assert not logged(problems, vlan('bridge = "br0"', 'addresses = ["192.168.10.1/24"]'))


def test_addresses_may_be_taken_from_the_bridge_itself(problems: Problems) -> None:
    pairs = ('bridge = "br0"', 'addresses = ["192.168.10.1/24"]', 'take_addresses_from = "br0"')
    assert not logged(problems, vlan(*pairs))


@pytest.mark.parametrize(
    "pairs",
    [
        'bridge = "vlan10"',
        'take_addresses_from = "vlan10"\naddresses = ["192.168.10.1/24"]',
        'take_addresses_from = "eth0"',
        'addresses = ["192.168.10.1/24", "192.168.10.1/24"]',
    ],
)
def test_a_vlan_that_makes_no_sense_is_refused(problems: Problems, pairs: str) -> None:
    assert len(logged(problems, vlan(pairs))) == 1


MOVE = 'take_addresses_from = "eth0"\naddresses = ["192.168.10.1/24", "fd00::1/64"]'


@pytest.mark.parametrize("probe", ["192.168.10.254", "fd00::2", "fe80::1"])
def test_a_neighbour_of_any_address_may_be_what_must_answer(problems: Problems, probe: str) -> None:
    assert not logged(problems, vlan(MOVE, f'probe = "{probe}"'))


@pytest.mark.parametrize("probe", ["192.168.11.254", "fd01::2"])
def test_an_address_that_can_never_answer_is_refused(problems: Problems, probe: str) -> None:
    assert logged(problems, vlan(MOVE, f'probe = "{probe}"')) == [
        f'10:9: pf[0].vlan[0].probe: found "{probe}", allowed is an address in the network of one of addresses:'
        " only a neighbour can answer"
    ]


def test_a_vlan_is_one_device_s_of_a_pf(problems: Problems) -> None:
    second = vlan().replace("vlan10", "other")
    assert logged(problems, vlan() + second) == [
        "9:6: pf[0].vlan[1].id: found VLAN 10 a second time, allowed is once: first used at policy.toml:5:"
        " pf[0].vlan[0]"
    ]
    assert not logged(problems, vlan() + second + 'protocol = "802.1ad"\n')


def test_a_vf_s_vlan_is_a_thing_of_the_legacy_mode(problems: Problems) -> None:
    switchdev = 'eswitch = "switchdev"\n'
    assert logged(problems, switchdev + vf("0", "vlan = 10")) == [
        '8:8: pf[0].vf[0].vlan: found 10 with eswitch = "switchdev", allowed is 0: VLANs are set on the bridge ports'
    ]
    assert not logged(problems, switchdev + vf("0", "vlan = 0"))
    assert not logged(problems, vf("0", "vlan = 10"))


def test_a_bridge_that_no_rule_declares_is_somebody_else_s(problems: Problems) -> None:
    assert not logged(problems, vlan('bridge = "docker0"'))
