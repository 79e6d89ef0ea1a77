# SPDX-License-Identifier: Apache-2.0
"""The desired state of one PF: the first rule that matches it, with counts, patterns and MACs resolved."""

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from vfagent.frozen import frozen
from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.port_names import has_vfs
from vfagent.model.vf_parameters import ALLOWED_BY, vfs_of
from vfagent.model.vf_settings import TABLE, Form, Rate, VfSettings, Vlan, VlanProtocol
from vfagent.policy.host_network import with_vlan_interfaces
from vfagent.policy.types import FdbMode, PfMatch, PfRule, Policy, VfCount, VfRule

_FIXED_BITS = 2  # of an address: the multicast bit (0) and the locally-administered bit (1)


@frozen
class HostIdentity:
    """What matching needs from the host: its name, and machine-id(5), which stable MACs are derived from."""

    hostname: str
    machine_id: str


def rules_for(host: HostIdentity, policy: Policy) -> tuple[PfRule, ...]:
    """The rules that this host's name does not exclude, whatever cards it has."""
    return tuple(rule for rule in policy.pf if fnmatchcase(host.hostname, rule.match.host or "*"))


def match_rule(policy: Policy, pf: Pf, host: HostIdentity) -> PfRule | None:
    return next((rule for rule in policy.pf if matches(rule.match, pf, host)), None)


def matches(match: PfMatch, pf: Pf, host: HostIdentity) -> bool:
    return all(_fits(pattern, values) for pattern, values in _compared(match, pf, host))


def may_match_later(match: PfMatch, pf: Pf, host: HostIdentity) -> bool:
    """Whether the PF could match once its unknown properties are known: it may have no driver or netdev yet."""
    return all(not values or _fits(pattern, values) for pattern, values in _compared(match, pf, host))


def _compared(match: PfMatch, pf: Pf, host: HostIdentity) -> list[tuple[str, list[str]]]:
    """Each key that the rule has, and what the PF has of it: of all its netdevs, names and MACs."""
    pairs = (
        (match.driver, [pf.driver] if pf.driver else []),
        (match.path, [pf.path] if pf.path else []),
        (match.pci, [str(pf.address)]),
        (match.vendor, [pf.vendor.removeprefix("0x")]),
        (match.device, [pf.device.removeprefix("0x")]),
        (match.mac, [mac for netdev in pf.netdevs for mac in macs_of(netdev)]),
        (match.interface, [name for netdev in pf.netdevs for name in names_of(netdev)]),
        (match.host, [host.hostname]),
    )
    return [(pattern, values) for pattern, values in pairs if pattern is not None]


def _fits(pattern: str, values: Iterable[str]) -> bool:
    return any(fnmatchcase(value, pattern) for value in values)


def names_of(netdev: Netdev) -> tuple[str, ...]:
    """What `interface` is compared with."""
    return netdev.name, *netdev.altnames


def macs_of(netdev: Netdev) -> tuple[str, ...]:
    """What `mac` is compared with: of an IPoIB netdev its whole address, and the GUID in it."""
    address, lasting = netdev.permanent_mac or netdev.mac, netdev.lasting_mac
    return (address, lasting) if netdev.is_ipoib and lasting else (address,)


def _port(match: PfMatch, pf: Pf) -> int | None:
    """The netdev that the rule names, where the PF has several and its first is not meant."""
    pairs = ((match.interface, names_of), (match.mac, macs_of))
    named = [(pattern, values) for pattern, values in pairs if pattern is not None]
    fitting = [netdev for netdev in pf.netdevs if all(_fits(pattern, values(netdev)) for pattern, values in named)]
    if pf.netdev in fitting:
        return None
    return next((netdev.ifindex for netdev in fitting if has_vfs(netdev.port)), None)


def desired_pf(policy: Policy, pf: Pf, host: HostIdentity) -> DesiredPf | None:
    """The desired state of this PF; None where no rule matches."""
    rule = match_rule(policy, pf, host)
    if rule is None:
        return None
    count = None if rule.vfs is None else resolve_count(rule.vfs, pf.totalvfs)
    indices = range(len(pf.vfs) if count is None else count)
    seed = mac_seed(host.machine_id, pf)
    desired = DesiredPf(
        address=pf.address,
        rule=rule.name,
        numvfs=count,
        mtu=rule.mtu,
        vfs=tuple(_desired_vf(rule, index, seed) for index in indices),
        allow_management=rule.allow_management or policy.ends_trial,
        port=_port(rule.match, pf),
        assume_idle=rule.assume_idle,
        problem=_count_problem(rule, count, pf),
        hwmode=rule.hwmode,
        eswitch=rule.eswitch,
        fdb=rule.fdb is FdbMode.AUTO,
        shadowed_rules=tuple(other.name for other in policy.pf if other is not rule and matches(other.match, pf, host)),
    )
    return with_vlan_interfaces(policy, rule, desired)


def resolve_count(count: VfCount, totalvfs: int) -> int:
    if count.number is not None:
        return count.number
    return totalvfs * (100 if count.percent is None else count.percent) // 100


def _count_problem(rule: PfRule, count: int | None, pf: Pf) -> str | None:
    """What the PF cannot provide. A share is asked for to get VFs: one that gives 0 is not `vfs = 0`.

    Drivers lower sriov_totalvfs to 0 by pci_sriov_set_totalvfs(): xe without max_vfs (pf_reduce_totalvfs()), nfp by
    what its firmware allows (nfp_pcie_sriov_read_nfd_limit()).
    """
    if count is None or rule.vfs is None or (count <= pf.totalvfs and (count or rule.vfs.number == 0)):
        return None
    if not pf.totalvfs:
        asked = f"{count} VFs" if count else "VFs"
        return f"rule {rule.name!r} asks for {asked}, but sriov_totalvfs is 0: {_why_none(pf)}"
    if count:
        return f"rule {rule.name!r} asks for {count} VFs, the PF supports at most {pf.totalvfs}"
    return f"rule {rule.name!r}: {rule.vfs.percent}% of {pf.totalvfs} is 0 VFs: ask for a number, or for a larger share"


def _why_none(pf: Pf) -> str:
    if elsewhere := vfs_of(pf.address, pf.driver):
        return elsewhere
    if options := ALLOWED_BY.get(pf.driver or ""):
        return f"{pf.driver} allows VFs only with {options} on the kernel's command line (see vfagent doctor)"
    return "SR-IOV is off in the card's firmware, or its driver allows no VFs (see vfagent doctor)"


def _desired_vf(rule: PfRule, index: int, seed: int) -> DesiredVf:
    vf = rule.named(index) or VfRule()
    settings = _settings(vf, index, seed)
    return DesiredVf(index, rule.driver(index), settings, bridge=vf.bridge, optional=vf.optional)


def _settings(vf: VfRule, index: int, seed: int) -> VfSettings:
    vlan = None if vf.vlan is None else Vlan(vf.vlan, vf.qos or 0, vf.vlan_protocol or VlanProtocol.DOT1Q)
    limited = vf.min_tx_rate is not None or vf.max_tx_rate is not None
    return VfSettings(
        mac=resolve_mac(vf.mac, index, seed),
        node_guid=resolve_guid(vf.node_guid, index, seed),
        port_guid=resolve_guid(vf.port_guid, index, seed),
        vlan=vlan,
        rate=Rate(vf.min_tx_rate or 0, vf.max_tx_rate or 0) if limited else None,
        **{name: getattr(vf, name) for name, row in TABLE.items() if row.form in (Form.SWITCH, Form.LINK_STATE)},
    )


def resolve_mac(text: str | None, index: int, seed: int) -> str | None:
    match text:
        case None | "keep":
            return None
        case "stable":
            return stable_mac(seed, index)
        case template:
            return template.format(index=index).lower()


def resolve_guid(text: str | None, index: int, seed: int) -> str | None:
    return stable_guid(seed, index) if text == "stable" else resolve_mac(text, index, seed)


def mac_seed(machine_id: str, pf: Pf) -> int:
    """The first number of a PF's stable MACs: the same for the same NIC in the same host, in any slot."""
    identity = (pf.netdev and pf.netdev.lasting_mac) or pf.address
    return int.from_bytes(hashlib.sha256(f"vfagent {machine_id} {identity}".encode()).digest()[:8], "big")


def stable_mac(seed: int, index: int) -> str:
    """A locally administered unicast MAC. The VFs of one PF get consecutive numbers, so their MACs differ."""
    return _local_address(seed + index, 6)


def stable_guid(seed: int, index: int) -> str:
    """A locally administered EUI-64. A VF's node and its only port may have the same."""
    return _local_address(seed + index, 8)


def _local_address(number: int, size: int) -> str:
    number %= 1 << 8 * size - _FIXED_BITS
    low = 8 * (size - 1)
    first = number >> low << 2 | 0x02
    rest = (number & ((1 << low) - 1)).to_bytes(size - 1, "big")
    return ":".join(f"{byte:02x}" for byte in (first, *rest))
