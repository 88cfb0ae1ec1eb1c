"""wrk: calls a second, and how long they take; what failed is counted, too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from measure import MeasureError
from place import output_of, tool

_CONNECTIONS = 16
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Taken:
    """What one run of wrk found.

    Parameters:
        rate: answers a second.
        p50: milliseconds within which half of the calls were answered.
        p99: milliseconds within which 99 of 100 were.
        errors: answers that were no success, and connections that broke.
    """

    rate: float
    p50: float
    p99: float
    errors: int


class Wrk:
    """Asks for one thing again and again, on 16 connections that are kept where the other side keeps them.

    Parameters:
        script: a file that says how to ask; it is made here.
        url: what is asked for.
        body: of a POST, as JSON; None is a GET.
        token: a bearer token, or None.
    """

    def __init__(self, script: Path, url: str, body: Mapping[str, object] | None = None, token: str | None = None):
        self._url = url
        lines = []
        if body is not None:
            lines += ['wrk.method = "POST"', f"wrk.body = {json.dumps(json.dumps(body))}"]
            lines.append('wrk.headers["Content-Type"] = "application/json"')
        if token is not None:
            lines.append(f'wrk.headers["Authorization"] = "Bearer {token}"')
        self._script = script
        script.touch(0o600)
        script.write_text("\n".join(lines) + "\n")

    def run(self, seconds: int) -> Taken:
        """Ask for so many seconds.

        Raises:
            MeasureError: there is no wrk, or not one answer.
        """
        length = [f"-c{_CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
        return parse(output_of([tool("wrk"), "-t1", *length, "-s", str(self._script), self._url], timeout=seconds + 60))


def parse(said: str) -> Taken:
    """Read what wrk printed.

    Raises:
        MeasureError: it got no answer.
    """
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if rate is None or float(rate[1]) == 0:
        raise MeasureError("wrk got no answer")
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = sum(map(int, broken.groups())) if broken else 0
    return Taken(
        float(rate[1]), _percentile(said, 50), _percentile(said, 99), errors + (int(refused[1]) if refused else 0)
    )


def _percentile(said: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", said, re.MULTILINE)
    if found is None:
        raise MeasureError("wrk printed no latencies")
    return float(found[1]) * _MILLISECONDS[found[2]]
