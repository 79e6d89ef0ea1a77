# SPDX-License-Identifier: Apache-2.0
"""Clients of /metrics."""

import asyncio
import gzip
import ssl
from dataclasses import dataclass

PORT = 9862
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        packed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()


def parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    assert int(headers["content-length"]) == len(body)
    return Answer(int(first.split()[1]), headers, body)


async def connect(
    port: int = PORT, path: str = "", tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if path:
        return await asyncio.open_unix_connection(path)
    return await asyncio.open_connection("127.0.0.1", port, ssl=tls)


async def ask(
    request: bytes = REQUEST, *, port: int = PORT, path: str = "", tls: ssl.SSLContext | None = None
) -> Answer:
    reader, writer = await connect(port, path, tls)
    writer.write(request)
    data = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return parsed(data)


def value(page: str, name: str, *labels: str) -> float:
    """Of the one sample that has these labels."""
    lines = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    (sample,) = (line for line in lines if all(label in line for label in labels))
    return float(sample.rpartition(" ")[2])
