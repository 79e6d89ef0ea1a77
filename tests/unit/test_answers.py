# SPDX-License-Identifier: Apache-2.0
"""The answers of adapters, kept and given again with their types."""

import errno
import json
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from vfagent.kernel.answers import Recorder, Replay
from vfagent.kernel.protocols import LinkFacts, Network, Rtnl, UdevDatabase
from vfagent.model.network import Address, Link, VlanTag
from vfagent.model.vf_settings import VfSettings, Vlan, VlanProtocol

SETTINGS = {0: VfSettings(vlan=Vlan(10), trust=True)}
FACTS = LinkFacts(2, "ens1", "02:00:00:00:00:01", None, 1500, admin_up=True, carrier=True, vfs=SETTINGS)
LINK = Link("vlan10", 3, kind="vlan", vlan=VlanTag(10, VlanProtocol.DOT1AD), addresses=(Address("192.0.2.1/24"),))


class Kernel:
    def link(self, which: object, *, vfs: bool = False) -> LinkFacts | Link | None:
        if which == 9:
            raise OSError(errno.EMSGSIZE, "too long")
        return FACTS if vfs else LINK if which == "vlan10" else None

    def management(self) -> Mapping[int, str]:
        return {2: "carries the default route"}

    def addressed(self) -> frozenset[int]:
        return frozenset({2, 3})

    def properties(self, subsystem: str, name: str) -> Mapping[str, str] | None:
        """pyudev's mapping is no dict."""
        return MappingProxyType({"ID_PATH": "pci-0000:01:00.0"}) if subsystem == "pci" else None

    def addresses(self) -> Mapping[int, tuple[Address, ...]]:
        return {3: LINK.addresses}


class Nobody:
    def hwmode(self, ifindex: int) -> str | None:
        return "nobody asked"


def test_each_answer_is_given_again_with_its_type() -> None:
    answers: dict[str, object] = {}
    rtnl, network = Recorder(Kernel(), "rtnl", answers), Recorder(Kernel(), "network", answers)
    asked = [rtnl.link(2, vfs=True), rtnl.management(), rtnl.addressed(), network.link("vlan10"), network.link("no")]
    asked.append(network.addresses())
    with pytest.raises(OSError, match="too long"):
        rtnl.link(9, vfs=True)
    kept = json.loads(json.dumps(answers))
    again, other = Replay(Rtnl, "rtnl", kept, Nobody()), Replay(Network, "network", kept, Nobody())
    given = [again.link(2, vfs=True), again.management(), again.addressed(), other.link("vlan10"), other.link("no")]
    given.append(other.addresses())
    assert given == asked == [FACTS, {2: "carries the default route"}, {2, 3}, LINK, None, {3: LINK.addresses}]
    with pytest.raises(OSError, match="Message too long"):
        again.link(9, vfs=True)
    assert again.hwmode(2) == "nobody asked"


def test_the_properties_of_udev_are_kept() -> None:
    answers: dict[str, object] = {}
    asked = Recorder(Kernel(), "udev", answers)
    assert asked.properties("pci", "0000:01:00.0") == {"ID_PATH": "pci-0000:01:00.0"}
    assert asked.properties("net", "ens1") is None
    again = Replay(UdevDatabase, "udev", json.loads(json.dumps(answers)), Nobody())
    assert again.properties("pci", "0000:01:00.0") == {"ID_PATH": "pci-0000:01:00.0"}
    assert again.properties("net", "ens1") is None


def test_a_damaged_answer_is_an_error_of_the_system() -> None:
    damaged = Replay(Rtnl, "rtnl", {"rtnl.management[[], {}]": {"answer": {"x": 1}}}, Nobody())
    with pytest.raises(OSError, match=r"vfagent-answers\.json"):
        damaged.management()
