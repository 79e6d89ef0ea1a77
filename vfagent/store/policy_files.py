# SPDX-License-Identifier: Apache-2.0
"""The policy's files: which are read, in which order, and which are refused before they are parsed."""

import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vfagent.frozen import frozen

try:
    import tomli
except ImportError:
    import tomllib as tomli  # type: ignore[no-redef,unused-ignore]

from vfagent.errors import PolicyError, PolicyUnreadError, errno_text
from vfagent.kernel.rooted import leaves
from vfagent.policy.positions import DEEPEST, Positions, scan
from vfagent.policy.problems import Problem
from vfagent.policy.reading import Merged, merged
from vfagent.policy.source_locations import Document
from vfagent.policy.toml_advice import advise
from vfagent.policy.types import Policy

POLICY_FILE = "etc/vfagent/policy.toml"
STDIN = Path("-")
DROP_IN_FOLDERS = ("usr/lib/vfagent/policy.d", "run/vfagent/policy.d", "etc/vfagent/policy.d")

_LARGEST = 1 << 20  # of one file, and of all files together: the service parses 1 MiB in some three seconds
_MOST_FILES = 64
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


class _UnusableError(Exception):
    """Why a file cannot be used, and its line and column where known; `errno` where the kernel refused it."""

    def __init__(
        self, text: str, line: int = 0, column: int = 0, *, errno: int = 0, source: tuple[str, int] = ("", 0)
    ) -> None:
        super().__init__(text)
        self.line, self.column, self.errno = line, column, errno
        self.source, self.cut = source

    def problem(self, file: str) -> Problem:
        return Problem(file, self.line, self.column, "", str(self), self.errno, source=self.source, cut=self.cut)


@frozen(slots=True)
class _PolicyFile:
    """One file of the policy."""

    name: str
    content: bytes
    document: Document


def load(root: Path = Path("/")) -> Policy:
    """The policy of a host. Without any file it is empty."""
    return load_merged(root).policy


def load_merged(root: Path = Path("/")) -> Merged:
    """The same, with the places of its rules."""
    problems: list[Problem] = []
    drop_ins = _drop_ins(root, problems)
    paths = [path for path in (root / POLICY_FILE, *drop_ins) if os.path.lexists(path) and not _masked(path)]
    return _read_all(paths, problems, root, may_vanish=True)


def load_files(paths: Sequence[Path]) -> Policy:
    """The policy of these files alone, in this order; `-` is standard input."""
    return load_merged_files(paths).policy


def load_merged_files(paths: Sequence[Path]) -> Merged:
    """The same, with the places of their rules."""
    return _read_all(paths, [], Path("/"), may_vanish=False)


def load_text(name: str, text: str) -> Policy:
    """A policy that is not in a file yet."""
    try:
        document = _document(name, text)
    except _UnusableError as error:
        raise PolicyError([error.problem(name)]) from None
    return merged([document]).policy


def _drop_ins(root: Path, problems: list[Problem]) -> list[Path]:
    """Drop-ins of all folders, sorted by name. Of files with the same name, the one in the last folder counts."""
    chosen: dict[str, Path] = {}
    for folder in (root / name for name in DROP_IN_FOLDERS):
        if root != Path("/") and leaves(os.path.realpath(root), str(folder)):
            continue
        try:
            names = [name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith(".")]
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(_kernel_problem(folder, "list", error.errno or 0))
            continue
        chosen.update((name, folder / name) for name in names)
    return [chosen[name] for name in sorted(chosen)]


def misnamed(root: Path) -> Iterator[Problem]:
    """For each file of a drop-in folder that looks like a drop-in and is not read."""
    for folder in (root / name for name in DROP_IN_FOLDERS):
        with suppress(OSError):
            for name in sorted(os.listdir(folder)):
                if re.search(r"(?i)toml|\.conf$", name) and not name.endswith((".toml", "~")) and name[0] not in ".#":
                    yield Problem(_shown(folder / name), 0, 0, "", "is not read, as its name does not end in .toml")


def _masked(path: Path) -> bool:
    try:
        return os.readlink(path) == os.devnull
    except OSError:
        return False


def _read_all(paths: Sequence[Path], problems: list[Problem], root: Path, *, may_vanish: bool) -> Merged:
    if len(paths) > _MOST_FILES:
        text = f"found {len(paths)} files, allowed are at most {_MOST_FILES}"
        problems.append(Problem(_shown(paths[_MOST_FILES]), 0, 0, "", text))
        raise PolicyError(problems)
    files: list[_PolicyFile] = []
    size = 0
    for path in paths:
        try:
            content = _content(path, root)
            size += len(content)
            if size > _LARGEST:
                text = f"found more than {_LARGEST} bytes in all files together, allowed is at most 1 MiB"
                raise _UnusableError(text)
            files.append(_PolicyFile(path.name, content, _document(_shown(path), _decoded(content))))
        except FileNotFoundError:
            if not may_vanish:
                problems.append(_kernel_problem(path, "read", errno.ENOENT))
        except _UnusableError as error:
            problems.append(error.problem(_shown(path)))
    try:
        result = merged([file.document for file in files], problems)
    except PolicyError as error:
        raise _unread(error, problems) from None
    return replace(result, policy=replace(result.policy, digest=_digest(files)))


def _unread(error: PolicyError, problems: Sequence[Problem]) -> PolicyError:
    """The same error; where the kernel refused a file, a PolicyUnreadError: the policy itself may be valid."""
    reasons = {problem.errno for problem in problems} - {0}
    if not reasons:
        return error
    hint = "run it as root" if reasons & {errno.EACCES, errno.EPERM} else None
    if errno.ENOENT in reasons:
        hint = "name a file that is there; vfagent check alone reads this host's own policy"
    return PolicyUnreadError(error.reported, hint=hint)


def _content(path: Path, root: Path) -> bytes:
    """The content of a regular file, or of standard input.

    Raises FileNotFoundError only where not even a symbolic link exists.
    """
    if path == STDIN:
        return _bounded(sys.stdin.fileno())
    if root != Path("/") and leaves(os.path.realpath(root), str(path)):
        raise _UnusableError(f"found a symbolic link that leaves {root}, allowed is a file of the same tree")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        raise _open_problem(path, error) from error
    try:
        return _regular_content(descriptor)
    finally:
        os.close(descriptor)


def _regular_content(descriptor: int) -> bytes:
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        kind = next((word for test, word in _KINDS if test(mode)), "something else")
        raise _UnusableError(f"found {kind}, allowed is a regular file")
    return _bounded(descriptor)


def _bounded(descriptor: int) -> bytes:
    try:
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise _cannot("read", error.errno or 0) from error
    if len(content) > _LARGEST:
        raise _UnusableError(f"found more than {_LARGEST} bytes, allowed is at most 1 MiB")
    return content


def _open_problem(path: Path, error: OSError) -> _UnusableError:
    if isinstance(error, FileNotFoundError):
        text = f"found a symbolic link to {os.readlink(path)!r}, which does not exist, allowed is a regular file"
        return _UnusableError(text)
    return _cannot("read", error.errno or 0)


def _cannot(attempt: str, number: int) -> _UnusableError:
    return _UnusableError(f"cannot {attempt} it: {errno_text(number)}", errno=number)


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _UnusableError("found a byte order mark of UTF-16, allowed is UTF-8 (iconv -f UTF-16 -t UTF-8)", 1, 1)
    if content.startswith(b"\xef\xbb\xbf"):
        raise _UnusableError(
            r"found a byte order mark, allowed is UTF-8 without one (sed -i '1s/^\xef\xbb\xbf//')", 1, 1
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line, column = _line_column(content, error.start)
        byte = f"0x{content[error.start]:02x} at offset {error.start}"
        raise _UnusableError(
            f"found byte {byte}, allowed is UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)",
            line,
            column,
        ) from error
    if "\0" in text:
        offset = content.index(0)
        line, column = _line_column(content, offset)
        raise _UnusableError(f"found a NUL byte at offset {offset}, allowed is text", line, column)
    return text


def _line_column(content: bytes, offset: int) -> tuple[int, int]:
    before = content[:offset].decode(errors="replace")
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _document(name: str, text: str) -> Document:
    positions = scan(text)
    if positions.too_deep is not None:
        # Before parsing: parsers recurse into nesting, and older ones take quadratic time over dotted keys.
        raise _UnusableError(f"found nesting deeper than {DEEPEST}", *positions.line_column(positions.too_deep))
    try:
        return Document(name, positions, tomli.loads(text))
    except RecursionError:
        raise _UnusableError("found nesting too deep to parse") from None
    except ValueError as error:
        raise _syntax_problem(error, positions) from error


def _syntax_problem(error: ValueError, positions: Positions) -> _UnusableError:
    text, line, column = _parser_error(error, positions.text)
    advice = advise(positions, line, column) if line else None
    if advice:
        text, line, column = advice.text, advice.line, advice.column
    source = positions.source(line, column) if line else ("", 0)
    return _UnusableError(f"not TOML: {text}", line, column, source=source)


def _parser_error(error: ValueError, text: str) -> tuple[str, int, int]:
    """Message, line and column. Newer parsers have them as attributes, older ones only in the message."""
    line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
    if line:
        return getattr(error, "msg", str(error)), line, column
    words = re.fullmatch(r"(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
    if words is None:
        return str(error), 0, 0
    if words[2]:
        return words[1], int(words[2]), int(words[3])
    return words[1], text.count("\n") + 1, len(text) - text.rfind("\n")


def _kernel_problem(path: Path, attempt: str, number: int) -> Problem:
    return Problem(_shown(path), 0, 0, "", str(_cannot(attempt, number)), number)


def _shown(path: Path) -> str:
    if path == STDIN:
        return "standard input"
    return os.fsencode(path).decode(errors="backslashreplace")


def _digest(files: Iterable[_PolicyFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        for part in (os.fsencode(file.name), file.content):
            digest.update(f"{len(part)}:".encode() + part)
    return digest.hexdigest()[:12]
