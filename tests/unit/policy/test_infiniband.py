# SPDX-License-Identifier: Apache-2.0
"""GUIDs, and rules that match an InfiniBand port by its address."""

import pytest

from tests.unit.policy.conftest import Parse, Problems
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.pci import PciAddress
from vfagent.policy.match import HostIdentity, desired_pf, mac_seed, matches
from vfagent.policy.types import PfMatch

GUID = "02:00:00:03:00:00:41:00"
HOST = HostIdentity("node1", "0123456789abcdef0123456789abcdef")
PF = '[[pf]]\nname = "ib"\nmatch = { driver = "mlx5_core" }\nvfs = 3\n'


def address(queue_pair: str = "10:49") -> str:
    return f"00:00:{queue_pair}:fe:80:00:00:00:00:00:00:{GUID}"


def pf(mac: str) -> Pf:
    netdev = Netdev("ibp65s0", 4, mac, mac, 2044, admin_up=True)
    return Pf(
        PciAddress("0000:41:00.0"), "mlx5_core", "0x15b3", "0x101b", "0x020700", 8, autoprobe=False, netdev=netdev
    )


@pytest.mark.parametrize("pattern", [address(), address("10:50"), address().upper(), GUID, "*:41:00", "00:00:10:*"])
def test_an_ib_port_matches_by_its_address_or_guid_whatever_its_queue_pair(parse: Parse, pattern: str) -> None:
    policy = parse(PF.replace('driver = "mlx5_core"', f'mac = "{pattern}"'))
    assert matches(policy.pf[0].match, pf(address()), HOST)
    assert not matches(
        policy.pf[0].match, pf(address().replace("41:00", "41:01").replace("00:00:10", "00:01:10")), HOST
    )


def test_an_ethernet_port_matches_by_its_whole_mac_alone() -> None:
    assert not matches(PfMatch(mac="00:03:00:00:41:00"), pf(address()), HOST)
    assert not matches(PfMatch(mac=GUID), pf("00:03:00:00:41:00"), HOST)


@pytest.mark.parametrize("mac", ["00:00:10:49:fe:80", GUID, address()])
def test_addresses_of_all_three_lengths_are_accepted(problems: Problems, mac: str) -> None:
    assert not problems(PF.replace('driver = "mlx5_core"', f'mac = "{mac}"'))


@pytest.mark.parametrize("mac", [GUID[3:], f"00:{GUID}", address()[3:]])
def test_addresses_of_other_lengths_are_refused(problems: Problems, mac: str) -> None:
    (line,) = problems(PF.replace('driver = "mlx5_core"', f'mac = "{mac}"'))
    assert "an InfiniBand port's GUID or address, or a pattern" in line


def test_stable_guids_are_the_same_after_a_boot_and_may_serve_node_and_port(parse: Parse) -> None:
    policy = parse(PF + '[[pf.vf]]\nnode_guid = "stable"\nport_guid = "stable"')
    desired, later = (desired_pf(policy, pf(address(pair)), HOST) for pair in ("10:49", "10:50"))
    assert desired is not None
    assert desired == later
    guids = [(vf.settings.node_guid, vf.settings.port_guid) for vf in desired.vfs]
    assert guids[0] == ("b6:e5:b8:a9:d5:05:b1:3f",) * 2
    assert len(set(guids)) == 3
    assert all(int(node.split(":")[0], 16) & 3 == 2 for node, _ in guids if node)
    assert mac_seed(HOST.machine_id, pf(address())) != mac_seed(
        HOST.machine_id, pf(address().replace("41:00", "41:01"))
    )


def test_guids_of_a_template_have_their_index_and_keep_leaves_them(parse: Parse) -> None:
    policy = parse(PF + '[[pf.vf]]\nnode_guid = "keep"\nport_guid = "02:00:00:03:00:00:4A:{index:02X}"')
    desired = desired_pf(policy, pf(address()), HOST)
    assert desired is not None
    assert [vf.settings.port_guid for vf in desired.vfs] == [f"02:00:00:03:00:00:4a:0{index}" for index in range(3)]
    assert [vf.settings.node_guid for vf in desired.vfs] == [None] * 3


@pytest.mark.parametrize(
    ("key", "text", "allowed"),
    [
        ("node_guid", "00:00:00:00:00:00:00:00", "(all zero), allowed is"),
        ("port_guid", "52:54:00:00:00:01", 'allowed is "stable", "keep", a GUID of 8 bytes'),
        ("port_guid", "0x0200000300004100", 'allowed is "stable", "keep", a GUID of 8 bytes'),
        ("port_guid", "02:00:00:03:00:00:41:{vf}", "only {index} may stand in braces"),
        ("port_guid", "Stable", 'did you mean "stable"?'),
        ("port_guid", GUID, "gives VFs 0 and 1 the same GUID, allowed is one VF per GUID"),
        ("node_guid", "{index:02x}:{index:02x}:00", 'gives VF 0 "00:00:00", allowed is a GUID of 8 bytes for each VF'),
    ],
)
def test_bad_guids_are_refused(problems: Problems, key: str, text: str, allowed: str) -> None:
    (line,) = problems(f'{PF}[[pf.vf]]\n{key} = "{text}"')
    assert allowed in line


@pytest.mark.parametrize(
    "match", [f'mac = "{address()}"', f'mac = "{GUID}"', 'interface = "ibp*"', 'interface = "ib0"']
)
@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ('mac = "stable"', 'found mac = "stable"'),
        ("vlan = 10", "found vlan = 10"),
        ("spoof_check = true", "found spoof_check = true"),
        ("trust = true", "found trust = true"),
        ("max_tx_rate = 100", "found max_tx_rate = 100"),
    ],
)
def test_what_infiniband_lacks_is_refused_where_the_match_says_infiniband(
    problems: Problems, match: str, pair: str, text: str
) -> None:
    (line,) = problems(PF.replace('driver = "mlx5_core"', match) + f"[[pf.vf]]\n{pair}")
    assert line.startswith(
        f"policy.toml:6:{len(pair.partition('=')[0]) + 3}: pf[0].vf[0].{pair.split()[0]}: {text} where match."
    )
    assert "allowed are node_guid, port_guid and link_state: InfiniBand has no" in line


@pytest.mark.parametrize(
    "pair",
    ['mac = "keep"', "vlan = 0", "spoof_check = false", "trust = false", "min_tx_rate = 0", 'link_state = "auto"'],
)
def test_what_is_so_on_infiniband_anyway_is_accepted(problems: Problems, pair: str) -> None:
    assert not problems(PF.replace('driver = "mlx5_core"', 'interface = "ib*"') + f"[[pf.vf]]\n{pair}")


@pytest.mark.parametrize("match", ['interface = "ibond0"', 'interface = "enp*"', 'driver = "mlx5_core"', 'mac = "*"'])
def test_a_match_that_may_be_an_ethernet_port_refuses_nothing(problems: Problems, match: str) -> None:
    policy = PF.replace('driver = "mlx5_core"', match) + '[[pf.vf]]\nmac = "stable"\nnode_guid = "stable"'
    assert not problems(policy)


def test_a_guid_is_refused_where_the_match_says_ethernet(problems: Problems) -> None:
    policy = PF.replace('driver = "mlx5_core"', 'mac = "00:1b:21:aa:bb:cc"')
    (line,) = problems(policy + '[[pf.vf]]\nport_guid = "stable"')
    assert line.endswith("found port_guid where match.mac has 6 bytes, allowed is mac: an Ethernet VF has no GUID")


def test_a_vlan_interface_is_refused_where_the_match_says_infiniband(problems: Problems) -> None:
    policy = PF.replace('driver = "mlx5_core"', 'interface = "ib0"')
    (line,) = problems(policy + '[[pf.vlan]]\nid = 10\nname = "vlan10"')
    assert "allowed is none: IPoIB has partitions instead" in line
