# SPDX-License-Identifier: Apache-2.0
"""The VF settings that a PF holds, as named by rtnetlink's IFLA_VF_* attributes."""

from enum import StrEnum

from vfagent.frozen import frozen


class VlanProtocol(StrEnum):
    DOT1Q = "802.1Q"
    DOT1AD = "802.1ad"


class LinkState(StrEnum):
    AUTO = "auto"
    ENABLE = "enable"
    DISABLE = "disable"


class Attribute(StrEnum):
    """A setting of a VF or PF that a driver supports or refuses as a whole."""

    MAC = "mac"
    VLAN = "vlan"
    VLAN_PROTOCOL = "vlan_protocol"  # any but 802.1Q
    MIN_TX_RATE = "min_tx_rate"  # any but 0
    RATE = "rate"
    SPOOF_CHECK = "spoof_check"
    TRUST = "trust"
    LINK_STATE = "link_state"
    NODE_GUID = "node_guid"
    PORT_GUID = "port_guid"
    HWMODE = "hwmode"
    ESWITCH = "eswitch"
    FDB = "fdb"
    IPV6_AUTOCONF = "ipv6_autoconf"


GUIDS = frozenset({Attribute.NODE_GUID, Attribute.PORT_GUID})
"""An InfiniBand VF's address: the subnet manager admits it to partitions by its port GUID."""

ISOLATING = GUIDS | {Attribute.MAC, Attribute.VLAN, Attribute.VLAN_PROTOCOL, Attribute.SPOOF_CHECK, Attribute.TRUST}
"""What keeps a VF's user within its network and its address."""


@frozen
class Vlan:
    """A VF's port VLAN. ID 0 with qos 0 means none."""

    id: int
    qos: int = 0
    protocol: VlanProtocol = VlanProtocol.DOT1Q

    def __str__(self) -> str:
        qos = f" qos {self.qos}" if self.qos else ""
        protocol = f" {self.protocol}" if self.protocol is not VlanProtocol.DOT1Q else ""
        return f"{self.id}{qos}{protocol}"


@frozen
class Rate:
    """Both limits in Mbit/s, 0 for none. The kernel sets them only together."""

    min_mbit: int
    max_mbit: int

    def __str__(self) -> str:
        return f"{self.min_mbit}-{self.max_mbit} Mbit/s"


@frozen
class VfSettings:
    """None means: not changed (desired), or not reported by the driver (observed)."""

    mac: str | None = None
    vlan: Vlan | None = None
    rate: Rate | None = None
    spoof_check: bool | None = None
    trust: bool | None = None
    link_state: LinkState | None = None
    node_guid: str | None = None
    port_guid: str | None = None

    @property
    def empty(self) -> bool:
        return self == VfSettings()
