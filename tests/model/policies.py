# SPDX-License-Identifier: Apache-2.0
"""Generated policies, as values that validation accepts, for the generated hosts."""

from hypothesis import strategies as st

from vfagent.model.vf_settings import LinkState, VlanProtocol
from vfagent.policy.types import IndexSet, PfMatch, PfRule, Policy, VfCount, VfRule

DRIVER_WORDS = ("vfio-pci", "model_vfio_pci", "host", "none", "keep")
_INDEX_SETS = (IndexSet(), IndexSet(((0, 0),)), IndexSet(((0, 2),)), IndexSet(((1, 1), (3, 5))), IndexSet(((2, 7),)))
_MACS = (None, "stable", "52:54:00:bb:00:{index:02x}")
_GUIDS = ("stable", "02:00:00:03:00:00:41:{index:02x}")
_SWITCH = st.sampled_from((None, True, False))
_COUNTS = (
    *(VfCount(number=number) for number in range(5)),
    VfCount(percent=50),
    VfCount(percent=100),
)


@st.composite
def vf_rules(draw: st.DrawFn, drivers: tuple[str, ...] = DRIVER_WORDS) -> VfRule:
    vlan = draw(st.sampled_from((None, 0, 10, 20)))
    mac, spoof_check, trust = draw(st.sampled_from(_MACS)), draw(_SWITCH), draw(_SWITCH)
    asked = (("mac", mac), ("vlan", vlan), ("spoof_check", spoof_check or None), ("trust", trust is False or None))
    guids = draw(st.sampled_from(((None, None), (None, None), (None, None), *((guid, guid) for guid in _GUIDS))))
    both = zip(("node_guid", "port_guid"), guids, strict=True)
    names = [name for name, value in (*asked, *both) if value is not None]
    rates = draw(st.sampled_from(((None, None), (None, 1000), (100, 1000), (0, 0))))
    return VfRule(
        index=draw(st.sampled_from(_INDEX_SETS)),
        driver=draw(st.sampled_from(drivers)),
        mac=mac,
        vlan=vlan,
        vlan_protocol=draw(st.sampled_from((None, *VlanProtocol))) if vlan else None,
        qos=draw(st.sampled_from((None, 0, 3))) if vlan else None,
        spoof_check=spoof_check,
        trust=trust,
        link_state=draw(st.sampled_from((None, *LinkState))),
        node_guid=guids[0],
        port_guid=guids[1],
        rss_query=draw(_SWITCH),
        min_tx_rate=rates[0],
        max_tx_rate=rates[1],
        optional=tuple(name for name in names if draw(st.integers(0, 3)) == 0),
    )


def vf_rule_lists(drivers: tuple[str, ...] = DRIVER_WORDS) -> st.SearchStrategy[tuple[VfRule, ...]]:
    return st.lists(vf_rules(drivers), min_size=1, max_size=3).map(tuple)


def matches() -> st.SearchStrategy[PfMatch]:
    return st.sampled_from(
        (
            PfMatch(pci="*"),
            PfMatch(interface="p0f*"),
            PfMatch(pci="0000:10:00.1"),
            PfMatch(driver="igb"),
            PfMatch(path="pci-0000:20:*"),
            PfMatch(host="another*"),
        )
    )


def pf_rules(match: st.SearchStrategy[PfMatch]) -> st.SearchStrategy[PfRule]:
    return st.builds(
        PfRule,
        name=st.just("rule"),
        match=match,
        vfs=st.one_of(st.none(), st.sampled_from(_COUNTS)),
        mtu=st.sampled_from((None, 1500, 9000)),
        vf=vf_rule_lists(),
    )


def policies() -> st.SearchStrategy[Policy]:
    return st.lists(pf_rules(matches()), max_size=2).map(lambda rules: Policy(pf=tuple(rules)))


def one_rule() -> st.SearchStrategy[Policy]:
    """For every PF."""
    return pf_rules(st.just(PfMatch(pci="*"))).map(lambda rule: Policy(pf=(rule,)))


def policy_of(vfs: int | None, *rules: VfRule, mtu: int | None = None, allow_management: bool = False) -> Policy:
    count = None if vfs is None else VfCount(number=vfs)
    match = PfMatch(pci="*")
    rule = PfRule(name="rule", match=match, vfs=count, mtu=mtu, vf=rules, allow_management=allow_management)
    return Policy(pf=(rule,))
