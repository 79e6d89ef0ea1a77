# SPDX-License-Identifier: Apache-2.0
"""Requests that are accepted, and the responses to the rest."""

import re
import socket

import pytest

from vfagent.metrics.http import RefusedRequestError, Request, Response, check_host, index, parse, ready, refusal
from vfagent.metrics.view import About


@pytest.mark.parametrize(
    ("head", "request_"),
    [
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Request("/metrics", hosts=("a",))),
        ("GET /metrics HTTP/1.0\r\n\r\n", Request("/metrics")),
        ("GET /metrics?name[]=up HTTP/1.1\r\n\r\n", Request("/metrics")),
        ("GET / HTTP/1.1\r\naccept-encoding: deflate, gzip\r\n\r\n", Request("/", gzip=True)),
        ("GET / HTTP/1.1\r\nAccept-Encoding: GZIP ; q=0.5\r\n\r\n", Request("/", gzip=True)),
        ("GET / HTTP/1.1\r\nAccept-Encoding: gzip;q=0.0\r\n\r\n", Request("/")),
        ("GET / HTTP/1.1\r\nAccept-Encoding: gzip;q=0\r\n\r\n", Request("/")),
        ("GET / HTTP/1.1\r\nAccept-Encoding: xgzip, identity\r\n\r\n", Request("/")),
        ("GET / HTTP/1.1\r\nX: gzip\r\n\r\n", Request("/")),
        ("GET / HTTP/1.1\r\nAccept: a/b\r\naccept: c/d\r\n\r\n", Request("/", accept="a/b,c/d")),
        ("HEAD /-/ready HTTP/1.1\r\n\r\n", Request("/-/ready", head_only=True)),
    ],
)
def test_a_valid_request_is_parsed(head: str, request_: Request) -> None:
    assert parse(head.encode()) == request_


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("", 400),
        ("GET", 400),
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
        ("\x16\x03\x01\x02", 400),
        ("GET / SPDY/3", 400),
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("get / HTTP/1.1", 501),
        ("BREW / HTTP/1.1", 501),
        ("OPTIONS / HTTP/1.1", 405),
        ("POST /metrics HTTP/1.1", 405),
        ("CONNECT a:443 HTTP/1.1", 405),
    ],
)
def test_an_invalid_request_is_refused(first: str, status: int) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        parse(f"{first}\r\n\r\n".encode("latin-1"))
    assert caught.value.status == status
    answer = refusal(caught.value).head().decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert ("Allow: GET, HEAD\r\n" in answer) == (status == 405)
    assert "\r\nConnection: close\r\n\r\n" in answer


def test_the_landing_page_has_version_policy_and_links() -> None:
    response = index(About("1.2<3", "0123456789ab", ready=False))
    text = body(response).decode()
    assert "1.2&lt;3" in text
    assert "0123456789ab" in text
    assert re.findall('href="([^"]+)"', text) == ["/metrics", "/-/ready", "/-/healthy"]
    assert f"Content-Length: {len(text.encode())}\r\n".encode() in response.head()


def body(response: Response) -> bytes:
    return b"".join(map(bytes, response.body))


def test_ready_says_what_it_waits_for() -> None:
    assert ready(About("1", "", ready=True)).status == 200
    assert ready(About("1", "", ready=False)).status == 503
    assert b"not ready" in body(ready(About("1", "", ready=False)))


OWN = (
    "localhost",
    "LOCALHOST:9862",
    "localhost.",
    "a.localhost:9862",
    "127.0.0.1",
    "192.0.2.1:80",
    "[::1]",
    "[::1]:9862",
)
FOREIGN = (
    "evil.example",
    "evil.example:9862",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "",
    "[::1",
    "::1",
    "a",
)


@pytest.mark.parametrize("host", [*OWN, "node7", "node7.example.net:9862"])
def test_a_request_to_an_address_or_own_name_is_accepted(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Node7.example.net")
    check_host(parse(f"GET /metrics HTTP/1.1\r\nhOst:  {host} \r\n\r\n".encode()))
    check_host(parse(b"GET /metrics HTTP/1.0\r\n\r\n"))


@pytest.mark.parametrize("host", [*FOREIGN, "node7.evil.example", "node8"])
def test_a_request_to_another_hosts_name_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node7.example.net")
    for fields in (f"Host: {host}", f"Host: localhost\r\nHost: {host}"):
        with pytest.raises(RefusedRequestError) as caught:
            check_host(parse(f"GET /metrics HTTP/1.1\r\n{fields}\r\n\r\n".encode()))
        assert caught.value.status == 421
        assert b"ask by the address" in body(refusal(caught.value))
