# SPDX-License-Identifier: Apache-2.0
"""The answers of the kernel and udev to what vfagent asks, kept for another host: the report's tree has them.

A sysfs can be copied; netlink, devlink and udev's database cannot. Each answer is kept under the question, so the same
questions get the same answers where the tree is read.
"""

import errno
import json
import os
import stat
import typing
from collections.abc import Callable
from typing import Any

from vfagent.kernel.protocols import Sysfs
from vfagent.model.codec import decode_as, encode

ANSWERS_FILE = "vfagent-answers.json"


def _question(adapter: str, method: str, args: tuple[object, ...], keywords: dict[str, object]) -> str:
    return f"{adapter}.{method}{json.dumps([encode(args), encode(keywords)], sort_keys=True)}"


class Recorder:
    """An adapter whose answers are kept in `answers`."""

    def __init__(self, adapter: object, name: str, answers: dict[str, Any]) -> None:
        self._adapter, self._name, self._answers = adapter, name, answers

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def ask(*args: object, **keywords: object) -> Any:
            question = _question(self._name, method, args, keywords)
            try:
                answer = getattr(self._adapter, method)(*args, **keywords)
            except OSError as error:
                self._answers[question] = {"errno": error.errno}
                raise
            self._answers[question] = {"answer": encode(answer)}
            return answer

        return ask


class Replay:
    """An adapter that gives the answers that were kept; others are `fallback`'s. `protocol` has their types."""

    def __init__(self, protocol: type, name: str, answers: dict[str, Any], fallback: object) -> None:
        self._protocol, self._name, self._answers, self._fallback = protocol, name, answers, fallback

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def answer(*args: object, **keywords: object) -> Any:
            kept = self._answers.get(_question(self._name, method, args, keywords))
            if not isinstance(kept, dict):
                return getattr(self._fallback, method)(*args, **keywords)
            if number := kept.get("errno"):
                raise OSError(number, os.strerror(number))
            kind = typing.get_type_hints(getattr(self._protocol, method))["return"]
            try:
                return decode_as(kind, kept.get("answer"))
            except ValueError as error:
                raise OSError(errno.EBADMSG, f"{ANSWERS_FILE}: {error}") from error

        return answer


class RecordingSysfs:
    """Keeps what was read, and of folders the names in them: `files`, `links` and `folders`, by path."""

    def __init__(self, sysfs: Sysfs, root: str) -> None:
        self._sysfs, self._root = sysfs, os.path.realpath(root).rstrip("/")
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.folders: set[str] = set()

    def read(self, path: str) -> str | None:
        text = self._sysfs.read(path)
        if text is not None:
            self.files[self._real(path)] = text
        return text

    def names(self, path: str) -> list[str]:
        names = self._sysfs.names(path)
        folder = self._real(path)
        self.folders |= {folder} if names else set()
        for name in names:
            self._note(f"{folder}/{name}")
        return names

    def link(self, path: str) -> str | None:
        target = self._sysfs.link(path)
        if target is not None:
            self._note(f"{self._real(os.path.dirname(path))}/{os.path.basename(path)}")
        return target

    def exists(self, path: str) -> bool:
        exists = self._sysfs.exists(path)
        if exists:
            self._note(self._real(path))
        return exists

    def write(self, path: str, text: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _real(self, path: str) -> str:
        """The path without links, which are kept: the same paths lead to the same files in the copy."""
        at = self._root
        for part in path.split("/"):
            step = f"{at}/{part}"
            if os.path.islink(step):
                self._note(step.removeprefix(f"{self._root}/"))
                step = os.path.realpath(step)
            at = step
        return at.removeprefix(f"{self._root}/")

    def _note(self, path: str) -> None:
        """A link as it is; a file without its text, a folder without its names, until they are read."""
        try:
            mode = os.lstat(f"{self._root}/{path}").st_mode
            if stat.S_ISLNK(mode):
                self.links[path] = os.readlink(f"{self._root}/{path}")
            elif stat.S_ISDIR(mode):
                self.folders.add(path)
            else:
                self.files.setdefault(path, "")
        except OSError:
            return  # it is gone meanwhile
