# SPDX-License-Identifier: Apache-2.0
"""The part of HTTP that a scrape needs: one request, one response, and the connection is closed."""

import socket
from collections.abc import Mapping
from dataclasses import field
from http import HTTPStatus

from vfagent.frozen import frozen

LONGEST_HEAD = 8192
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
_ASK_BY = "ask by the address, localhost or the host's name"
_INDEX = b'<!DOCTYPE html><title>vfagent</title><h1>vfagent</h1><a href="/metrics">Metrics</a>\n'


class RefusedRequestError(Exception):
    def __init__(self, status: HTTPStatus, headers: Mapping[str, str] | None = None, hint: str = "") -> None:
        super().__init__(status.phrase)
        self.status = status
        self.headers = headers or {}
        self.hint = hint


@frozen(slots=True)
class Request:
    """The request of a client; `hosts`: its Host fields, of which any client sends one."""

    path: str
    gzip: bool
    hosts: tuple[str, ...] = ()


@frozen(slots=True)
class Answer:
    """The response to a client."""

    status: HTTPStatus
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        return head(self.status, {"Content-Length": str(len(self.body)), **self.headers}) + self.body


def head(status: HTTPStatus, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "X-Content-Type-Options: nosniff", "Connection: close", "", ""]).encode("latin-1")


def parse(data: bytes) -> Request:
    """A request's head, up to the empty line. Raises RefusedRequestError."""
    first, *fields = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST)
    method, target, version = words
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise RefusedRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if method not in _METHODS:
        raise RefusedRequestError(HTTPStatus.NOT_IMPLEMENTED)
    if method != "GET":
        raise RefusedRequestError(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET"})
    hosts = tuple(
        value.strip() for name, _, value in (line.partition(":") for line in fields) if name.lower() == "host"
    )
    return Request(target.partition("?")[0], gzip=any(_accepts_gzip(line) for line in fields), hosts=hosts)


def check_host(request: Request) -> None:
    """Raises RefusedRequestError for a request to another host's name, at a listener for this host alone.

    A web page may let its own name resolve to 127.0.0.1 (DNS rebinding), and a browser on this host lets it read what
    that name serves. No client but a browser is bound by this, and a browser always sends a Host field.
    """
    own = socket.gethostname().lower()
    if not all(_is_own(host, {own, own.partition(".")[0]}) for host in request.hosts):
        raise RefusedRequestError(HTTPStatus.MISDIRECTED_REQUEST, hint=_ASK_BY)


def _is_own(host: str, own: set[str]) -> bool:
    name, colon, port = host.rpartition(":")
    name = (name if colon and port.isdecimal() else host).lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or name in own:
        return True
    bracketed = name.startswith("[") and name.endswith("]")
    try:
        socket.inet_pton(socket.AF_INET6 if bracketed else socket.AF_INET, name.strip("[]"))
    except (OSError, ValueError):
        return False
    return True


def _accepts_gzip(line: str) -> bool:
    name, _, value = line.partition(":")
    if name.lower() != "accept-encoding":
        return False
    offers = (offer.replace(" ", "").lower() for offer in value.split(","))
    weights = {name: weight for name, _, weight in (offer.partition(";q=") for offer in offers)}
    return weights.get("gzip", "0").strip("0.") != "" or weights.get("gzip") == ""


def index() -> Answer:
    return Answer(HTTPStatus.OK, _INDEX, {"Content-Type": "text/html; charset=utf-8"})


def refusal(error: RefusedRequestError) -> Answer:
    hint = f": {error.hint}" if error.hint else ""
    text = f"{error.status.value} {error.status.phrase}{hint}\n".encode()
    return Answer(error.status, text, {"Content-Type": "text/plain; charset=utf-8", **error.headers})
