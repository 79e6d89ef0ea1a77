# SPDX-License-Identifier: Apache-2.0
"""Which files of a policy somebody other than root can change, or read where they are secret."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vfagent.frozen import frozen
from vfagent.policy.references import guests_of, vf_reference
from vfagent.policy.types import GuestRule, Policy
from vfagent.store.host_files import HostFiles
from vfagent.store.policy_files import DROP_IN_FOLDERS
from vfagent.store.trusted_files import distrust, distrust_disk

_MOST_VFS = 1024


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
    kvm = _group(root, "kvm")
    for path, guest in _disks(policy):
        if why := distrust_disk(root, path, kvm):
            untrusted.setdefault(path, Untrusted(path, f"a disk of guest {guest}", why))
    return tuple(untrusted.values())


def _disks(policy: Policy) -> Iterator[tuple[str, str]]:
    for guest in _guests(policy):
        for disk in guest.disk:
            yield from ((path, guest.name) for path in (disk.path, *disk.backing) if not path.startswith("/dev/"))


def _guests(policy: Policy) -> Iterator[GuestRule]:
    """With {index} filled in. How many VFs "*" means here is not known: a file that does not exist is no matter."""
    counts = {rule.name: rule.vfs.number for rule in policy.pf if rule.vfs}
    for rule in policy.guest:
        label = vf_reference(rule.each).label if rule.each else ""
        yield from islice(guests_of(rule, counts.get(label) or _MOST_VFS), _MOST_VFS)


def _group(root: Path, name: str) -> int | None:
    for line in (HostFiles(root).read("etc/group") or "").splitlines():
        words = line.split(":")
        if words[0] == name and len(words) > 2 and words[2].isdecimal():
            return int(words[2])
    return None


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
    for guest in _guests(policy):
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
