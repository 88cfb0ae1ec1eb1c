"""A node's metrics in the text formats of Prometheus and OpenMetrics 1.0; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from remoterun.messages import Sample
from remoterun.metrics import METRICS, Metric, known

PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"


def media_type(accept: str) -> bytes:
    """Give the format that is answered to an `Accept` header: OpenMetrics where it is named and not refused."""
    for offer in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in offer.split(";"))
        if kind == "application/openmetrics-text" and not {"q=0", "q=0.0", "version=0.0.1"} & set(parameters):
            return OPENMETRICS
    return PROMETHEUS


def metrics(samples: Iterable[Sample], kind: bytes) -> bytes:
    """Write samples in the format of a media type."""
    is_open = kind == OPENMETRICS
    lines: list[str] = []
    for name, of_one in known(samples).items():
        metric = METRICS[name]
        family = name.removesuffix("_total") if is_open and metric.kind == "counter" else name
        lines.append(f"# HELP {family} {metric.meaning}")
        lines.append(f"# TYPE {family} {metric.kind}")
        for sample in of_one:
            lines.extend(_lines(metric, sample))
    if is_open:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _lines(metric: Metric, sample: Sample) -> Iterator[str]:
    labels = tuple(zip(metric.labels, sample.labels, strict=True))
    if metric.kind != "histogram":
        yield f"{metric.name}{_labels(*labels)} {sample.value:.17g}"
        return
    counts = list(accumulate(sample.buckets))
    for bound, count in zip((*metric.bounds, float("inf")), counts, strict=True):
        le = "+Inf" if bound == float("inf") else str(float(bound))
        yield f"{metric.name}_bucket{_labels(*labels, ('le', le))} {count}"
    yield f"{metric.name}_sum{_labels(*labels)} {sample.value:.17g}"
    yield f"{metric.name}_count{_labels(*labels)} {counts[-1]}"


def _labels(*labels: tuple[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
