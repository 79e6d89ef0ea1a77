# SPDX-License-Identifier: Apache-2.0
"""The properties that udev stores for a network interface at each of its events, by 71-vfagent-networks.rules.

udevd applies the rules anew at each event, and drops what they do not set again. At a `move`, a rename, that would give
a VF's netdev to NetworkManager.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pytest

from tests.rules.test_units import HINTS, TOKEN
from vfagent.model.network import MANAGED_ALIAS, UNMARKED_GROUP

UNMANAGED = {"VFAGENT": "1", "NM_UNMANAGED": "1"}


@dataclass(frozen=True)
class Interface:
    attributes: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()  # in and around its folder


INTERFACES = {
    "VF": Interface(files=("device/physfn",)),
    "VF of virtio": Interface(files=("device/../physfn",)),
    "link that vfagent made": Interface((("ifalias", MANAGED_ALIAS), ("netdev_group", "0"))),
    "link that vfagent has just made": Interface((("ifalias", ""), ("netdev_group", str(UNMARKED_GROUP)))),
}


def lines(text: str) -> Iterator[list[re.Match[str]]]:
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            tokens = list(TOKEN.finditer(line))
            assert "".join(token[0] for token in tokens) == line, line
            yield tokens


def matches(token: re.Match[str], event: dict[str, str], interface: Interface, properties: dict[str, str]) -> bool:
    key, name, value = token["key"], token["name"], token["value"]
    if key == "TEST":
        applies = value in interface.files
    else:
        have = {"ATTR": dict(interface.attributes), "ENV": properties}.get(key, event).get(name or key, "")
        applies = any(fnmatchcase(have, glob) for glob in value.split("|"))
    return applies == (token["operator"] == "==")


def properties_after(action: str, interface: Interface, subsystem: str = "net") -> dict[str, str]:
    """udev(7), as far as these rules use it."""
    event, properties, label = {"ACTION": action, "SUBSYSTEM": subsystem}, dict[str, str](), ""
    for tokens in lines(HINTS.read_text()):
        if label:
            label = "" if tokens[0]["key"] == "LABEL" and tokens[0]["value"] == label else label
            continue
        conditions = [token for token in tokens if token["operator"] in ("==", "!=")]
        if not all(matches(token, event, interface, properties) for token in conditions):
            continue
        for token in tokens:
            if token["key"] == "GOTO":
                label = token["value"]
            elif token["key"] == "ENV" and token["operator"] == "=":
                properties[token["name"]] = token["value"]
    assert not label, f"no such label: {label}"
    return properties


@pytest.mark.parametrize("action", ["add", "change", "move", "online", "bind"])
@pytest.mark.parametrize("interface", INTERFACES.values(), ids=INTERFACES)
def test_networkmanager_has_a_hint_at_each_event_to_leave_an_interface_of_vfagent(
    action: str, interface: Interface
) -> None:
    assert properties_after(action, interface) == UNMANAGED


@pytest.mark.parametrize("action", ["add", "change", "move"])
def test_networkmanager_has_no_hint_about_other_interfaces(action: str) -> None:
    others = (Interface(), Interface((("ifalias", "uplink of vfagent"), ("netdev_group", "1"))))
    assert [properties_after(action, other) for other in others] == [{}, {}]


def test_a_vf_itself_is_no_interface() -> None:
    assert properties_after("add", INTERFACES["VF"], subsystem="pci") == {}
