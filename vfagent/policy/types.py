# SPDX-License-Identifier: Apache-2.0
"""The policy as values: `policy.toml` and its drop-ins, after validation.

Each field's metadata declares its key: the validator, the JSON Schema and the manual are generated from it.
"""

from dataclasses import field
from enum import StrEnum

from vfagent.frozen import frozen
from vfagent.model.desired import HOST_DRIVER, KEEP_DRIVER
from vfagent.model.vf_settings import LinkState, VlanProtocol
from vfagent.policy import strings
from vfagent.policy.guest_rules import ChapRule, DiskRule, GuestRule, IpxeRule, KernelRule, NicRule, SeedRule
from vfagent.policy.indices import LARGEST_COUNT, IndexSet, VfCount, whole_vf_count
from vfagent.policy.value_types import AnyOf, Array, ArrayOfTables, Boolean, Choice, Integer, Table, key

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
    "NicRule",
    "PfMatch",
    "PfRule",
    "Policy",
    "SeedRule",
    "VfCount",
    "VfRule",
    "VlanRule",
]

_MTU = Integer(68, 65535)
OPTIONAL = ("mac", "vlan", "spoof_check", "trust", "node_guid", "port_guid")  # the keys that isolate a VF
_RATE = Integer(0, 4294967295, unit="Mbit/s")


class HwMode(StrEnum):
    VEB = "veb"
    VEPA = "vepa"


class EswitchMode(StrEnum):
    LEGACY = "legacy"
    SWITCHDEV = "switchdev"


class FdbMode(StrEnum):
    AUTO = "auto"
    OFF = "off"


@frozen(kw_only=True)
class MetricsTls:
    """metrics_tls: PEM files, reloaded when they change."""

    cert: str = field(metadata=key(strings.PATH, "The certificate, followed by any intermediate certificates."))
    private_key: str = field(
        metadata=key(strings.PATH, "The certificate's private key, without a passphrase.", spelling="key")
    )
    client_ca: str | None = field(
        default=None,
        metadata=key(
            strings.PATH, "The CA that must have signed the clients' certificates; if absent, any client is served."
        ),
    )


@frozen(kw_only=True)
class AgentRule:
    """[agent]: the service."""

    metrics: str = field(
        default="127.0.0.1:9862",
        metadata=key(
            strings.METRICS,
            'The address and port, or the Unix socket, that serves metrics to Prometheus; "" disables it.',
        ),
    )
    metrics_public: bool = field(
        default=False,
        metadata=key(Boolean(), "Whether an address other than loopback may serve metrics without TLS."),
    )
    metrics_tls: MetricsTls | None = field(
        default=None, metadata=key(Table(MetricsTls), "The certificate for serving metrics over TLS.")
    )
    ipxe_source: str | None = field(
        default=None, metadata=key(strings.PATH, "The iPXE source tree for building option ROMs.")
    )
    resync_s: float = field(
        default=300.0,
        metadata=key(
            strings.PERIOD,
            "How often to reconcile all PFs, in addition to kernel events.",
            spelling="resync",
            default='"5min"',
        ),
    )


@frozen(kw_only=True)
class PfMatch:
    """match: glob patterns, all of which must match; None matches everything."""

    driver: str | None = field(default=None, metadata=key(strings.DRIVER_GLOB, "The PF's driver."))
    path: str | None = field(
        default=None,
        metadata=key(strings.PATH_GLOB, "udev's ID_PATH, such as `pci-0000:01:00.0`; it depends on the slot."),
    )
    pci: str | None = field(
        default=None, metadata=key(strings.PCI_GLOB, "The PCI address; the domain 0000 may be omitted.")
    )
    vendor: str | None = field(
        default=None, metadata=key(strings.HARDWARE_ID, "The PCI vendor ID, with or without 0x.")
    )
    device: str | None = field(
        default=None, metadata=key(strings.HARDWARE_ID, "The PCI device ID, with or without 0x.")
    )
    mac: str | None = field(
        default=None,
        metadata=key(
            strings.MAC_GLOB,
            "The permanent MAC address. Of an InfiniBand port its GUID, or the address of 20 bytes that `vfagent list`"
            " shows, whose GUID counts.",
        ),
    )
    interface: str | None = field(
        default=None,
        metadata=key(
            strings.INTERFACE_GLOB,
            "The name of a netdev of the PF, or an alternative name of it. Of several netdevs, VF settings, `mtu` and "
            "VLAN interfaces are of the one that this names, or else of the first port.",
        ),
    )
    host: str | None = field(
        default=None, metadata=key(strings.HOST_GLOB, "The host's name, for one policy that is shared by many hosts.")
    )


@frozen(kw_only=True)
class VfRule:
    """[[pf.vf]]: settings of some of a PF's VFs; None leaves a setting unchanged."""

    index: IndexSet = field(
        default=IndexSet(),
        metadata=key(
            strings.INDEX_SET,
            "The VFs with these settings; the first [[pf.vf]] that includes a VF applies to it.",
            default='"*"',
        ),
    )
    driver: str = field(
        default="host",
        metadata=key(
            strings.DRIVER,
            "The VF's driver: `vfio-pci`, or a variant such as `mlx5_vfio_pci`, for guests, `host` for the kernel's"
            " default VF driver, `none` for no driver, `keep` for whichever it has; a VF that vfagent creates then gets"
            " its host driver.",
        ),
    )
    # "stable", None for "keep", or a template such as 52:54:00:bb:00:{index:02x} in lower case
    mac: str | None = field(
        default=None,
        metadata=key(
            strings.MAC,
            "`stable` derives a MAC from machine-id, PF and index; `keep` leaves it unchanged; a template contains the"
            " index.",
            default='"keep"',
        ),
    )
    vlan: int | None = field(
        default=None, metadata=key(Integer(0, 4094), "The VF's port VLAN; 0 means none. If absent, it is unchanged.")
    )
    vlan_protocol: VlanProtocol | None = field(
        default=None, metadata=key(Choice(VlanProtocol), "The VLAN protocol; `802.1ad` for provider tags.")
    )
    qos: int | None = field(default=None, metadata=key(Integer(0, 7), "The priority (802.1p) in the VLAN tag."))
    spoof_check: bool | None = field(
        default=None, metadata=key(Boolean(), "Whether the NIC drops frames whose source MAC is not the VF's.")
    )
    trust: bool | None = field(
        default=None, metadata=key(Boolean(), "Whether the VF may change its MAC and use promiscuous mode.")
    )
    link_state: LinkState | None = field(
        default=None,
        metadata=key(
            Choice(LinkState),
            "The VF's link: `auto` follows the PF's, `enable` is always up, `disable` is always down.",
        ),
    )
    min_tx_rate: int | None = field(  # Mbit/s
        default=None,
        metadata=key(_RATE, "The guaranteed transmit rate in Mbit/s; 0 means none. Set together with max_tx_rate."),
    )
    max_tx_rate: int | None = field(  # Mbit/s
        default=None,
        metadata=key(_RATE, "The maximum transmit rate in Mbit/s; 0 means no limit. Set together with min_tx_rate."),
    )
    rss_query: bool | None = field(
        default=None,
        metadata=key(
            Boolean(),
            "Whether the VF may ask for the RSS key and redirection table that it shares with the PF; ixgbe has this.",
        ),
    )
    node_guid: str | None = field(
        default=None,
        metadata=key(
            strings.GUID,
            "On an InfiniBand PF with its IPoIB netdev, the VF's node GUID: `stable`, `keep`, 8 bytes or a template, as"
            " with `mac`.",
            default='"keep"',
        ),
    )
    port_guid: str | None = field(
        default=None,
        metadata=key(
            strings.GUID,
            "The GUID of its port, by which the subnet manager knows it; likewise. It may be the same as node_guid.",
            default='"keep"',
        ),
    )
    bridge: str | None = field(
        default=None,
        metadata=key(strings.INTERFACE, "In switchdev mode, the bridge of the VF's representor."),
    )
    optional: tuple[str, ...] = field(
        default=(),
        metadata=key(
            Array(Choice(OPTIONAL), len(OPTIONAL)),
            "The isolation of this rule that a VF may be without where the NIC refuses it: then it is a note. Without"
            " this key the VF is not ready and its guest waits.",
        ),
    )


@frozen(kw_only=True)
class VlanRule:
    """[[pf.vlan]]: a VLAN interface of the host on the PF."""

    id: int = field(metadata=key(Integer(1, 4094), "The VLAN ID."))
    name: str = field(metadata=key(strings.INTERFACE, "The name of the VLAN interface."))
    protocol: VlanProtocol = field(default=VlanProtocol.DOT1Q, metadata=key(Choice(VlanProtocol), "The VLAN protocol."))
    mtu: int | None = field(default=None, metadata=key(_MTU, "The VLAN interface's MTU; if absent, the PF's."))
    bridge: str | None = field(
        default=None, metadata=key(strings.INTERFACE, "The bridge that the VLAN interface is a port of.")
    )
    addresses: tuple[str, ...] = field(
        default=(),
        metadata=key(
            Array(strings.HOST_ADDRESS, 64),
            "The host's addresses in this VLAN: on the bridge if there is one, else on the VLAN interface.",
        ),
    )
    take_addresses_from: str | None = field(
        default=None,
        metadata=key(
            strings.INTERFACE,
            "The interface that has the addresses now. They are added to the target before they are removed there.",
        ),
    )
    probe: str | None = field(
        default=None, metadata=key(strings.ADDRESS, "A neighbour that must answer after the addresses were moved.")
    )
    allow_management: bool = field(
        default=False,
        metadata=key(
            Boolean(),
            "Whether addresses may be moved from the interface that carries the host's management connection.",
        ),
    )


_PF_MATCH = Table(PfMatch, non_empty=True, allowed='a table such as { driver = "igb" }')


@frozen(kw_only=True)
class PfRule:
    """[[pf]]: the configuration of the PFs that match."""

    name: str = field(metadata=key(strings.LABEL, "The rule's name, for guests and messages."))
    match: PfMatch = field(metadata=key(_PF_MATCH, "The PFs of the rule: all keys that are given must match."))
    vfs: VfCount | None = field(
        default=None,
        metadata=key(
            AnyOf((Integer(0, LARGEST_COUNT, whole_vf_count), strings.VF_COUNT)),
            "The number of VFs: a number, `max`, or a percentage of totalvfs. If absent, the number is unchanged. "
            "A percentage that gives 0 VFs is a problem; `0` is not.",
        ),
    )
    mtu: int | None = field(
        default=None, metadata=key(_MTU, "The minimum MTU of the PF: vfagent raises it and never lowers it.")
    )
    hwmode: HwMode | None = field(
        default=None,
        metadata=key(
            Choice(HwMode),
            "Whether the NIC switches frames between VFs (`veb`) or sends all to the external switch (`vepa`).",
        ),
    )
    eswitch: EswitchMode | None = field(
        default=None, metadata=key(Choice(EswitchMode), "The mode of the NIC's embedded switch.")
    )
    fdb: FdbMode = field(
        default=FdbMode.AUTO,
        metadata=key(
            Choice(FdbMode),
            "Whether the MACs of bridges above the PF, and of their local ports, are kept in the PF's own FDB.",
        ),
    )
    allow_management: bool = field(
        default=False,
        metadata=key(Boolean(), "Whether the rule may change the PF that carries the host's management connection."),
    )
    assume_idle: bool = field(
        default=False,
        metadata=key(
            Boolean(),
            "Whether a VF on a host driver is assumed to be idle where nothing shows whether it is used, as with"
            " accelerators and GPUs. Where something shows that it is used, it stays in use.",
        ),
    )
    vf: tuple[VfRule, ...] = field(
        default=(),
        metadata=key(
            ArrayOfTables(VfRule, 4096),
            "Settings of its VFs; the first that includes a VF applies. A VF that none includes keeps its driver and"
            " settings. With `vfs` and without any `[[pf.vf]]`, all VFs get their host driver.",
        ),
    )
    vlan: tuple[VlanRule, ...] = field(
        default=(), metadata=key(ArrayOfTables(VlanRule, 4094), "VLAN interfaces of the host on the PF.")
    )

    def named(self, index: int) -> VfRule | None:
        """The first [[pf.vf]] that includes this VF."""
        return next((vf for vf in self.vf if index in vf.index), None)

    def driver(self, index: int) -> str:
        """A VF that no [[pf.vf]] names is not this rule's. Only a rule that has nothing but `vfs` names all of them."""
        named = self.named(index)
        if named is None:
            return HOST_DRIVER if self.vfs is not None and not self.vf else KEEP_DRIVER
        return named.driver


@frozen(kw_only=True)
class BridgeRule:
    """[[bridge]]: a bridge of the host."""

    name: str = field(
        metadata=key(
            strings.INTERFACE,
            "The bridge's name. It is created if it does not exist; one that vfagent did not create is not changed.",
        )
    )
    vlan_filtering: bool = field(default=False, metadata=key(Boolean(), "Whether the bridge filters by VLAN."))
    mtu: int | None = field(default=None, metadata=key(_MTU, "The bridge's MTU; if absent, that of its ports."))


@frozen(kw_only=True)
class Policy:
    """All files together."""

    version: int = field(default=1, metadata=key(Integer(1, 1), "The version of this format."))
    agent: AgentRule = field(default=AgentRule(), metadata=key(Table(AgentRule), "The service."))
    pf: tuple[PfRule, ...] = field(
        default=(),
        metadata=key(ArrayOfTables(PfRule, 1024), "Configuration of PFs; the first rule that matches a PF applies."),
    )
    bridge: tuple[BridgeRule, ...] = field(
        default=(), metadata=key(ArrayOfTables(BridgeRule, 1024), "Bridges of the host.")
    )
    guest: tuple[GuestRule, ...] = field(
        default=(), metadata=key(ArrayOfTables(GuestRule, 1024), "Guests to run on VFs.")
    )
    files: tuple[str, ...] = field(default=(), compare=False)
    digest: str = field(default="", compare=False)  # of the text that was loaded
    ends_trial: bool = field(default=False, compare=False)  # active again, as the one after it was not confirmed
