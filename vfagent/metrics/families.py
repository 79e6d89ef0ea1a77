# SPDX-License-Identifier: Apache-2.0
"""Metric families, and the samples of one collector."""

from collections.abc import Mapping
from enum import StrEnum

from vfagent.frozen import frozen
from vfagent.metrics.client import Metric, Sample
from vfagent.metrics.counters import Histogram
from vfagent.model.printable import printable


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


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


def header(name: str, text: str, kind: str) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


Labels = Mapping[str, str]
NO_LABELS: Labels = {}


class SharedLabels(dict[str, str]):
    """The labels that all samples of a VF share; `text`: as on the page. Numbers need no escapes."""

    __slots__ = ("text",)

    def __init__(self, pf: str, vf: int) -> None:
        super().__init__(pf=pf, vf=str(vf))
        self.text = f'{{pf="{pf}",vf="{vf}"}}'


class Sheet:
    """The samples by family: the format requires that those of one family stand together."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._samples: dict[str, list[Sample]] = {family.name: [] for family in families}
        self._families = families

    def put(self, family: Family, value: float | None, labels: Labels = NO_LABELS) -> None:
        """None is unknown: such a sample is omitted, never exported as 0."""
        if value is not None:
            self._samples[family.name].append(Sample(family.name, labels, value))  # type: ignore[arg-type]

    def put_histogram(self, family: Family, histogram: Histogram, labels: Labels = NO_LABELS) -> None:
        samples = self._samples[family.name]
        for bound, count in histogram.cumulative():
            samples.append(Sample(f"{family.name}_bucket", {**labels, "le": bound}, count))
        samples.append(Sample(f"{family.name}_count", dict(labels), histogram.count))
        samples.append(Sample(f"{family.name}_sum", dict(labels), histogram.sum_s))

    def metrics(self) -> list[Metric]:
        """Families without samples are omitted."""
        return [self._metric(family) for family in self._families if self._samples[family.name]]

    def _metric(self, family: Family) -> Metric:
        name = family.name.removesuffix("_total") if family.kind is Kind.COUNTER else family.name
        metric = Metric(name, family.help, family.kind)
        metric.samples = self._samples[family.name]
        return metric


def label(value: object) -> str:
    """Text from hardware, a driver or a foreign rename as one harmless line; empty where nothing is known."""
    return "" if value is None else printable(str(value))
