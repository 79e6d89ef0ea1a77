# SPDX-License-Identifier: Apache-2.0
"""Whose port an interface is: of a bond, a bridge or the like, or below a macvtap in passthru mode. Pure.

A VLAN interface on such a port takes the frames of its VLAN from whoever has the port:
__netif_receive_skb_core() calls vlan_do_receive() before the port's rx_handler, and whoever waits for that VLAN above
the port receives nothing any more.
"""

from vfagent.model.network import HostNetwork, Link, VlanTag

# A VRF has no rx_handler: it gets packets after their VLAN was looked up, so a VLAN interface takes nothing from it.
_WITHOUT_FRAMES = frozenset({"vrf"})


def receiver_of(ifindex: int, master: str | None, network: HostNetwork) -> Link | None:
    """Whoever receives the frames of this interface, the port of `master`. Its kind is None where that is unknown."""
    if master and (link := network.named(master) or Link(master, 0)).kind not in _WITHOUT_FRAMES:
        return link
    return next((link for link in network.links if link.passthru and link.lower == ifindex), None)


def would_take(port: str, tag: VlanTag, receiver: Link, above: str | None = None) -> str:
    """Why no VLAN interface is made on this port. `above` is what has that VLAN on the receiver already."""
    loser = f"{above} on {_name(receiver)}" if above else f"{_name(receiver)} and what is on it"
    return (
        f"{port} {belongs(receiver)}; with a VLAN interface on {port}, no frame of VLAN {tag.id} would reach {loser}: "
        f"{instead(port, tag, receiver)}"
    )


def takes(name: str, port: str, tag: VlanTag, receiver: Link) -> str:
    """Of a managed VLAN interface that is there already. Only its rule's removal removes it: it may be in use."""
    return (
        f"{port} {belongs(receiver)}; {name} was there before and takes the frames of VLAN {tag.id} from it: "
        f"take {port} out of {_name(receiver)}, or remove the [[pf.vlan]] of {name}"
    )


def belongs(receiver: Link) -> str:
    """`is a port of bond0, a bond`; without the kind where that is unknown."""
    if receiver.passthru:
        return f"gives all its frames to {receiver.name}, a {receiver.kind} in passthru mode"
    if receiver.kind in (None, "openvswitch"):
        return f"is a port of {_name(receiver)}"
    return f"is a port of {receiver.name}, a {receiver.kind}"


def instead(port: str, tag: VlanTag, receiver: Link) -> str:
    """What to do for a VLAN interface of the host all the same."""
    match receiver.kind:
        case "bridge":
            return f"have it made on {receiver.name} itself, or take {port} out of {receiver.name}"
        case "openvswitch":
            return f"add an internal port with tag={tag.id} to its bridge in Open vSwitch"
        case "macvlan" | "macvtap":
            return f"give the user of {receiver.name} a VF, and remove {receiver.name}"
        case _:
            return f"have it made on {receiver.name}, or take {port} out of {receiver.name}"


def _name(receiver: Link) -> str:
    """Open vSwitch shows none of its bridges as the master, but its datapath, ovs-system."""
    return "Open vSwitch" if receiver.kind == "openvswitch" else receiver.name


def foreign_owner(port: str, master: Link | None, joined: frozenset[tuple[str, str]]) -> Link | None:
    """Whom this port is not to be taken from. A VRF has no ports that it would lose frames with."""
    if master is None or master.kind in _WITHOUT_FRAMES or (port, master.name) in joined:
        return None
    return None if master.kind == "bridge" and master.managed else master


def stays(port: str, owner: Link) -> str:
    """Why a port is neither moved nor removed."""
    way_out = f"ovs-vsctl del-port {port}" if owner.kind == "openvswitch" else f"ip link set {port} nomaster"
    return f"{port} {belongs(owner)}, and vfagent did not put it there ({way_out} takes it out)"


def no_bridge(link: Link) -> str:
    """What is wrong with an interface that a rule names as a bridge."""
    if link.kind == "openvswitch":
        return f"{link.name} is Open vSwitch's, not a Linux bridge; add ports to it with ovs-vsctl"
    what = f"{link.vlan} on ifindex {link.lower}" if link.vlan else f"a {link.kind or 'plain interface'}"
    return f"{link.name} exists already, but is {what}, not a bridge; name another bridge"
