# SPDX-License-Identifier: Apache-2.0
"""A guest's screen: where its QEMU serves VNC, and who can reach it. Pure."""

import json
from enum import Enum, auto
from typing import assert_never

from vfagent.policy.strings import VNC_SOCKET
from vfagent.policy.types import GuestRule

VNC_PASSWORD = "vnc-password"  # the credential
LONGEST_PASSWORD = 8  # the protocol cuts the rest (RFC 6143, 7.2.2)


class Reach(Enum):
    """Who can connect to a guest's screen."""

    NOBODY = auto()
    ROOT = auto()
    HOST = auto()  # every user and process of the host
    NETWORK = auto()


def reach(rule: GuestRule) -> Reach:
    if rule.vnc_remote is not None:
        return Reach.NETWORK
    if rule.vnc is None:
        return Reach.NOBODY
    return Reach.ROOT if rule.vnc == VNC_SOCKET else Reach.HOST


def needs_network(rule: GuestRule) -> bool:
    """An address, of loopback too, is the host's: QEMU listens there only in the host's network namespace."""
    return reach(rule) in (Reach.HOST, Reach.NETWORK)


def opened_to(rule: GuestRule) -> str | None:
    """Who else than root can open it, in words; None where nobody can."""
    knowing = f" with its password of at most {LONGEST_PASSWORD} characters" if rule.vnc_password else ""
    match reach(rule):
        case Reach.NOBODY | Reach.ROOT:
            return None
        case Reach.HOST:
            return f"all users of this host{knowing} can open its screen at {rule.vnc}"
        case Reach.NETWORK:
            return f"other hosts{knowing} can open its screen at {rule.vnc_remote}"
        case other:
            assert_never(other)


def screen(rule: GuestRule, socket: str, password: str) -> list[str]:
    """QEMU's options. `socket`: a path that only the guest's user and root can reach; `password`: its file."""
    if reach(rule) is Reach.NOBODY:
        return ["-display", "none"]
    where = rule.vnc_remote or rule.vnc or ""
    words = [f"unix:{socket}" if where == VNC_SOCKET else where]
    secret = []
    if rule.vnc_password:
        secret = ["-object", _json({"qom-type": "secret", "id": VNC_PASSWORD, "file": password})]
        words.append(f"password-secret={VNC_PASSWORD}")
    return [*secret, "-vnc", ",".join(words), "-device", _json({"driver": "VGA", "bus": "pcie.0"})]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
