"""How values look in a page; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from remoterun.messages import Job

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def seconds(value: float) -> str:
    """Give a span of time as people say it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    for length, unit in _UNITS:
        if value >= length:
            count = value / length
            return f"{count:.0f} {unit}" if count >= 10 or count == int(count) else f"{count:.1f} {unit}"
    return f"{value:.0f} s"


def took(job: Job) -> str:
    """Give how long a job ran, or nothing."""
    if job.started is None or job.ended is None:
        return ""
    return seconds((job.ended - job.started).total_seconds())


def iso(time: datetime) -> str:
    """Give a time as the attribute `datetime` has it; the page says it in the reader's words and zone."""
    return time.isoformat().replace("+00:00", "Z")


def state_name(state: str) -> str:
    """Give a state in words."""
    return str(state).replace("_", " ")


def script_path(name: str) -> str:
    """Give the address of a script's page."""
    return f"/console/scripts/{quote(name)}"


def job_path(job_id: str) -> str:
    """Give the address of a job's page."""
    return f"/console/jobs/{quote(job_id)}"


def bars(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Give a script's runs as bars, oldest first: the height is the time that each took beside the longest."""
    spans = [(job.ended - job.started).total_seconds() if job.started and job.ended else 0.0 for job in jobs]
    longest = max(spans, default=0.0) or 1.0
    drawn = [
        {
            "state": str(job.state),
            "height": round(5 + 15 * span / longest),
            "text": f"{state_name(job.state)} {took(job)}",
        }
        for job, span in zip(jobs, spans, strict=True)
    ]
    return drawn[::-1]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "seconds": seconds,
    "took": took,
    "iso": iso,
    "state_name": state_name,
    "script_path": script_path,
    "job_path": job_path,
}
