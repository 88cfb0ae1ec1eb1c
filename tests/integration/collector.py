"""A collector of traces: what OTLP over HTTP sends to a free loopback port, decoded by OpenTelemetry's own schema."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

_PATIENCE = 30.0  # seconds


@dataclass(frozen=True)
class Received:
    """A span as it arrived; ids in hexadecimal, `parent` empty where there is none."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int  # ns
    end: int
    attributes: Mapping[str, Any]
    is_error: bool
    message: str
    resource: Mapping[str, Any]

    @property
    def is_jobs(self) -> bool:
        """Whether it is the span of a job, or of a call that was refused."""
        return self.name == "run" or self.name.startswith("run ")

    @property
    def traceparent(self) -> str:
        """What whoever runs within this span hands on."""
        return f"00-{self.trace}-{self.id}-01"


class Collector:
    """What arrived; `url` is where to send it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Received] = []
        self.paths: set[str] = set()

    def of(self, trace: str) -> list[Received]:
        """Give the spans of a trace."""
        return [span for span in list(self.spans) if span.trace == trace]

    def wait(self, is_there: Callable[[], Any]) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + _PATIENCE
        while not is_there():
            assert time.monotonic() < deadline, f"it did not arrive; these did: {self.spans}"
            time.sleep(0.05)

    def whole(self, trace: str, jobs: int = 1) -> list[Received]:
        """Wait for the spans of so many jobs of a trace, which end with the jobs' own, and give all of the trace."""
        self.wait(lambda: sum(span.is_jobs for span in self.of(trace)) >= jobs)
        return self.of(trace)


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.paths.add(self.path)
            collector.spans.extend(_read(ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _read(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Received(
                    name=span.name,
                    kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_values(span.attributes),
                    is_error=span.status.code == Status.STATUS_CODE_ERROR,
                    message=span.status.message,
                    resource=resource,
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each) for each in attributes}


def _value(attribute: KeyValue) -> Any:
    return getattr(attribute.value, attribute.value.WhichOneof("value") or "string_value")
