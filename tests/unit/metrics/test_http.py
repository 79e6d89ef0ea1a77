# SPDX-License-Identifier: Apache-2.0
"""Requests that are accepted, and the responses to the rest."""

import pytest

from vfagent.metrics.http import RefusedRequestError, Request, index, parse, refusal


@pytest.mark.parametrize(
    ("head", "request_"),
    [
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Request("/metrics", gzip=False)),
        ("GET /metrics HTTP/1.0\r\n\r\n", Request("/metrics", gzip=False)),
        ("GET /metrics?name[]=up HTTP/1.1\r\n\r\n", Request("/metrics", gzip=False)),
        ("GET / HTTP/1.1\r\naccept-encoding: deflate, gzip\r\n\r\n", Request("/", gzip=True)),
        ("GET / HTTP/1.1\r\nAccept-Encoding: GZIP ; q=0.5\r\n\r\n", Request("/", gzip=True)),
        ("GET / HTTP/1.1\r\nAccept-Encoding: gzip;q=0.0\r\n\r\n", Request("/", gzip=False)),
        ("GET / HTTP/1.1\r\nAccept-Encoding: gzip;q=0\r\n\r\n", Request("/", gzip=False)),
        ("GET / HTTP/1.1\r\nAccept-Encoding: xgzip, identity\r\n\r\n", Request("/", gzip=False)),
        ("GET / HTTP/1.1\r\nX: gzip\r\n\r\n", Request("/", gzip=False)),
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
        ("HEAD / HTTP/1.1", 405),
        ("POST /metrics HTTP/1.1", 405),
        ("CONNECT a:443 HTTP/1.1", 405),
    ],
)
def test_an_invalid_request_is_refused(first: str, status: int) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        parse(f"{first}\r\n\r\n".encode("latin-1"))
    assert caught.value.status == status
    answer = refusal(caught.value).encode().decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert ("Allow: GET\r\n" in answer) == (status == 405)
    assert "\r\nConnection: close\r\n\r\n" in answer


def test_the_index_page_links_to_the_metrics() -> None:
    head, _, body = index().encode().partition(b"\r\n\r\n")
    assert b'href="/metrics"' in body
    assert f"Content-Length: {len(body)}".encode() in head
