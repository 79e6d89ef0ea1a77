# SPDX-License-Identifier: Apache-2.0
"""The TLS certificate for metrics, reloaded when its files change."""

import logging
import os
import ssl

from vfagent.policy.types import MetricsTls

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificate:
    def __init__(self, rule: MetricsTls) -> None:
        self._rule = rule
        self._stamp = self._now()
        self._context = self._load()

    @property
    def _files(self) -> tuple[str, ...]:
        rule = self._rule
        return tuple(path for path in (rule.cert, rule.private_key, rule.client_ca) if path is not None)

    def _now(self) -> Stamp:
        return tuple(_stamp(path) for path in self._files)

    def _load(self) -> ssl.SSLContext:
        """Raises OSError; ssl's errors are OSErrors."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._rule.cert, self._rule.private_key)
        if self._rule.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._rule.client_ca)
        return context

    def context(self) -> ssl.SSLContext:
        """From the files as they are now; while these are invalid, as they were before."""
        if (stamp := self._now()) != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._load()
                log.info("metrics: certificate reloaded")
            except OSError as error:
                log.error("metrics: cannot reload the certificate, still using the previous one: %s", error)
        return self._context


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns
