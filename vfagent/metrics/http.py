# SPDX-License-Identifier: Apache-2.0
"""The part of HTTP that a scrape needs: one request, one response, and the connection is closed."""

from collections.abc import Mapping
from dataclasses import field
from http import HTTPStatus

from vfagent.frozen import frozen

LONGEST_HEAD = 8192
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
_INDEX = b'<!DOCTYPE html><title>vfagent</title><h1>vfagent</h1><a href="/metrics">Metrics</a>\n'


class RefusedRequestError(Exception):
    def __init__(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.phrase)
        self.status = status
        self.headers = headers or {}


@frozen(slots=True)
class Request:
    """The request of a client."""

    path: str
    gzip: bool


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
    return Request(target.partition("?")[0], gzip=any(_accepts_gzip(line) for line in fields))


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
    text = f"{error.status.value} {error.status.phrase}\n".encode()
    return Answer(error.status, text, {"Content-Type": "text/plain; charset=utf-8", **error.headers})
