# SPDX-License-Identifier: Apache-2.0
"""The certificate that metrics are served with, read again when its files change."""

import logging
import os
from typing import TYPE_CHECKING

from vfagent.policy.types import MetricsTls

if TYPE_CHECKING:
    from ssl import SSLContext

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

    def _load(self) -> "SSLContext":
        """Raises OSError, which ssl's errors are."""
        import ssl  # not before somebody wants it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._rule.cert, self._rule.private_key)
        if self._rule.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._rule.client_ca)
        return context

    def context(self) -> "SSLContext":
        """The files as they are now; while they are no good, as they were."""
        if (stamp := self._now()) != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._load()
                log.info("metrics: the certificate was read anew")
            except OSError as error:
                log.error("metrics: cannot read the certificate anew, going on with the one before: %s", error)
        return self._context


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
