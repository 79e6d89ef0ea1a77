# SPDX-License-Identifier: Apache-2.0
"""The network and the move journal of `Host`, on the fake kernel."""

import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

from tests.model.effects import Effect, Kind
from tests.model.kernel import Kernel
from tests.model.network import Links
from tests.model.never import Violation
from vfagent.kernel.neighbours import FdbEntry
from vfagent.model.network import (
    MANAGED_ALIAS,
    UNMARKED_GROUP,
    Address,
    AddressDetails,
    Borrowed,
    Link,
    Move,
    Route,
    VlanTag,
)

Act = Callable[[Effect], None]


class NetworkView:
    def __init__(self, kernel: Kernel, act: Act) -> None:
        self._kernel, self._links, self._act = kernel, kernel.links, act

    def _do(self, kind: Kind, target: str, value: str, carry: Callable[[], object]) -> None:
        self._act(Effect(kind, target, value, carry=carry))

    def _name(self, ifindex: int) -> str:
        return self._links.at(ifindex).name

    def link(self, which: str | int) -> Link | None:
        if isinstance(which, str):
            return self._links.named(which)
        try:
            return self._links.at(which)
        except OSError:
            return None

    def addresses(self) -> Mapping[int, tuple[Address, ...]]:
        return self._links.addresses()

    def add_vlan(self, name: str, parent: int, tag: VlanTag) -> None:
        def carry() -> None:
            if self._links.at(parent).master:
                raise Violation(f"{name} takes the frames of {tag} from whoever has {self._name(parent)}")
            self._links.add_vlan(name, parent, tag, UNMARKED_GROUP)

        self._do(Kind.LINK, name, f"add {tag}", carry)

    def add_bridge(self, name: str) -> None:
        self._do(Kind.LINK, name, "add bridge", lambda: self._links.add_bridge(name, UNMARKED_GROUP))

    def mark(self, ifindex: int) -> None:
        change = {"alias": MANAGED_ALIAS, "group": 0}
        self._do(Kind.LINK, self._name(ifindex), "mark", lambda: self._links.change(ifindex, **change))

    def set_link(
        self, ifindex: int, *, mtu: int | None = None, up: bool | None = None, master: int | None = None
    ) -> None:
        def carry() -> None:
            if mtu is not None:
                self._links.change(ifindex, mtu=mtu)
            if master is not None:
                if self._links.at(ifindex).master != master:
                    self._stays(ifindex)
                self._links.change(ifindex, master=master or None)
                self._links.joined[ifindex] = master
            if up:
                self._links.bring_up(ifindex)

        self._do(Kind.LINK, self._name(ifindex), f"set {mtu=} {up=} {master=}", carry)

    def set_vlan_filtering(self, ifindex: int, *, on: bool) -> None:
        self._do(Kind.LINK, self._name(ifindex), f"filter {on}", lambda: self._links.change(ifindex, vlan_filtering=on))

    def delete(self, ifindex: int) -> None:
        def carry() -> None:
            self._stays(ifindex)
            self._links.delete(ifindex)

        self._do(Kind.LINK, self._name(ifindex), "delete", carry)

    def _stays(self, ifindex: int) -> None:
        if owner := self._links.foreign_owner(ifindex):
            raise Violation(f"{self._name(ifindex)} is taken from {owner.name}")

    def add_address(
        self,
        ifindex: int,
        address: str,
        *,
        managed: bool = True,
        known_unique: bool = False,
        details: AddressDetails | None = None,
    ) -> None:
        carry = lambda: self._links.add_address(ifindex, address, managed=managed)  # noqa: E731
        self._do(Kind.ADDRESS, self._name(ifindex), f"add {address}", carry)

    def remove_address(self, ifindex: int, address: str, *, peer: str | None = None) -> None:
        carry = lambda: self._links.remove_address(ifindex, address)  # noqa: E731
        self._do(Kind.ADDRESS, self._name(ifindex), f"remove {address}", carry)

    def fdb(self, ifindex: int) -> frozenset[str]:
        return frozenset(self._links.fdb.get(ifindex, set()))

    def learnt(self, bridge: int) -> tuple[FdbEntry, ...]:
        entries = sorted(self._links.learnt.get(bridge, set()))
        return tuple(FdbEntry(port, bridge, mac, own=False, static=False) for port, mac in entries)

    def neighbour_macs(self) -> Mapping[int, frozenset[str]]:
        return {ifindex: frozenset(macs) for ifindex, macs in self._links.neighbour_macs.items()}

    def add_fdb(self, ifindex: int, mac: str) -> None:
        self._do(Kind.FDB, self._name(ifindex), f"add {mac}", lambda: self._add_fdb(ifindex, mac))

    def _add_fdb(self, ifindex: int, mac: str) -> None:
        entries, pf = self._links.fdb.setdefault(ifindex, set()), self._kernel.pf_by_ifindex(ifindex)
        if mac in entries:
            raise OSError(errno.EEXIST, "the entry exists")
        if pf and pf.kind.fdb is not None and len(entries) >= pf.kind.fdb:
            raise OSError(errno.ENOMEM, "ixgbe_ndo_fdb_add")
        entries.add(mac)

    def remove_fdb(self, ifindex: int, mac: str) -> None:
        self._do(Kind.FDB, self._name(ifindex), f"remove {mac}", lambda: self._links.fdb[ifindex].remove(mac))

    def set_hwmode(self, ifindex: int, mode: str) -> None:
        pf = self._kernel.pf_by_ifindex(ifindex)

        def carry() -> None:
            if pf is None or pf.hwmode is None:
                raise OSError(errno.EOPNOTSUPP, "no ndo_bridge_setlink")
            pf.hwmode = mode

        self._do(Kind.HWMODE, pf.address if pf else "", mode, carry)

    def answers(self, ifindex: int, address: str, within_s: float) -> bool:
        return (self._name(ifindex), address) in self._links.reachable

    def neighbours(self, ifindex: int) -> tuple[str, ...]:
        return tuple(address for name, address in self._links.reachable if name == self._name(ifindex))

    def ask_for(self, ifindex: int, neighbours: Iterable[str]) -> None:
        self._name(ifindex)

    def by(self, ifindex: int) -> tuple[Route, ...]:
        return tuple(self._links.routes.get(ifindex, ()))

    def put(self, ifindex: int, route: Route, instead_of: int | None) -> None:
        carry = lambda: self._links.put_route(ifindex, route, instead_of)  # noqa: E731
        self._do(Kind.ROUTE, self._name(ifindex), str(route), carry)


class JournalView:
    """For one process: no other one moves addresses at the same time."""

    alone = staticmethod(nullcontext)

    def __init__(self, links: Links, act: Act) -> None:
        self._kept, self._borrowed, self._act = links.journal, links.borrowed, act

    def pending(self) -> tuple[Move, ...]:
        return tuple(self._kept.values())

    def keep(self, move: Move) -> None:
        carry = lambda: self._kept.__setitem__(move.target, move)  # noqa: E731
        self._act(Effect(Kind.JOURNAL, move.target, "keep", carry=carry))

    def forget(self, move: Move) -> None:
        carry = lambda: self._kept.pop(move.target, None)  # noqa: E731
        self._act(Effect(Kind.JOURNAL, move.target, "forget", carry=carry))

    def borrowed(self) -> tuple[Borrowed, ...]:
        return tuple(self._borrowed.values())

    def borrow(self, borrowed: Borrowed) -> None:
        carry = lambda: self._borrowed.__setitem__(borrowed.address, borrowed)  # noqa: E731
        self._act(Effect(Kind.JOURNAL, borrowed.address, "borrow", carry=carry))

    def give_back(self, address: str) -> None:
        if address in self._borrowed:
            carry = lambda: self._borrowed.pop(address)  # noqa: E731
            self._act(Effect(Kind.JOURNAL, address, "return", carry=carry))
