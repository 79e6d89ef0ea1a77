# SPDX-License-Identifier: Apache-2.0
"""A file that a user has asked for: whole or not at all, and not over one that is there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vfagent.errors import VfagentError, errno_text


@contextlib.contextmanager
def new_file(path: Path, mode: int, *, force: bool = False, hint: str) -> Iterator[BinaryIO]:
    """Without `force` a file that is there stays, whoever made it meanwhile; then `hint` is given.

    Raises VfagentError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with open(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(fd)
            if force:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise VfagentError(f"{path}: cannot write it: it is there already", hint=hint) from None
    except OSError as error:
        raise VfagentError(f"{path}: cannot write it: {errno_text(error.errno or 0)}") from error
