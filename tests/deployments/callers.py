"""Callers at a front: an HTTP client that verifies, and streams of events as they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx2
import msgspec

from tests.deployments.front import Front
from tests.deployments.programs import PATIENCE


class Seen(NamedTuple):
    """An event as it stands in a stream: its id, and its JSON."""

    n: int
    event: dict[str, Any]


class Caller:
    """A client at a front, with a token.

    Parameters:
        front: which it calls.
        token: that it shows.
        address: of the loopback network, from which it calls.
    """

    def __init__(self, front: Front, token: str, address: str | None = None) -> None:
        transport = httpx2.HTTPTransport(verify=front.trust(), trust_env=False, local_address=address)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx2.Client(
            base_url=front.url, headers=headers, timeout=PATIENCE, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def submit(self, script: str, **params: Any) -> str:
        """Submit a job, and give its id."""
        answer = self.http.post("/jobs", json={"script": script, "params": params})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str, wait: float | None = None) -> dict[str, Any]:
        """Give a job; with `wait`, once it has ended."""
        answer = self.http.get(f"/jobs/{job_id}", params={} if wait is None else {"wait": wait})
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    @contextmanager
    def following(self, job_id: str, after: int = 0) -> Iterator[Iterator[Seen]]:
        """Follow a job's events from a number on, for the time of a `with` block."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
        with self.http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
            assert answer.status_code == 200
            yield _seen(answer)


def _seen(answer: httpx2.Response) -> Iterator[Seen]:
    for message in httpx2.EventSource(answer):
        if message.event != "problem":
            yield Seen(int(message.id), msgspec.json.decode(message.data))


def texts(seen: list[Seen]) -> str:
    """Give what events say that a job wrote."""
    return "".join(each.event["data"] for each in seen if each.event["kind"] == "output")


def is_final(seen: Seen) -> bool:
    """Whether an event is a job's last one."""
    return bool(seen.event.get("final"))
