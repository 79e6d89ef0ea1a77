# SPDX-License-Identifier: Apache-2.0
"""Generated hosts: cards with ports, in their state before vfagent."""

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.model.devices import Groups, PfDevice
from tests.model.drivers import DRIVERS, IGB, PfDriver
from tests.model.kernel import Kernel
from vfagent.model.pci import PciAddress

LARGEST = 8


@dataclass(frozen=True, slots=True)
class Port:
    """One PF before vfagent. A value, so that the same host can be created many times."""

    kind: PfDriver = IGB
    totalvfs: int = LARGEST
    vfs: int = 0
    autoprobe: bool = True
    up: bool = False
    cable: bool = True
    mtu: int = 1500
    groups: Groups = Groups.OWN
    management: bool = False
    driverless: bool = False
    moving: bool = False


Card = tuple[Port, ...]


def make_host(*cards: Card, late_netdevs: bool = False) -> Kernel:
    kernel = Kernel()
    for number, card in enumerate(cards):
        for function, port in enumerate(card):
            _plug(kernel, port, f"0000:{0x10 * (number + 1):02x}:00.{function}", f"p{number}f{function}", len(card))
    kernel.late_netdevs = late_netdevs
    return kernel


def _plug(kernel: Kernel, port: Port, address: str, name: str, stride: int) -> None:
    driver = None if port.driverless else port.kind.name
    pf = PfDevice(PciAddress(address), port.kind, port.totalvfs, port.groups, driver, stride=stride, moving=port.moving)
    kernel.plug(pf, name, f"00:1b:21:00:{address[5:7]}:{address[-1]:0>2}")
    if pf.netdev:
        pf.netdev.cable, pf.netdev.mtu = port.cable, port.mtu
        pf.netdev.default_route = port.management
        pf.netdev.admin_up = True
    pf.autoprobe, pf.hwmode = port.autoprobe, port.kind.hwmode
    if pf.driver:
        kernel.write_numvfs(pf, str(port.vfs))
    if pf.netdev:
        pf.netdev.admin_up = port.up or port.management


def ports(
    kinds: Iterable[PfDriver] = DRIVERS,
    *,
    groups: Iterable[Groups] = (Groups.OWN,),
    management: Iterable[bool] = (False,),
    cable: Iterable[bool] = (True,),
) -> st.SearchStrategy[Port]:
    return st.builds(
        Port,
        kind=st.sampled_from(tuple(kinds)),
        totalvfs=st.integers(4, LARGEST),
        vfs=st.integers(0, 4),
        autoprobe=st.booleans(),
        up=st.booleans(),
        cable=st.sampled_from(tuple(cable)),
        mtu=st.sampled_from((1500, 4000)),
        groups=st.sampled_from(tuple(groups)),
        management=st.sampled_from(tuple(management)),
        moving=st.booleans(),
    )


def cards(port: st.SearchStrategy[Port]) -> st.SearchStrategy[tuple[Card, ...]]:
    card = st.lists(port, min_size=1, max_size=2).map(tuple)
    return st.lists(card, min_size=1, max_size=2).map(tuple)
