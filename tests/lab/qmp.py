# SPDX-License-Identifier: Apache-2.0
"""A small QMP client: JSON lines over QEMU's unix socket."""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class QmpError(RuntimeError):
    """QEMU refused a command."""


class Qmp:
    """One connection. Events that arrive between answers are kept."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        self._receive(time.monotonic() + 30)
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 30) -> Any:
        """Runs a command and returns its result."""
        request = {"execute": command, "arguments": arguments or {}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        deadline = time.monotonic() + timeout
        while "event" in (message := self._receive(deadline)):
            self.events.append(message)
        if "error" in message:
            raise QmpError(f"{command} {arguments}: {message['error']['desc']}")
        return message["return"]

    def wait_event(self, name: str, timeout: float, **data: object) -> dict[str, Any]:
        """Waits for the first event of this name with these values in its data."""
        deadline = time.monotonic() + timeout
        while not (event := self._taken(name, data)):
            self.events.append(self._receive(deadline))
        return event

    def _taken(self, name: str, data: dict[str, object]) -> dict[str, Any] | None:
        for event in self.events:
            if event["event"] == name and data.items() <= event.get("data", {}).items():
                self.events.remove(event)
                return event
        return None

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("QEMU closed its QMP socket")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
