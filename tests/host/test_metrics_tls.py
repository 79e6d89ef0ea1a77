# SPDX-License-Identifier: Apache-2.0
"""/metrics over TLS."""

import asyncio
import contextlib
import ssl
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import ip
from tests.host.scrape import PORT, ask, connect
from tests.unit.metrics import views
from vfagent.metrics.endpoint import Endpoint
from vfagent.metrics.limits import CLIENT_LIMITS, ClientLimits
from vfagent.policy.types import AgentRule, MetricsTls
from vfagent.process.workers import Workers

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


@pytest.fixture(autouse=True)
def network(kernel: None) -> None:
    ip("link", "set", "lo", "up")


class Authority:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.cert = folder / "ca.pem"
        # Python 3.13 wants what RFC 5280 wants (VERIFY_X509_STRICT).
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._openssl("req", "-x509", *_CURVE, *usage, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")

    def _openssl(self, *argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=self.folder, check=True, capture_output=True)

    def sign(self, name: str, subject: str = "localhost") -> tuple[Path, Path]:
        """NAME.pem and NAME.key."""
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        self._openssl("req", *_CURVE, "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def rule(authority: Authority, **more: str) -> AgentRule:
    cert, key = authority.sign("server")
    return AgentRule(metrics=f"0.0.0.0:{PORT}", metrics_tls=MetricsTls(cert=str(cert), private_key=str(key), **more))


def trusting(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if client:
        context.load_cert_chain(*client)
    return context


def serving(
    agent_rule: AgentRule,
    body: Callable[[Endpoint], Coroutine[Any, Any, None]],
    limits: ClientLimits = CLIENT_LIMITS,
) -> None:
    status = views.view().status

    async def run() -> None:
        served = Endpoint(lambda: status, views.about, views.counters(), dict, Workers(), dict, limits)
        served.configure(agent_rule)
        try:
            await body(served)
        finally:
            await served.stop()

    run_to_end(run())


def test_the_page_is_served_over_tls_only(authority: Authority) -> None:
    async def body(_: Endpoint) -> None:
        assert (await ask(tls=trusting(authority))).status == 200
        with pytest.raises((ConnectionError, AssertionError, ValueError, KeyError)):
            await ask()

    serving(rule(authority), body)


def test_with_client_ca_a_client_needs_a_certificate(authority: Authority, tmp_path: Path) -> None:
    other_authority = Authority(tmp_path / "other")

    async def body(_: Endpoint) -> None:
        known = trusting(authority, authority.sign("client"))
        assert (await ask(tls=known)).status == 200
        for client in (None, other_authority.sign("client")):
            with pytest.raises((OSError, KeyError)):
                await ask(tls=trusting(authority, client))

    serving(rule(authority, client_ca=str(authority.cert)), body)


async def _subject(authority: Authority) -> object:
    reader, writer = await connect(tls=trusting(authority))
    shown = writer.get_extra_info("peercert")["subject"]
    writer.close()
    await reader.read(-1)
    await writer.wait_closed()
    return shown[0][0][1]


def test_a_renewed_certificate_is_loaded_and_a_broken_one_ignored(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(_: Endpoint) -> None:
        assert await _subject(authority) == "localhost"
        cert, _key = authority.sign("server", "renewed")
        assert await _subject(authority) == "renewed"
        cert.write_text("broken")
        assert await _subject(authority) == "renewed"
        assert await _subject(authority) == "renewed"
        assert caplog.text.count("cannot reload the certificate") == 1
        authority.sign("server", "again")
        assert await _subject(authority) == "again"

    serving(rule(authority), body)


def test_a_missing_certificate_is_reported_and_nothing_is_served(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(served: Endpoint) -> None:
        assert "metrics: cannot use the certificate" in caplog.text
        assert served.descriptors == ()
        served.configure(rule(authority))
        assert (await ask(tls=trusting(authority))).status == 200

    files = MetricsTls(cert="/nowhere/cert.pem", private_key="/nowhere/key.pem")
    serving(AgentRule(metrics=f"127.0.0.1:{PORT}", metrics_tls=files), body)


def test_a_client_without_a_handshake_is_disconnected(authority: Authority) -> None:
    async def body(served: Endpoint) -> None:
        began = time.monotonic()
        for sent in (b"", b"\x16\x03\x01", b"GET /metrics HTTP/1.1\r\n\r\n"):
            reader, writer = await connect()
            writer.write(sent)
            with contextlib.suppress(ConnectionError):
                await reader.read(-1)
            writer.transport.abort()
        assert time.monotonic() - began < 3
        while len(served.descriptors) > 1:
            await asyncio.sleep(0.01)
        assert (await ask(tls=trusting(authority))).status == 200

    serving(rule(authority), body, ClientLimits(read_s=0.3))
