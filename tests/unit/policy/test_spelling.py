# SPDX-License-Identifier: Apache-2.0
"""Suggestions for unknown words."""

import pytest

from tests.unit.policy.conftest import Problems
from vfagent.policy.spelling import nearest
from vfagent.policy.types import AgentRule, GuestRule, PfRule, VfRule
from vfagent.policy.value_types import declared

PF = '[[pf]]\nname = "a"\nmatch = { driver = "igb" }\n'


@pytest.mark.parametrize(
    ("of", "word", "meant"),
    [
        (PfRule, "vsf", "vfs"),
        (PfRule, "vf_count", None),
        (PfRule, "MTU", "mtu"),
        (PfRule, "eswich", "eswitch"),
        (VfRule, "vlan_id", "vlan"),
        (VfRule, "mac_address", "mac"),
        (VfRule, "spoofchk", "spoof_check"),
        (VfRule, "max_rate", "max_tx_rate"),
        (VfRule, "link", "link_state"),
        (VfRule, "x", None),
        (AgentRule, "resinc", "resync"),
        (GuestRule, "memoyr", "memory"),
        (GuestRule, "network", None),
    ],
)
def test_the_nearest_key_is_suggested_for_a_mistyped_one(of: type, word: str, meant: str | None) -> None:
    assert nearest(word, declared(of)) == meant


@pytest.mark.parametrize(
    ("pair", "meant"),
    [
        ('mac = "stbale"', "stable"),
        ('mac = "Stable"', "stable"),
        ('mac = "kepe"', "keep"),
        ('link_state = "enabled"', "enable"),
        ('vlan_protocol = "802.1q"', "802.1Q"),
    ],
)
def test_the_nearest_keyword_is_suggested_for_a_mistyped_one(problems: Problems, pair: str, meant: str) -> None:
    (line,) = problems(f"{PF}[[pf.vf]]\nvlan = 1\n{pair}")
    assert line.endswith(f', did you mean "{meant}"?')


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        *[(word, "vfio-pci") for word in ("vfio_pci", "vfio", "VFIO-PCI", "vfio-pcii")],
        *[("Host", "host"), ("hots", "host"), ("non", "none"), ("None", "none"), ("kepe", "keep")],
        *[(word, "host") for word in ("auto", "Default", "kernel", "netdevice", "native")],
        *[("dpdk", "vfio-pci"), ("passthrough", "vfio-pci"), ("unmanaged", "keep"), ("off", "none")],
    ],
)
def test_a_misspelled_driver_keyword_is_refused(problems: Problems, word: str, meant: str) -> None:
    (line,) = problems(f'{PF}[[pf.vf]]\ndriver = "{word}"')
    assert line == (
        f'policy.toml:5:10: pf[0].vf[0].driver: found "{word}", allowed is "vfio-pci", "host", "keep", "none", or the'
        f' name of a driver, did you mean "{meant}"?'
    )


@pytest.mark.parametrize(
    "word",
    [
        *("vfio-pci", "host", "keep", "none", "iavf", "mlx5_vfio_pci", "xe-vfio-pci", "hisi_acc_vfio_pci"),
        *("virtio-pci", "pci-stub", "igb_uio", "uio_pci_generic", "host1x"),
    ],
)
def test_any_other_driver_name_is_accepted(problems: Problems, word: str) -> None:
    assert not problems(f'{PF}[[pf.vf]]\ndriver = "{word}"')


def test_max_is_suggested_for_a_mistyped_number_of_vfs(problems: Problems) -> None:
    assert problems(f'{PF}vfs = "Max"')[0].endswith(', did you mean "max"?')


def test_a_value_unlike_any_keyword_gets_no_suggestion(problems: Problems) -> None:
    assert "did you mean" not in problems(f'{PF}[[pf.vf]]\nmac = "52:54:00"')[0]


def test_a_very_long_word_gets_no_suggestion(problems: Problems) -> None:
    assert "did you mean" not in problems(f"{'a' * 10_000} = 1")[0]
