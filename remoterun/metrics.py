"""The metrics of a node, each defined once: exposition, reference and checks are made from this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct

from remoterun.messages import Sample

QUEUE_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600)
RUN_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800, 3600, 21600)
COMMIT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

Kind = Literal["gauge", "counter", "histogram"]


class Metric(Struct, frozen=True):
    """One metric: its full name, what it means, the names of its labels, what to watch it for."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    watch: str = ""
    bounds: tuple[float, ...] = ()  # of a histogram's buckets


def _gauge(name: str, meaning: str, *labels: str, watch: str = "") -> Metric:
    return Metric(name, "gauge", meaning, labels, watch)


def _counter(name: str, meaning: str, *labels: str, watch: str = "") -> Metric:
    return Metric(name, "counter", meaning, labels, watch)


def _histogram(name: str, meaning: str, bounds: tuple[float, ...], *labels: str, watch: str = "") -> Metric:
    return Metric(name, "histogram", meaning, labels, watch, bounds)


_TABLE: Final = (
    _gauge("remoterun_build_info", "Which node this is, and what it runs; always 1.", "node", "version", "python"),
    _gauge("remoterun_start_time_seconds", "When it started, Unix time.", watch="it changes: the node was restarted"),
    _gauge("remoterun_ready", "Whether calls are taken: 1, or 0 while the node stops or cannot record.", watch="0"),
    _gauge("remoterun_scripts", "Scripts that it knows."),
    _gauge("remoterun_scripts_broken", "Scripts among them that cannot be called.", watch="above 0"),
    # jobs
    _gauge("remoterun_jobs_queued", "Jobs that wait for a worker.", watch="near the limit: calls will be refused"),
    _gauge("remoterun_jobs_held", "Jobs that wait until their script's environment is built."),
    _gauge("remoterun_jobs_running", "Jobs that run."),
    _gauge("remoterun_workers", "Jobs that can run at once."),
    _gauge("remoterun_queue_limit", "Jobs that may wait, held ones included, before calls are refused as busy."),
    _gauge("remoterun_queue_bytes", "Parameters and input of all waiting jobs together."),
    _gauge("remoterun_queue_limit_bytes", "How many bytes of those there may be before calls are refused as busy."),
    _counter(
        "remoterun_jobs_ended_total",
        "Jobs that ended, by script and final state; scripts beyond the first 200 that ran count as (others).",
        "script",
        "state",
        watch="the share of failed and lost ones",
    ),
    _counter("remoterun_job_retries_total", "Attempts that are made again."),
    _counter("remoterun_jobs_removed_total", "Ended jobs that retention removed."),
    _counter("remoterun_refusals_total", "Refused calls, by the error's code.", "code", watch="busy, unavailable"),
    _histogram(
        "remoterun_job_queue_seconds",
        "From a job's creation to its first start, in seconds; the build of its environment included.",
        QUEUE_SECONDS,
        watch="its 99th percentile",
    ),
    _histogram("remoterun_job_run_seconds", "How long the last attempt of a job took.", RUN_SECONDS, "script"),
    # workers
    _gauge(
        "remoterun_worker_processes",
        "Worker processes: busy with a job, idle (warm, between two calls), ahead (forked, without a job yet).",
        "state",
    ),
    _gauge("remoterun_fork_servers", "Fork servers, one for each environment in use."),
    _counter("remoterun_environment_builds_total", "Environments that were built, or failed.", "result"),
    _gauge(
        "remoterun_environments_failing", "Environments that cannot be built yet, and are tried again.", watch="above 0"
    ),
    # the store
    _histogram(
        "remoterun_store_commit_seconds",
        "How long a commit to the database took.",
        COMMIT_SECONDS,
        watch="its 99th percentile: the disk is slow",
    ),
    _counter("remoterun_store_commit_failures_total", "Commits that the disk refused; each is tried again."),
    _gauge("remoterun_store_backlog_jobs", "Jobs with writes that are not on disk yet.", watch="it grows"),
    _gauge("remoterun_store_fault", "Whether writes fail now: the disk is full or broken.", watch="1"),
    _gauge("remoterun_store_size_bytes", "Size of the database, its write-ahead log included."),
    _gauge("remoterun_data_free_bytes", "Free space on the disk of the data folder.", watch="near 0"),
    _gauge("remoterun_data_size_bytes", "Size of that disk."),
    # the node's process
    _histogram(
        "remoterun_event_loop_lag_seconds",
        "How much later than asked the event loop woke up, looked at twenty times a second.",
        LAG_SECONDS,
        watch="its 99th percentile: something holds up every call",
    ),
    _counter("process_cpu_seconds_total", "Processor time of the node's own process; jobs are not in it."),
    _gauge("process_resident_memory_bytes", "Memory of the node's own process.", watch="it grows for days"),
    _gauge("process_open_fds", "Open files and connections of the node's own process.", watch="near the limit"),
    _gauge("process_max_fds", "How many there may be."),
    # wires
    _gauge(
        "remoterun_connections",
        "Open connections, by transport; not those of HTTP processes and of brokers.",
        "transport",
    ),
    _gauge("remoterun_broker_up", "Whether a broker can be reached, by transport.", "transport", watch="0"),
    _gauge(
        "remoterun_certificate_expiry_timestamp_seconds",
        "When a transport's TLS certificate expires, Unix time.",
        "transport",
        watch="within two weeks",
    ),
    _gauge("remoterun_tokens", "Tokens that there are."),
    _gauge(
        "remoterun_tokens_expiring",
        "Tokens that expire within seven days and were made for more than fourteen.",
        watch="above 0: a caller will be locked out",
    ),
    _counter("remoterun_trace_spans_total", "Spans of traces: exported, or dropped.", "result", watch="dropped ones"),
)

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _TABLE}
"""Every metric by its name, in the order in which they are shown."""


def known(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Give the samples of each metric, in the order of the table.

    What does not fit the table is left out: a gateway may stand before a node of another version.
    """
    found: dict[str, list[Sample]] = {name: [] for name in METRICS}
    for sample in samples:
        metric = METRICS.get(sample.metric)
        if metric is not None and _fits(metric, sample):
            found[metric.name].append(sample)
    return {name: of_one for name, of_one in found.items() if of_one}


def _fits(metric: Metric, sample: Sample) -> bool:
    buckets = len(metric.bounds) + 1 if metric.kind == "histogram" else 0
    return len(sample.labels) == len(metric.labels) and len(sample.buckets) == buckets


def reference() -> str:
    """Give the reference of all metrics as a Markdown table."""
    rows = ["| metric | kind | labels | meaning | watch |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} | {metric.watch} |")
    return "\n".join(rows) + "\n"
