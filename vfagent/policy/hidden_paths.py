# SPDX-License-Identifier: Apache-2.0
"""Paths that a guest's unit or the service never sees, as systemd hides them."""

from collections.abc import Iterator

from vfagent.policy.problems import Problem, quoted
from vfagent.policy.source_locations import Location
from vfagent.policy.types import GuestRule

# By ProtectHome= (/run/user too, systemd.exec(5)) and PrivateTmp=; of /dev and /run by vfagent/guests/spec/view.py.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
_OF_THE_GUEST = ("/dev/hugepages", "/dev/shm", "/proc", "/run/credentials", "/run/systemd", "/run/vfagent", "/sys")
_ALLOWED = "allowed is another folder, such as /srv or /var/lib"


def check_hidden_paths(rule: GuestRule, at: Location) -> Iterator[Problem]:
    for key, path in _paths_of_qemu(rule, at):
        if (folder := _below(path, (*_HIDDEN, *_OF_THE_GUEST))) is not None:
            yield key.problem(f"found {quoted(path)}, and a guest sees nothing of the host's {folder}, {_ALLOWED}")
    for key, path in _paths_of_the_service(rule, at):
        if (folder := _below(path, _HIDDEN)) is not None:
            yield key.problem(f"found {quoted(path)}, and vfagent sees nothing of {folder}, {_ALLOWED}")


def _below(path: str, folders: tuple[str, ...]) -> str | None:
    """Only what begins with `/` is a path: a seed or credential may be the text itself."""
    if not path.startswith("/"):
        return None
    plain = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    return next((folder for folder in folders if plain == folder or plain.startswith(f"{folder}/")), None)


def _paths_of_qemu(rule: GuestRule, at: Location) -> Iterator[tuple[Location, str]]:
    if rule.kernel:
        yield at / "kernel" / "image", rule.kernel.image
        if rule.kernel.initrd:
            yield at / "kernel" / "initrd", rule.kernel.initrd
    for number, disk in enumerate(rule.disk):
        disk_at = at / "disk" / number
        yield disk_at / "path", disk.path
        yield from ((disk_at / "backing" / place, path) for place, path in enumerate(disk.backing))


def _paths_of_the_service(rule: GuestRule, at: Location) -> Iterator[tuple[Location, str]]:
    """What vfagent reads itself, and gives the guest as a copy."""
    if rule.ipxe and rule.ipxe.script:
        yield at / "ipxe" / "script", rule.ipxe.script
    if rule.chap:
        yield at / "chap" / "secret", rule.chap.secret
    if rule.seed:
        seed = ((name, getattr(rule.seed, name)) for name in ("user_data", "meta_data", "network_config"))
        yield from ((at / "seed" / name, text) for name, text in seed if text)
    yield from ((at / "credentials" / name, text) for name, text in rule.credentials)
    if rule.vnc_password:
        yield at / "vnc_password", rule.vnc_password
