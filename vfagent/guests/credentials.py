# SPDX-License-Identifier: Apache-2.0
"""What a guest's unit loads as systemd credentials: copies that only root can read.

Not SetCredential=: its values are in the unit's file and on D-Bus, where every user of the host can read them
(systemd.exec(5)).
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.guests.seed import oem_strings, seed_image
from vfagent.guests.spec.boot import Loader
from vfagent.guests.spec.qemu import CHAP, COMMAND, SCRIPT, SEED, Guest, command
from vfagent.guests.spec.vnc import LONGEST_PASSWORD, VNC_PASSWORD
from vfagent.store.trusted_files import read_trusted, refusal

_FOLDER = "run/vfagent/credentials"
_LONGEST_SECRET = 255
LONGEST_SCRIPT = 64 << 10


def store_credentials(root: Path, guest: Guest) -> Mapping[str, str]:
    """The paths of the copies by the credential's name. They are kept: systemd reads them at each restart of the guest.

    Raises VfagentError.
    """
    contents = dict(_contents(root, guest))
    folder = root / _FOLDER / guest.rule.name
    try:
        _remove(folder, set(os.listdir(folder) if folder.exists() else ()) - contents.keys())
        return {name: _copy(folder, name, data) for name, data in contents.items()}
    except OSError as error:
        raise VfagentError(f"cannot store its credentials: {error.filename}: {error.strerror}") from error


def store_command(root: Path, guest: Guest) -> None:
    """Another command line for the restarts of a guest that runs. Raises OSError."""
    _copy(root / _FOLDER / guest.rule.name, COMMAND, command(guest))


def _contents(root: Path, guest: Guest) -> Iterator[tuple[str, bytes]]:
    rule, boot = guest.rule, guest.boot
    yield COMMAND, command(guest)
    if rule.chap:
        yield CHAP, _secret(root, rule.chap.secret, "the CHAP secret", _LONGEST_SECRET)
    if rule.vnc_password:
        yield VNC_PASSWORD, _secret(root, rule.vnc_password, "the VNC password", LONGEST_PASSWORD)
    if rule.seed:
        yield SEED, seed_image(root, rule.seed, guest)
    yield from oem_strings(root, guest)
    if boot.loader is Loader.IMAGE and rule.ipxe and rule.ipxe.script:
        yield SCRIPT, read_trusted(root, rule.ipxe.script, "the iPXE script", LONGEST_SCRIPT)
    elif boot.loader is Loader.IMAGE and boot.script is not None and rule.firmware == "bios":
        yield SCRIPT, boot.script.encode()


def _secret(root: Path, file: str, purpose: str, longest: int) -> bytes:
    text = read_trusted(root, file, purpose, _LONGEST_SECRET + 2, secret=True)
    secret = text.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(secret) <= longest or any(not 0x20 < byte < 0x7F for byte in secret):
        raise refusal(file, purpose, f"it is not one line of 1 to {longest} printable ASCII characters without spaces")
    return secret


def forget_credentials(root: Path, keep: Iterable[str]) -> None:
    """Remove those of all other guests. Raises OSError."""
    folder = root / _FOLDER
    for name in set(os.listdir(folder) if folder.exists() else ()) - set(keep):
        guest = folder / name
        _remove(guest, os.listdir(guest))
        guest.rmdir()


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _copy(folder: Path, name: str, data: bytes) -> str:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.replace(temporary, folder / name)
    return str(folder / name)
