# SPDX-License-Identifier: Apache-2.0
"""Declarations of metric families, and the samples of one collector."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from vfagent.frozen import frozen
from vfagent.metrics.counters import Histogram
from vfagent.model.printable import printable


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


_TYPES: dict[Kind, Any] = {  # add_metric() of each has arguments of its own
    Kind.GAUGE: GaugeMetricFamily,
    Kind.COUNTER: CounterMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


@frozen(slots=True)
class Family:
    """A metric family; vfagent-metrics(7) lists them all."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"vfagent_{name}", Kind.GAUGE, text, labels)


def counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"vfagent_{name}_total", Kind.COUNTER, text, labels)


def histogram(name: str, text: str, *labels: str) -> Family:
    return Family(f"vfagent_{name}", Kind.HISTOGRAM, text, labels)


class Samples:
    """The samples by family: the format requires that those of one family stand together."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._metrics = {
            family.name: _TYPES[family.kind](family.name, family.help, labels=family.labels) for family in families
        }

    def add(self, family: Family, value: float | None, *labels: str) -> None:
        """The labels in the order of the declaration. None is unknown: it is omitted, never exported as 0."""
        if value is not None:
            self._metrics[family.name].add_metric(labels, value)

    def add_histogram(self, family: Family, histogram: Histogram, *labels: str) -> None:
        self._metrics[family.name].add_metric(labels, list(histogram.cumulative()), histogram.sum_s)

    def metrics(self) -> Iterator[Metric]:
        """Families without samples are omitted."""
        return (metric for metric in self._metrics.values() if metric.samples)


def label(value: object) -> str:
    """Text from hardware, a driver or a foreign rename as one harmless line; empty where nothing is known."""
    return "" if value is None else printable(str(value))
