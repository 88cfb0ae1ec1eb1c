"""Trace contexts, and what is sampled."""

from __future__ import annotations

import random

import pytest

from remoterun.errors import Busy
from remoterun.messages import now
from remoterun.service import Origin
from remoterun.tracing import JobTrace, Parent, Span, SpanSink, Tracer, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


class Kept(SpanSink):
    def __init__(self) -> None:
        self.spans: list[Span] = []

    @property
    def exported(self) -> int:
        return len(self.spans)

    @property
    def dropped(self) -> int:
        return 0

    def take(self, span: Span) -> None:
        self.spans.append(span)

    def close(self, patience: float) -> None:
        pass


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(int(TRACE, 16), int(SPAN, 16), False)),
        (f"cc-{TRACE}-{SPAN}-09", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (None, None),
    ],
)
def test_the_callers_context_is_read_as_w3c_says(text: str | None, parent: Parent | None) -> None:
    assert parse(text) == parent


def refuse(tracer: Tracer, trace: str | None) -> None:
    tracer.refused(Busy("full"), "ada", Origin("wire"), "hello", trace)


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.25, 150, 350), (1.0, 1000, 1000)])
def test_traces_that_begin_here_are_sampled_by_the_ratio(ratio: float, least: int, most: int) -> None:
    random.seed(1)
    sink = Kept()
    tracer = Tracer(sink, ratio, lambda: ())
    for _ in range(1000):
        refuse(tracer, None)
    assert least <= len(sink.spans) <= most


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_callers_flag_decides_for_its_traces(ratio: float) -> None:
    sink = Kept()
    tracer = Tracer(sink, ratio, lambda: ())
    refuse(tracer, f"00-{TRACE}-{SPAN}-00")
    refuse(tracer, f"00-{TRACE}-{SPAN}-01")
    (span,) = sink.spans
    assert (span.trace_id, span.parent_id, span.error) == (int(TRACE, 16), int(SPAN, 16), "busy")


@pytest.mark.parametrize(("transport", "kind"), [("rabbit", "consumer"), ("wire", "server")])
def test_what_lives_on_a_broker_consumes(transport: str, kind: str) -> None:
    sink = Kept()
    Tracer(sink, 1, lambda: {"rabbit"}).refused(Busy("full"), None, Origin(transport), None, None)
    assert [span.kind for span in sink.spans] == [kind]


@pytest.mark.parametrize(("sink", "flags"), [(Kept(), "01"), (None, "00")])
def test_a_script_learns_its_attempts_span_and_whether_it_is_sampled(sink: SpanSink | None, flags: str) -> None:
    trace = JobTrace(sink, "server", int(TRACE, 16), int(SPAN, 16), now(), False)
    first = trace.traceparent()
    assert trace.traceparent() == first
    version, trace_id, span_id, said = first.split("-")
    assert (version, trace_id, said) == ("00", TRACE, flags)
    assert span_id not in (SPAN, "0" * 16)
    trace.returned()
    assert trace.traceparent() != first
