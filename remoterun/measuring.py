"""Takes the samples of a node's metrics: what was counted, and what stands as it is now."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from remoterun.errors import BY_CODE, ConfigError
from remoterun.measures import Distribution
from remoterun.messages import Sample, now
from remoterun.states import FINAL

if TYPE_CHECKING:
    from remoterun.access import Tokens
    from remoterun.dispatcher import Dispatcher

_SOON, _LONG = timedelta(days=7), timedelta(days=14)  # tokens made for less are meant to expire
_PAGE = resource.getpagesize()


async def measure(dispatcher: Dispatcher) -> tuple[Sample, ...]:
    """Take all samples; files are looked at in a thread."""
    samples = [*_node(dispatcher), *_jobs(dispatcher), *_workers(dispatcher), *_store(dispatcher), *_wires(dispatcher)]
    certificates = dispatcher.certificates()
    tokens, data = dispatcher.access.tokens, Path(dispatcher.settings.data)
    samples += await asyncio.to_thread(lambda: [*_disk(data), *_process(), *_tokens(tokens), *_expiries(certificates)])
    return tuple(samples)


def _one(name: str, value: float, *labels: str) -> Sample:
    return Sample(f"remoterun_{name}", labels, float(value))


def _many(name: str, values: Distribution, *labels: str) -> Sample:
    return Sample(f"remoterun_{name}", labels, values.sum, tuple(values.counts))


def _node(dispatcher: Dispatcher) -> Iterator[Sample]:
    scripts = dispatcher.catalog.list()
    yield _one("build_info", 1, dispatcher.name, dispatcher.version, platform.python_version())
    yield _one("start_time_seconds", dispatcher.started.timestamp())
    yield _one("ready", not dispatcher.is_draining and dispatcher.store.fault is None)
    yield _one("scripts", len(scripts))
    yield _one("scripts_broken", sum(script.broken is not None for script in scripts))
    yield _many("event_loop_lag_seconds", dispatcher.measures.lag)


def _jobs(dispatcher: Dispatcher) -> Iterator[Sample]:
    census = dispatcher.census()
    yield _one("jobs_queued", census.queued)
    yield _one("jobs_held", census.held)
    yield _one("jobs_running", census.running)
    yield _one("workers", dispatcher.workers)
    yield _one("queue_limit", dispatcher.settings.queue)
    yield _one("queue_bytes", census.waiting_bytes)
    yield _one("queue_limit_bytes", dispatcher.settings.limits.waiting)
    measures, counters = dispatcher.measures, dispatcher.counters
    yield _one("job_retries_total", counters["retries"])
    yield _one("jobs_removed_total", measures.removed)
    yield _many("job_queue_seconds", measures.queue)
    for script, of_script in measures.by_script():
        yield _many("job_run_seconds", of_script.run, script)
        for state in sorted(FINAL):  # zeros too: what springs from nothing to 1 is no increase to Prometheus
            yield _one("jobs_ended_total", of_script.ends.get(state, 0), script, state.value)
    for code in sorted(BY_CODE):
        yield _one("refusals_total", counters[f"refused_{code}"], code)


def _workers(dispatcher: Dispatcher) -> Iterator[Sample]:
    servers, workers = dispatcher.processes()
    yield _one("fork_servers", servers)
    for state, count in workers.items():
        yield _one("worker_processes", count, state)
    environments = dispatcher.environments
    yield _one("environment_builds_total", environments.built, "built")
    yield _one("environment_builds_total", environments.failed, "failed")
    yield _one("environments_failing", environments.failing)


def _store(dispatcher: Dispatcher) -> Iterator[Sample]:
    store = dispatcher.store
    yield _many("store_commit_seconds", store.measures.commits)
    yield _one("store_commit_failures_total", store.measures.failed_commits)
    yield _one("store_backlog_jobs", store.backlog)
    yield _one("store_fault", store.fault is not None)


def _wires(dispatcher: Dispatcher) -> Iterator[Sample]:
    for transport, count in sorted(dispatcher.connections().items()):
        yield _one("connections", count, transport)
    for transport, state in sorted(dispatcher.brokers().items()):
        yield _one("broker_up", state == "up", transport)
    if (tracer := dispatcher.tracer) is not None:
        yield _one("trace_spans_total", tracer.exported, "exported")
        yield _one("trace_spans_total", tracer.dropped, "dropped")


def _disk(data: Path) -> Iterator[Sample]:
    files = (data / f"remoterun.sqlite3{suffix}" for suffix in ("", "-wal"))
    yield _one("store_size_bytes", sum(file.stat().st_size for file in files if file.exists()))
    disk = os.statvfs(data)
    yield _one("data_free_bytes", disk.f_bavail * disk.f_frsize)
    yield _one("data_size_bytes", disk.f_blocks * disk.f_frsize)


def _process() -> Iterator[Sample]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    yield Sample("process_cpu_seconds_total", (), time.process_time())
    yield Sample("process_resident_memory_bytes", (), resident)
    yield Sample("process_open_fds", (), len(os.listdir("/proc/self/fd")) - 1)  # noqa: PTH208 - one is this look's own
    yield Sample("process_max_fds", (), resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _tokens(tokens: Tokens) -> Iterator[Sample]:
    try:
        listed = tokens.list()
    except ConfigError:  # the log says so, twice a second
        return
    soon = now() + _SOON
    yield _one("tokens", len(listed))
    yield _one(
        "tokens_expiring",
        sum(
            token.expires is not None and token.expires < soon and token.expires - token.created > _LONG
            for token in listed
        ),
    )


def _expiries(certificates: Mapping[str, str]) -> Iterator[Sample]:
    if not certificates:
        return
    from cryptography import x509

    for transport, path in sorted(certificates.items()):
        try:
            certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
        except (OSError, ValueError):  # replaced just now, or unreadable to us since we dropped privileges
            continue
        yield _one("certificate_expiry_timestamp_seconds", certificate.not_valid_after_utc.timestamp(), transport)
