"""Exports spans over OTLP/HTTP, by OpenTelemetry's own SDK, in a thread of its own.

Imported only where `tracing.endpoint` is set, for the SDK's memory. What the settings do not say (headers,
certificates) it reads from the standard variables, OTEL_EXPORTER_OTLP_HEADERS and so on.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from remoterun import __version__
from remoterun.tracing import Kind, Span, SpanSink

logger = logging.getLogger("remoterun.tracing")

_MOST: Final = 10_000  # spans that wait, about 10 MB; those beyond are dropped
_BATCH: Final = 512  # spans in one request, as the SDK's own batches
_EVERY: Final = 1.0  # seconds between two requests while there is little to send
_TIMEOUT: Final = 5.0  # seconds for a request, repetitions included

_KINDS: Final[dict[Kind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}


class OtlpSink(SpanSink):
    """Sends spans to a collector; while it cannot be reached they are dropped, which the log says once.

    Parameters:
        endpoint: the collector's URL; without a path, /v1/traces there.
        service: the name of the service in every span.
        node: the node's name, likewise.
    """

    def __init__(self, endpoint: str, service: str, node: str) -> None:
        # What it says of each failed request would flood the log of a node whose collector is down.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        self._endpoint = endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=_TIMEOUT)
        self._translation = _Translation(service, node)
        self._waiting: deque[Span] = deque()
        self._arrived = self._lost = 0  # spans, counted by the thread
        self._refused = 0  # spans for which there was no room, counted by who gives them
        self._wake = threading.Event()
        self._is_closed = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="remoterun-tracing", daemon=True)
        self._thread.start()

    @property
    def exported(self) -> int:
        return self._arrived

    @property
    def dropped(self) -> int:
        return self._lost + self._refused

    def take(self, span: Span) -> None:
        if len(self._waiting) >= _MOST:
            self._refused += 1
            return
        self._waiting.append(span)
        if len(self._waiting) == _BATCH:
            self._wake.set()

    def close(self, patience: float) -> None:
        self._is_closed = True
        self._wake.set()
        self._thread.join(0 if self._is_failing else patience)
        self._exporter.shutdown()  # ends the pause before a request that is tried again

    def _run(self) -> None:
        while True:
            self._wake.wait(_EVERY)
            self._wake.clear()
            is_last = self._is_closed
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))])
            if is_last:
                return

    def _send(self, spans: Sequence[Span]) -> None:
        try:
            has_arrived = self._exporter.export(self._translation.of(spans)) is SpanExportResult.SUCCESS
        except Exception as error:  # of the SDK, with which no node may fall
            logger.debug("spans cannot be exported: %s", error, exc_info=error)
            has_arrived = False
        if has_arrived:
            self._arrived += len(spans)
        else:
            self._lost += len(spans)
        if has_arrived is self._is_failing:
            self._is_failing = not has_arrived
            if self._is_failing:
                logger.warning("spans do not arrive at %s and are dropped until they do", self._endpoint)
            else:
                logger.info("spans arrive at %s again", self._endpoint)


class _Translation:
    """Makes the SDK's spans of ours. The SDK asks for ids; it gets those that our spans have."""

    def __init__(self, service: str, node: str) -> None:
        resource = Resource.create(
            {"service.name": service, "service.version": __version__, "service.instance.id": node}
        )
        self._ids = _Ids()
        self._ended = _Ended()
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("remoterun", __version__)

    def of(self, spans: Sequence[Span]) -> list[ReadableSpan]:
        """Give spans as the SDK's own, ended."""
        for span in spans:
            self._ids.trace_id, self._ids.span_id = span.trace_id, span.span_id
            made = self._tracer.start_span(
                span.name,
                _parent(span),
                _KINDS[span.kind],
                dict(span.attributes),
                start_time=round(span.start.timestamp() * 1e9),
            )
            if span.error is not None:
                made.set_status(Status(StatusCode.ERROR, span.error))
            made.end(round(span.end.timestamp() * 1e9))
        ended, self._ended.spans = self._ended.spans, []
        return ended


def _parent(span: Span) -> Context:
    if span.parent_id is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    is_remote = span.kind != "internal"
    return trace.set_span_in_context(
        NonRecordingSpan(SpanContext(span.trace_id, span.parent_id, is_remote, flags)), Context()
    )


class _Ids(IdGenerator):
    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Ended(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)
