# SPDX-License-Identifier: Apache-2.0
"""The policy as values: what `policy.toml` and its drop-ins say, after validation."""

from dataclasses import dataclass, field
from enum import StrEnum

from vfagent.model.vf_settings import LinkState, VlanProtocol


class HwMode(StrEnum):
    VEB = "veb"
    VEPA = "vepa"


class EswitchMode(StrEnum):
    LEGACY = "legacy"
    SWITCHDEV = "switchdev"


@dataclass(frozen=True, slots=True)
class VfCount:
    """How many VFs: a number, a share of totalvfs in percent ("50%"), or all ("max", 100 percent)."""

    number: int | None = None
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class IndexSet:
    """VF indices as written: "0", "0-2", "0,2,5-7" or "*" (then `ranges` is None)."""

    ranges: tuple[tuple[int, int], ...] | None = None

    def __contains__(self, index: int) -> bool:
        return self.ranges is None or any(low <= index <= high for low, high in self.ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRule:
    metrics: str = "127.0.0.1:9862"
    ipxe_source: str | None = None
    resync_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PfMatch:
    """Glob patterns, all of which must match; None matches everything."""

    driver: str | None = None
    path: str | None = None
    pci: str | None = None
    vendor: str | None = None
    device: str | None = None
    mac: str | None = None
    interface: str | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VfRule:
    index: IndexSet = IndexSet()
    driver: str = "host"
    mac: str | None = None  # "stable", "keep" (as None), or a template such as 52:54:00:bb:00:{index:02x}
    vlan: int | None = None
    vlan_protocol: VlanProtocol | None = None
    qos: int | None = None
    spoof_check: bool | None = None
    trust: bool | None = None
    link_state: LinkState | None = None
    min_tx_rate: int | None = None  # Mbit/s
    max_tx_rate: int | None = None  # Mbit/s


@dataclass(frozen=True, slots=True, kw_only=True)
class VlanRule:
    id: int
    name: str
    protocol: VlanProtocol = VlanProtocol.DOT1Q
    mtu: int | None = None
    bridge: str | None = None
    addresses: tuple[str, ...] = ()
    take_addresses_from: str | None = None
    probe: str | None = None  # an address that must answer after addresses were moved
    allow_management: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PfRule:
    name: str
    match: PfMatch
    vfs: VfCount | None = None
    mtu: int | None = None
    hwmode: HwMode | None = None
    eswitch: EswitchMode | None = None
    allow_management: bool = False
    vf: tuple[VfRule, ...] = ()
    vlan: tuple[VlanRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeRule:
    name: str
    vlan_filtering: bool = False
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IpxeRule:
    address: str | None = None  # "192.168.10.10/24" or "dhcp"
    gateway: str | None = None
    sanboot: str | None = None
    script: str | None = None
    loader: str = "auto"  # auto, image, rom, undionly
    rom: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRule:
    image: str
    initrd: str | None = None
    cmdline: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRule:
    path: str
    format: str = "raw"  # raw, qcow2
    readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRule:
    name: str
    each: str | None = None
    vfs: tuple[str, ...] = ()
    cpus: int = 1
    memory_mib: int = 512
    hugepages: bool = False
    vnc: str | None = None
    firmware: str = "bios"
    restart: str = "on-failure"
    ipxe: IpxeRule | None = None
    kernel: KernelRule | None = None
    disk: tuple[DiskRule, ...] = ()
    unit: tuple[tuple[str, str | int | float | bool], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    agent: AgentRule = AgentRule()
    pf: tuple[PfRule, ...] = ()
    bridge: tuple[BridgeRule, ...] = ()
    guest: tuple[GuestRule, ...] = ()
    files: tuple[str, ...] = field(default=(), compare=False)
