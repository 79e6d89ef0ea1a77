# SPDX-License-Identifier: Apache-2.0
"""The page for a scrape: prometheus-client's exposition of a view, and of the agent's process."""

import gzip
import zlib
from collections.abc import Iterator
from enum import Enum

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from vfagent.frozen import frozen
from vfagent.metrics import agent, guests, pfs, policy, vf_traffic, vfs
from vfagent.metrics.view import View

SUBJECTS = (agent, policy, pfs, vfs, guests, vf_traffic)
FAMILIES = tuple(family for subject in SUBJECTS for family in subject.FAMILIES)

_PIECE = 1 << 15


class Format(Enum):
    """What a page may be, as a client that accepts it says. No other, so that clients cannot ask for many pages."""

    TEXT = "text/plain; version=0.0.4"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def negotiated(accept: str) -> Format:
    """By the Accept field of a request."""
    try:
        _, content_type = choose_encoder(accept)
    except TypeError:  # prometheus-client 0.22 and later compare a version that is not a number
        return Format.TEXT
    return Format.OPENMETRICS if content_type.startswith("application/openmetrics-text") else Format.TEXT


@frozen(slots=True)
class Page:
    """Compressed: a tenth of the size, and Prometheus accepts it so."""

    packed: bytes
    size: int
    content_type: str

    def unpacked(self) -> Iterator[bytes]:
        """In pieces: many clients at once must not take many times the memory of a page."""
        unpacker = zlib.decompressobj(wbits=31)
        data = self.packed
        while data:
            yield unpacker.decompress(data, _PIECE)
            data = unpacker.unconsumed_tail
        yield unpacker.flush()

    def pieces(self) -> Iterator[memoryview]:
        view = memoryview(self.packed)
        return (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


class ViewCollector(Collector):
    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        for subject in SUBJECTS:
            yield from subject.collect(self._view)


def render(view: View, form: Format, pid: int) -> Page:
    """`pid`: of the agent, which does not render itself."""
    registry = CollectorRegistry()
    registry.register(ViewCollector(view))
    ProcessCollector(pid=lambda: pid, registry=registry)
    encode, content_type = choose_encoder(form.value)
    data = encode(registry)
    return Page(gzip.compress(data, compresslevel=1), len(data), content_type)
