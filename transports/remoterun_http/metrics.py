"""What a node says about itself in the text format of Prometheus; pure."""

from __future__ import annotations

from collections.abc import Mapping

from remoterun.messages import NodeInfo

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def metrics(info: NodeInfo) -> bytes:
    """Give load and counters of a node."""
    lines: list[str] = []
    _add(lines, "node_info", "gauge", "Which node this is.", {_labels(node=info.node, version=info.version): 1})
    _add(lines, "start_time_seconds", "gauge", "When it started, Unix time.", {"": info.started.timestamp()})
    _add(lines, "scripts", "gauge", "Scripts that it knows.", {"": info.scripts})
    _add(lines, "jobs_queued", "gauge", "Jobs that wait.", {"": info.load.queued})
    _add(lines, "jobs_running", "gauge", "Jobs that run.", {"": info.load.running})
    _add(lines, "workers", "gauge", "Jobs that can run at once.", {"": info.load.workers})
    _add(lines, "queue_limit", "gauge", "Jobs that may wait.", {"": info.load.queue})
    counted = {_labels(what=name): count for name, count in sorted(info.counters.items())}
    _add(lines, "events_total", "counter", "Jobs by state and refusals by code, since it started.", counted)
    return ("\n".join(lines) + "\n").encode()


def _add(lines: list[str], name: str, kind: str, text: str, samples: Mapping[str, float]) -> None:
    lines.append(f"# HELP remoterun_{name} {text}")
    lines.append(f"# TYPE remoterun_{name} {kind}")
    lines.extend(f"remoterun_{name}{labels} {value:.17g}" for labels, value in samples.items())


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
