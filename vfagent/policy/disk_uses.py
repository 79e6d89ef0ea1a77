# SPDX-License-Identifier: Apache-2.0
"""One disk, one writer: each use of a disk by a guest, local or over iSCSI, and the uses that exclude each other."""

import re
from collections.abc import Iterable, Iterator

from vfagent.frozen import frozen
from vfagent.policy.iscsi import device_disk, differs_by_guest, iscsi_url, iscsi_urls, variable
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import INDEX_MARK
from vfagent.policy.source_locations import Location
from vfagent.policy.types import GuestRule

_SHARED = "shared = true at both, for guests whose file system expects that"


@frozen(slots=True)
class DiskUse:
    """`disk`: the same for every spelling of the disk. `text`: as written. `at` is the key, `table` has `shared`."""

    disk: str
    text: str
    guest: str
    at: Location
    table: Location
    writes: bool
    shared: bool

    @property
    def over_network(self) -> bool:
        return self.disk.startswith("iscsi:") and not self.text.startswith("/")


def disk_uses(rule: GuestRule, at: Location) -> Iterator[DiskUse]:
    """What http: names is read-only, and what a script of one's own boots is not known."""
    for name, table, text in (
        ("sanboot", rule.ipxe, rule.ipxe.sanboot if rule.ipxe else None),
        ("root", rule.kernel, rule.kernel.root if rule.kernel else None),
    ):
        key = "ipxe" if name == "sanboot" else "kernel"
        for url in dict.fromkeys(iscsi_urls((text,))):
            disk, shared = _disk_of_url(url), table is not None and table.shared
            yield DiskUse(disk, url, rule.name, at / key / name, at / key, writes=True, shared=shared)
    for number, local in enumerate(rule.disk):
        table_at = at / "disk" / number
        writes = not local.readonly
        disk = local_disk(local.path)
        yield DiskUse(disk, local.path, rule.name, table_at / "path", table_at, writes=writes, shared=local.shared)
        for place, path in enumerate(local.backing):
            backing_at = table_at / "backing" / place
            yield DiskUse(local_disk(path), path, rule.name, backing_at, table_at, writes=False, shared=False)


def _disk_of_url(url: str) -> str:
    if variable(url):
        return url
    return iscsi_url(url.replace(INDEX_MARK, "0")).disk if INDEX_MARK in url else iscsi_url(url).disk


def local_disk(path: str) -> str:
    """A path without what does not count; an LVM volume by its name in its group, an iSCSI device by its target."""
    plain = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    mapped = re.fullmatch(r"/dev/mapper/((?:[^-]|--)+)-((?:[^-]|--)+)", plain)
    if mapped:
        return "/dev/" + "/".join(name.replace("--", "-") for name in mapped.groups())
    return device_disk(plain) or plain


def one_disk_for_each(rule: GuestRule, at: Location) -> Iterator[Problem]:
    """Of a rule that makes several guests."""
    for use in disk_uses(rule, at):
        if not use.writes or use.shared or INDEX_MARK in use.text or differs_by_guest(use.text):
            continue
        if use.over_network:
            allowed = f"a URL with {INDEX_MARK}, or shared = true, for guests whose file system expects that"
            yield use.at.problem(f"found one iSCSI disk for several guests, allowed is {allowed}")
        else:
            allowed = f"a path with {INDEX_MARK}, or readonly = true"
            yield use.at.problem(f"found one writable disk for several guests, allowed is {allowed}")


def disks_of_several(guests: Iterable[tuple[GuestRule, Location]]) -> Iterator[Problem]:
    """Disks that one guest writes and another uses."""
    known: dict[str, list[DiskUse]] = {}
    for rule, at in guests:
        for use in disk_uses(rule, at):
            if differs_by_guest(use.text):
                continue
            others = known.setdefault(use.disk, [])
            other = next((other for other in others if _exclude(use, other)), None)
            if other is not None:
                yield use.at.problem(_twice(use, other))
            # Two are enough to find every problem: a writer, and a reader or a second one that shares.
            if len(others) < 2 or use.writes:
                others.append(use)


def _exclude(use: DiskUse, other: DiskUse) -> bool:
    """The URLs of one guest are the same disk on purpose: it boots by iPXE or by its kernel."""
    if use.at == other.at or (use.guest == other.guest and use.over_network and other.over_network):
        return False
    return (use.writes or other.writes) and not (use.shared and other.shared)


def _twice(use: DiskUse, other: DiskUse) -> str:
    what = "iSCSI disk" if use.over_network else "writable disk" if use.writes else "disk"
    same = "" if use.text == other.text else f", which is {quoted(other.text)}"
    role = "" if other.writes else " read-only"
    return (
        f"found {what} {quoted(use.text)} a second time{same}, allowed is once, or {_SHARED}:"
        f" first used{role} at {other.at}"
    )
