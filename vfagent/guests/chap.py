# SPDX-License-Identifier: Apache-2.0
"""CHAP secrets: copied, without the newline, into a file that only root can read."""

import os
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.policy.types import ChapRule

_SECRETS = "run/vfagent/secrets"
_LONGEST = 255


def secret_file(root: Path, guest: str, rule: ChapRule) -> str:
    """The path of the copy. It is kept: systemd reads it again at each restart of the guest."""
    try:
        text = (root / rule.secret.lstrip("/")).read_bytes()[: _LONGEST + 2]
    except OSError as error:
        raise VfagentError(f"cannot read its CHAP secret: {rule.secret}: {error.strerror}") from error
    secret = text.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(secret) <= _LONGEST or any(not 0x20 < byte < 0x7F for byte in secret):
        why = f"is not one line of 1 to {_LONGEST} printable ASCII characters without spaces"
        raise VfagentError(f"cannot use its CHAP secret: {rule.secret} {why}")
    try:
        return _copy(root / _SECRETS, guest, secret)
    except OSError as error:
        raise VfagentError(f"cannot store its CHAP secret: {error.filename}: {error.strerror}") from error


def _copy(folder: Path, guest: str, secret: bytes) -> str:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".{guest}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(secret)
    os.replace(temporary, folder / guest)
    return str(folder / guest)
