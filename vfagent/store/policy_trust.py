# SPDX-License-Identifier: Apache-2.0
"""Which files of a policy somebody other than root can change, or read where they are secret."""

from collections.abc import Iterator
from pathlib import Path

from vfagent.frozen import frozen
from vfagent.policy.types import GuestRule, Policy
from vfagent.store.policy_files import DROP_IN_FOLDERS
from vfagent.store.trusted_files import distrust


@frozen(slots=True)
class Untrusted:
    """A file or folder, what it is for, and why it is not root's alone."""

    path: str
    purpose: str
    why: str

    def __str__(self) -> str:
        return f"{self.path} ({self.purpose}): {self.why}"


def untrusted_files(policy: Policy, root: Path) -> tuple[Untrusted, ...]:
    """Also of rules whose PF is not here. What does not exist is trusted."""
    untrusted: dict[str, Untrusted] = {}
    for path, purpose, secret in _named(policy, root):
        if why := distrust(root, path, secret=secret):
            untrusted.setdefault(path, Untrusted(path, purpose, why))
    return tuple(untrusted.values())


def _named(policy: Policy, root: Path) -> Iterator[tuple[str, str, bool]]:
    prefix = "" if root == Path("/") else str(root)
    yield from ((path.removeprefix(prefix), "a policy file", False) for path in policy.files)
    yield from ((f"/{folder}", "a folder of drop-ins", False) for folder in DROP_IN_FOLDERS)
    agent = policy.agent
    if agent.metrics_tls:
        yield agent.metrics_tls.private_key, "the key of the metrics' certificate", True
        yield agent.metrics_tls.cert, "the metrics' certificate", False
        if agent.metrics_tls.client_ca:
            yield agent.metrics_tls.client_ca, "the CA of the metrics' clients", False
    if agent.ipxe_source:
        yield agent.ipxe_source, "the iPXE source tree", False
    for guest in policy.guest:
        yield from _of_guest(guest)


def _of_guest(guest: GuestRule) -> Iterator[tuple[str, str, bool]]:
    name = f"of guest {guest.name}"
    if guest.chap:
        yield guest.chap.secret, f"the CHAP secret {name}", True
    if guest.vnc_password:
        yield guest.vnc_password, f"the VNC password {name}", True
    if guest.ipxe and guest.ipxe.script:
        yield guest.ipxe.script, f"the iPXE script {name}", False
    if guest.ipxe and guest.ipxe.rom:
        yield guest.ipxe.rom, f"the ROM {name}", False
    if guest.kernel:
        yield guest.kernel.image, f"the kernel {name}", False
        if guest.kernel.initrd:
            yield guest.kernel.initrd, f"the initial RAM disk {name}", False
