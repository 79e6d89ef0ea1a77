# SPDX-License-Identifier: Apache-2.0
"""The part of HTTP that a scrape needs: one request, one response, and the connection is closed."""

import socket
from collections.abc import Iterable, Mapping
from html import escape
from http import HTTPStatus

from vfagent.frozen import frozen
from vfagent.metrics.view import About

LONGEST_HEAD = 8192
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
_ANSWERED = ("GET", "HEAD")
_ASK_BY = "ask by the address, localhost or the host's name"
_PLAIN = "text/plain; charset=utf-8"
_INDEX = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>vfagent</title>
<h1>vfagent {version}</h1>
<p>Policy: {policy}
<ul>
<li><a href="/metrics">Metrics</a>
<li><a href="/-/ready">Ready</a>
<li><a href="/-/healthy">Healthy</a>
</ul>
"""


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
    gzip: bool = False
    hosts: tuple[str, ...] = ()
    accept: str = ""
    head_only: bool = False


@frozen(slots=True)
class Response:
    """The response to a client, its body in pieces."""

    status: HTTPStatus
    body: Iterable[bytes | memoryview]
    size: int
    headers: Mapping[str, str]

    def head(self) -> bytes:
        headers = {**self.headers, "Content-Length": self.size, "X-Content-Type-Options": "nosniff"}
        fields = (f"{name}: {value}" for name, value in headers.items())
        first = f"HTTP/1.1 {self.status.value} {self.status.phrase}"
        return "\r\n".join([first, *fields, "Connection: close", "", ""]).encode("latin-1")


def parse(data: bytes) -> Request:
    """A request's head, up to the empty line. Raises RefusedRequestError."""
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST)
    method, target, version = words
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise RefusedRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if method not in _METHODS:
        raise RefusedRequestError(HTTPStatus.NOT_IMPLEMENTED)
    if method not in _ANSWERED:
        raise RefusedRequestError(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(_ANSWERED)})
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Request(
        target.partition("?")[0],
        gzip=any(_accepts_gzip(value) for name, value in fields if name == "accept-encoding"),
        hosts=tuple(value for name, value in fields if name == "host"),
        accept=",".join(value for name, value in fields if name == "accept"),
        head_only=method == "HEAD",
    )


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


def _accepts_gzip(field: str) -> bool:
    """prometheus-client's gzip_accepted() ignores `gzip;q=0`."""
    offers = (offer.replace(" ", "").lower() for offer in field.split(","))
    weights = {name: weight for name, _, weight in (offer.partition(";q=") for offer in offers)}
    return weights.get("gzip", "0").strip("0.") != "" or weights.get("gzip") == ""


def index(about: About) -> Response:
    text = _INDEX.format(version=escape(about.version), policy=escape(about.policy or "none"))
    return _text(HTTPStatus.OK, text, {"Content-Type": "text/html; charset=utf-8"})


def ready(about: About) -> Response:
    if about.ready:
        return _text(HTTPStatus.OK, "vfagent is ready.\n")
    return _text(HTTPStatus.SERVICE_UNAVAILABLE, "vfagent is not ready: PFs that it found at its start converge.\n")


def healthy() -> Response:
    return _text(HTTPStatus.OK, "vfagent is healthy.\n")


def refusal(error: RefusedRequestError) -> Response:
    hint = f": {error.hint}" if error.hint else ""
    return _text(error.status, f"{error.status.value} {error.status.phrase}{hint}\n", error.headers)


def _text(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Response:
    body = text.encode()
    return Response(status, (body,), len(body), {"Content-Type": _PLAIN, **(headers or {})})
