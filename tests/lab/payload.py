# SPDX-License-Identifier: Apache-2.0
"""Files that are added to a VM's root before systemd starts."""

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a link (target set) or an empty folder (data None)."""

    data: bytes | None = b""
    mode: int = 0o644
    target: str = ""


Content = bytes | Path | Entry


def tree_of(source: Mapping[str, Content] | Path) -> dict[str, Entry]:
    """Entries by absolute path, from a folder or a mapping."""
    if isinstance(source, Path):
        return _from_folder(source)
    return {path: _entry(content) for path, content in source.items()}


def _entry(content: Content) -> Entry:
    if isinstance(content, Entry):
        return content
    if isinstance(content, bytes):
        return Entry(content)
    return _from_path(content)


def _from_path(path: Path) -> Entry:
    if path.is_symlink():
        return Entry(target=os.readlink(path))
    mode = path.stat().st_mode & 0o7777
    return Entry(None if path.is_dir() else path.read_bytes(), mode)


def _from_folder(folder: Path) -> dict[str, Entry]:
    """Only empty folders, so that the VM's own folders keep their modes."""
    paths = [path for path in sorted(folder.rglob("*")) if not _has_content(path)]
    return {f"/{path.relative_to(folder)}": _from_path(path) for path in paths}


def _has_content(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and any(path.iterdir())


def archive(tree: Mapping[str, Entry]) -> bytes:
    """A tar that busybox reads straight from a block device."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, entry in tree.items():
            tar.addfile(_member(path, entry), io.BytesIO(entry.data or b""))
    return buffer.getvalue()


def _member(path: str, entry: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path.lstrip("/"))
    member.mode = entry.mode
    if entry.target:
        member.type, member.linkname = tarfile.SYMTYPE, entry.target
    elif entry.data is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(entry.data)
    return member
