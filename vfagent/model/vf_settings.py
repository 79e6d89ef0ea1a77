# SPDX-License-Identifier: Apache-2.0
"""The VF settings that a PF holds, as named by rtnetlink's IFLA_VF_* attributes."""

from collections.abc import Mapping
from dataclasses import field, fields
from enum import StrEnum
from typing import Any

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
    RSS_QUERY = "rss_query"
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

NO_MAC = "00:00:00:00:00:00"
_NO_GUID = "00:00:00:00:00:00:00:00"


@frozen(slots=True)
class Vlan:
    """A VF's port VLAN. ID 0 with qos 0 means none."""

    id: int
    qos: int = 0
    protocol: VlanProtocol = VlanProtocol.DOT1Q

    def __str__(self) -> str:
        qos = f" qos {self.qos}" if self.qos else ""
        protocol = f" {self.protocol}" if self.protocol is not VlanProtocol.DOT1Q else ""
        return f"{self.id}{qos}{protocol}"


@frozen(slots=True)
class Rate:
    """Both limits in Mbit/s, 0 for none. The kernel sets them only together."""

    min_mbit: int
    max_mbit: int

    def __str__(self) -> str:
        return f"{self.min_mbit}-{self.max_mbit} Mbit/s"


class Form(StrEnum):
    """How an attribute's value stands in its message."""

    MAC = "mac"
    VLAN = "vlan"
    RATE = "rate"
    SWITCH = "switch"
    LINK_STATE = "link_state"
    GUID = "guid"


@frozen
class Row:
    """What there is to know of an attribute. `disturbs`: a change resets a VF in use, or cuts its traffic."""

    number: int  # IFLA_VF_*, linux/if_link.h
    form: Form
    new: object  # on a new VF
    disturbs: bool = False
    ethernet: bool = True
    infiniband: bool = False  # in ipoib_netdev_ops_pf


def _row(number: int, form: Form, *, new: object, **facts: bool) -> Any:
    return field(default=None, metadata={"row": Row(number, form, new, **facts)})


@frozen(slots=True)
class VfSettings:
    """None means: not changed (desired), or not reported by the driver (observed)."""

    mac: str | None = _row(1, Form.MAC, new=NO_MAC, disturbs=True)
    vlan: Vlan | None = _row(2, Form.VLAN, new=Vlan(0), disturbs=True)
    rate: Rate | None = _row(6, Form.RATE, new=Rate(0, 0))
    spoof_check: bool | None = _row(4, Form.SWITCH, new=True)
    trust: bool | None = _row(9, Form.SWITCH, new=False, disturbs=True)
    link_state: LinkState | None = _row(5, Form.LINK_STATE, new=LinkState.AUTO, disturbs=True, infiniband=True)
    rss_query: bool | None = _row(7, Form.SWITCH, new=False)
    node_guid: str | None = _row(10, Form.GUID, new=_NO_GUID, disturbs=True, ethernet=False, infiniband=True)
    port_guid: str | None = _row(11, Form.GUID, new=_NO_GUID, disturbs=True, ethernet=False, infiniband=True)

    @property
    def empty(self) -> bool:
        return self == VfSettings()


TABLE: Mapping[str, Row] = {attribute.name: attribute.metadata["row"] for attribute in fields(VfSettings)}
"""The attributes of a VF, by name: netlink, plan, text and policy read it."""

DISTURBING = frozenset(Attribute(name) for name, row in TABLE.items() if row.disturbs)

NEW_VF = VfSettings(**{name: row.new for name, row in TABLE.items()})  # type: ignore[arg-type]
"""A VF on which nothing was set."""
