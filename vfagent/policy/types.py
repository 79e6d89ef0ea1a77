# SPDX-License-Identifier: Apache-2.0
"""The policy as values: what `policy.toml` and its drop-ins say, after validation.

Each field's metadata declares its key: the validator, the JSON Schema and the manual are made from it.
"""

from dataclasses import field
from enum import StrEnum

from vfagent.frozen import frozen
from vfagent.model.vf_settings import LinkState, VlanProtocol
from vfagent.policy import strings
from vfagent.policy.guest_rules import ChapRule, DiskRule, GuestRule, IpxeRule, KernelRule
from vfagent.policy.indices import LARGEST_COUNT, IndexSet, VfCount, whole_vf_count
from vfagent.policy.value_types import Choice, Either, Flag, Several, Table, Tables, Whole, key

__all__ = [
    "AgentRule",
    "BridgeRule",
    "ChapRule",
    "DiskRule",
    "EswitchMode",
    "GuestRule",
    "HwMode",
    "IndexSet",
    "IpxeRule",
    "KernelRule",
    "MetricsTls",
    "PfMatch",
    "PfRule",
    "Policy",
    "VfCount",
    "VfRule",
    "VlanRule",
]

_MTU = Whole(68, 65535)
_RATE = Whole(0, 4294967295)


class HwMode(StrEnum):
    VEB = "veb"
    VEPA = "vepa"


class EswitchMode(StrEnum):
    LEGACY = "legacy"
    SWITCHDEV = "switchdev"


@frozen(kw_only=True)
class MetricsTls:
    """metrics_tls: files in PEM form, read again whenever they change."""

    cert: str = field(metadata=key(strings.PATH, "The certificate, and those between it and its authority."))
    private_key: str = field(
        metadata=key(strings.PATH, "The certificate's private key, without a passphrase.", spelling="key")
    )
    client_ca: str | None = field(
        default=None,
        metadata=key(strings.PATH, "The authority whose certificates clients must show; absent: any client is served."),
    )


@frozen(kw_only=True)
class AgentRule:
    """[agent]: the service itself."""

    metrics: str = field(
        default="127.0.0.1:9862",
        metadata=key(
            strings.METRICS, 'Where Prometheus scrapes: an address and port, or a Unix socket; "" for nowhere.'
        ),
    )
    metrics_public: bool = field(
        default=False,
        metadata=key(Flag(), "Whether an address that is not the host's own loopback may serve metrics without TLS."),
    )
    metrics_tls: MetricsTls | None = field(
        default=None, metadata=key(Table(MetricsTls), "The certificate that metrics are served with, if any.")
    )
    ipxe_source: str | None = field(
        default=None, metadata=key(strings.PATH, "The iPXE source tree that ROMs are built from, if any are.")
    )
    resync_s: float = field(
        default=300.0,
        metadata=key(
            strings.PERIOD, "How often to look at everything, beside events.", spelling="resync", default='"5min"'
        ),
    )


@frozen(kw_only=True)
class PfMatch:
    """match: glob patterns, all of which must match; None matches everything."""

    driver: str | None = field(default=None, metadata=key(strings.GLOB, "The PF's driver."))
    path: str | None = field(
        default=None, metadata=key(strings.GLOB, "udev's ID_PATH, which follows the slot: `pci-0000:01:00.0`.")
    )
    pci: str | None = field(
        default=None, metadata=key(strings.PCI_GLOB, "The PCI address; the domain 0000 may be left out.")
    )
    vendor: str | None = field(
        default=None, metadata=key(strings.HARDWARE_ID, "The PCI vendor ID, with or without 0x.")
    )
    device: str | None = field(
        default=None, metadata=key(strings.HARDWARE_ID, "The PCI device ID, with or without 0x.")
    )
    mac: str | None = field(default=None, metadata=key(strings.MAC_GLOB, "The permanent MAC address."))
    interface: str | None = field(default=None, metadata=key(strings.GLOB, "The name of the PF's netdev."))
    host: str | None = field(
        default=None, metadata=key(strings.GLOB, "The host's name, for one policy that serves many hosts.")
    )


@frozen(kw_only=True)
class VfRule:
    """[[pf.vf]]: settings for some of a PF's VFs; None leaves a setting alone."""

    index: IndexSet = field(
        default=IndexSet(),
        metadata=key(
            strings.INDEX_SET,
            "The VFs these settings are for; the first rule that names a VF is its own.",
            default='"*"',
        ),
    )
    driver: str = field(
        default="host",
        metadata=key(
            strings.DRIVER,
            "What the VF is bound to: `vfio-pci` for guests, `host` for the kernel's own VF driver, `none`.",
        ),
    )
    # "stable", None for "keep", or a template such as 52:54:00:bb:00:{index:02x} in lower case
    mac: str | None = field(
        default=None,
        metadata=key(
            strings.MAC,
            "`stable` derives a MAC from machine-id, PF and index; `keep` leaves it alone; a template names the index.",
            default='"keep"',
        ),
    )
    vlan: int | None = field(
        default=None, metadata=key(Whole(0, 4094), "The VF's port VLAN; 0 for none, absent leaves it alone.")
    )
    vlan_protocol: VlanProtocol | None = field(
        default=None, metadata=key(Choice(VlanProtocol), "The tag's protocol; `802.1ad` for provider tags.")
    )
    qos: int | None = field(default=None, metadata=key(Whole(0, 7), "The priority in the VLAN tag."))
    spoof_check: bool | None = field(
        default=None, metadata=key(Flag(), "Whether the card drops frames from other MACs than the VF's.")
    )
    trust: bool | None = field(
        default=None, metadata=key(Flag(), "Whether the VF may change its own MAC and hear all traffic.")
    )
    link_state: LinkState | None = field(
        default=None, metadata=key(Choice(LinkState), "Whether the VF's link follows the PF's, is up, or is down.")
    )
    min_tx_rate: int | None = field(  # Mbit/s
        default=None, metadata=key(_RATE, "Mbit/s the VF may always send; 0 for no promise. Goes with max_tx_rate.")
    )
    max_tx_rate: int | None = field(  # Mbit/s
        default=None, metadata=key(_RATE, "Mbit/s the VF may send at most; 0 for no limit. Goes with min_tx_rate.")
    )
    bridge: str | None = field(
        default=None,
        metadata=key(strings.INTERFACE, "In switchdev mode: the bridge that the VF's representor is a port of."),
    )


@frozen(kw_only=True)
class VlanRule:
    """[[pf.vlan]]: the host's own leg in a VLAN."""

    id: int = field(metadata=key(Whole(1, 4094), "The VLAN's ID."))
    name: str = field(metadata=key(strings.INTERFACE, "The name of the VLAN device."))
    protocol: VlanProtocol = field(
        default=VlanProtocol.DOT1Q, metadata=key(Choice(VlanProtocol), "The tag's protocol.")
    )
    mtu: int | None = field(default=None, metadata=key(_MTU, "The VLAN device's MTU; the PF's own if absent."))
    bridge: str | None = field(
        default=None, metadata=key(strings.INTERFACE, "The bridge that the VLAN device is a port of.")
    )
    addresses: tuple[str, ...] = field(
        default=(),
        metadata=key(
            Several(strings.HOST_ADDRESS, 64),
            "The host's addresses in this VLAN: held by the bridge if there is one, else by the VLAN device.",
        ),
    )
    take_addresses_from: str | None = field(
        default=None,
        metadata=key(
            strings.INTERFACE,
            "The interface that holds the addresses now: they are moved, without a moment in which neither holds them.",
        ),
    )
    probe: str | None = field(
        default=None, metadata=key(strings.ADDRESS, "An address that must answer after addresses were moved.")
    )
    allow_management: bool = field(
        default=False,
        metadata=key(
            Flag(), "Whether addresses may be taken from the interface that the host is administered through."
        ),
    )


@frozen(kw_only=True)
class PfRule:
    """[[pf]]: what to make of the PFs that match."""

    name: str = field(metadata=key(strings.LABEL, "The rule's name, by which guests and messages refer to it."))
    match: PfMatch = field(
        metadata=key(Table(PfMatch, non_empty=True), "The PFs the rule is for: every key given must match.")
    )
    vfs: VfCount | None = field(
        default=None,
        metadata=key(
            Either((Whole(0, LARGEST_COUNT, whole_vf_count), strings.VF_COUNT)),
            "How many VFs: a number, `max`, or a share of what the card offers; absent leaves the number alone.",
        ),
    )
    mtu: int | None = field(default=None, metadata=key(_MTU, "The least MTU of the PF: it is raised, never lowered."))
    hwmode: HwMode | None = field(
        default=None,
        metadata=key(
            Choice(HwMode), "Whether the card switches between VFs (`veb`) or sends all to the switch (`vepa`)."
        ),
    )
    eswitch: EswitchMode | None = field(
        default=None, metadata=key(Choice(EswitchMode), "The mode of the card's internal switch.")
    )
    allow_management: bool = field(
        default=False, metadata=key(Flag(), "Whether the rule may touch the PF that the host is administered through.")
    )
    vf: tuple[VfRule, ...] = field(
        default=(), metadata=key(Tables(VfRule, 4096), "Settings for some of its VFs; the first that names a VF wins.")
    )
    vlan: tuple[VlanRule, ...] = field(
        default=(), metadata=key(Tables(VlanRule, 4094), "The host's own legs in VLANs.")
    )


@frozen(kw_only=True)
class BridgeRule:
    """[[bridge]]: a bridge of the host."""

    name: str = field(metadata=key(strings.INTERFACE, "The bridge's name. Created if absent, left alone if not ours."))
    vlan_filtering: bool = field(default=False, metadata=key(Flag(), "Whether the bridge tells VLANs apart."))
    mtu: int | None = field(default=None, metadata=key(_MTU, "The bridge's MTU; that of its ports if absent."))


@frozen(kw_only=True)
class Policy:
    """All files together."""

    version: int = field(default=1, metadata=key(Whole(1, 1), "The version of this format."))
    agent: AgentRule = field(default=AgentRule(), metadata=key(Table(AgentRule), "The service itself."))
    pf: tuple[PfRule, ...] = field(
        default=(), metadata=key(Tables(PfRule, 1024), "What to make of PFs; the first rule that matches a PF wins.")
    )
    bridge: tuple[BridgeRule, ...] = field(default=(), metadata=key(Tables(BridgeRule, 1024), "Bridges of the host."))
    guest: tuple[GuestRule, ...] = field(default=(), metadata=key(Tables(GuestRule, 1024), "Guests to run on VFs."))
    files: tuple[str, ...] = field(default=(), compare=False)
    digest: str = field(default="", compare=False)  # of what was read, to tell one reading from another
