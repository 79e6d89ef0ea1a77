# SPDX-License-Identifier: Apache-2.0
"""The design's example, the default policy and the examples."""

import re
import tomllib
from pathlib import Path

import pytest

from vfagent.model.vf_settings import LinkState, VlanProtocol
from vfagent.policy.reading import read_fragment
from vfagent.policy.types import (
    AgentRule,
    BridgeRule,
    EswitchMode,
    GuestRule,
    HwMode,
    IndexSet,
    IpxeRule,
    PfMatch,
    PfRule,
    Policy,
    VfCount,
    VfRule,
    VlanRule,
)
from vfagent.store.policy_files import load_files

CONFIG = Path(__file__).parents[3] / "config"

DESIGN_EXAMPLE = Policy(
    agent=AgentRule(metrics="127.0.0.1:9862", resync_s=300.0),
    pf=(
        PfRule(
            name="storage",
            match=PfMatch(driver="igb", path="pci-0000:01:00.0"),
            vfs=VfCount(number=4),
            mtu=9000,
            hwmode=HwMode.VEPA,
            eswitch=EswitchMode.LEGACY,
            vf=(
                VfRule(
                    index=IndexSet(((0, 2),)),
                    driver="vfio-pci",
                    mac="stable",
                    vlan=10,
                    vlan_protocol=VlanProtocol.DOT1Q,
                    qos=0,
                    spoof_check=True,
                    trust=False,
                    link_state=LinkState.AUTO,
                    min_tx_rate=0,
                    max_tx_rate=1000,
                ),
            ),
            vlan=(
                VlanRule(
                    id=10,
                    name="vlan10",
                    bridge="virbr0",
                    addresses=("192.168.10.1/24",),
                    take_addresses_from="virbr0",
                ),
            ),
        ),
    ),
    bridge=(BridgeRule(name="virbr0"),),
    guest=(
        GuestRule(
            name="cirros",
            vfs=("storage:0",),
            cpus=2,
            memory_mib=512,
            vnc="127.0.0.1:0",
            firmware="bios",
            restart="on-failure",
            ipxe=IpxeRule(
                address="192.168.10.10/24",
                gateway="192.168.10.1",
                sanboot="iscsi:192.168.10.1::::iqn.2016-01.com.example:cirros",
                loader="auto",
            ),
        ),
    ),
)


def test_the_design_example_becomes_the_expected_policy() -> None:
    assert load_files([Path(__file__).with_name("design_example.toml")]) == DESIGN_EXAMPLE


def test_the_default_policy_is_empty() -> None:
    assert load_files([CONFIG / "policy.toml"]) == Policy()


def test_every_commented_line_of_the_default_policy_is_valid() -> None:
    keys = re.sub(r"(?m)^# (?=\[|[a-zA-Z_]+ = )", "", (CONFIG / "policy.toml").read_text())
    fragment = read_fragment(tomllib.loads(keys))
    assert not fragment.findings
    assert fragment.agent
    assert len(fragment.pf) == len(fragment.bridge) == len(fragment.guest) == 1


@pytest.mark.parametrize("path", sorted((CONFIG / "examples").glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_is_a_valid_policy(path: Path) -> None:
    assert load_files([path]).pf
