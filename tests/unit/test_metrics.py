"""The table of metrics, what is counted, and how it is written for Prometheus."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from remoterun.measures import MOST_SCRIPTS, OTHERS, Distribution, Measures
from remoterun.messages import Sample, decode, encode
from remoterun.metrics import METRICS, known, reference
from remoterun.states import State
from remoterun_http.metrics import OPENMETRICS, PROMETHEUS, media_type, metrics

LABELS = ("plain", 'a"b\\c\nd', "é{}=,")


def some_of_all() -> list[Sample]:
    """Give two samples of each metric that has labels, and one of each other, all with hostile labels."""
    return [
        Sample(name, labels, 1.5, tuple(range(len(metric.bounds) + 1)) if metric.kind == "histogram" else ())
        for name, metric in METRICS.items()
        for labels in ({tuple(LABELS[(shift + n) % 3] for n in range(len(metric.labels))) for shift in (0, 1)})
    ]


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None and os.environ.get("CI") != "true":
        pytest.skip("promtool is not here: sudo apt install prometheus")
    assert found is not None, "with CI=true nothing is skipped: sudo apt install prometheus"
    return found


def test_promtool_finds_nothing_to_object_to(promtool: str) -> None:
    text = metrics(some_of_all(), PROMETHEUS)
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_promtool_objects_to_what_is_wrong(promtool: str) -> None:
    wrong = b"# TYPE some_counter counter\nsome_counter 1\n"
    checked = subprocess.run([promtool, "check", "metrics"], input=wrong, capture_output=True, timeout=60)
    assert checked.returncode != 0


def test_openmetrics_is_read_by_the_strict_parser_with_every_value() -> None:
    samples = some_of_all()
    families = {family.name: family for family in parse_openmetrics(metrics(samples, OPENMETRICS).decode())}
    for name, metric in METRICS.items():
        family = families.pop(name.removesuffix("_total") if metric.kind == "counter" else name)
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        given_labels = {sample.labels for sample in samples if sample.metric == name}
        found = {tuple(each.labels[label] for label in metric.labels) for each in family.samples}
        assert found == given_labels
    assert families == {}


def test_both_formats_hold_the_same_numbers() -> None:
    def numbers(families: object) -> set[tuple[str, str, float]]:
        return {
            (sample.name, repr(sorted(sample.labels.items())), sample.value)
            for family in families  # type: ignore[attr-defined]
            for sample in family.samples
        }

    text, strict = (metrics(some_of_all(), kind).decode() for kind in (PROMETHEUS, OPENMETRICS))
    assert numbers(parse_text(text)) == numbers(parse_openmetrics(strict))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", PROMETHEUS),
        ("*/*", PROMETHEUS),
        ("text/plain;version=0.0.4", PROMETHEUS),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        ("Application/OpenMetrics-Text; version=1.0.0", OPENMETRICS),
        ("application/openmetrics-text;q=0, */*", PROMETHEUS),
        ("application/openmetrics-text;version=0.0.1;q=0.75", PROMETHEUS),
    ],
)
def test_openmetrics_is_for_those_who_ask_for_it(accept: str, kind: bytes) -> None:
    assert media_type(accept) == kind


def test_names_and_labels_are_well_formed_and_meanings_one_sentence_a_line() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"(remoterun|process)_[a-z_]+", name)
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert metric.meaning.endswith("."), name
        assert "\n" not in metric.meaning
        assert "|" not in metric.meaning + metric.watch, "it would break the reference's table"
        assert tuple(sorted(metric.bounds)) == metric.bounds
        assert bool(metric.bounds) == (metric.kind == "histogram")
        assert f"`{name}`" in reference()


def test_samples_of_another_version_are_left_out() -> None:
    good = Sample("remoterun_workers", (), 4)
    odd = [
        Sample("remoterun_from_the_future", (), 1),
        Sample("remoterun_workers", ("one label too many",), 1),
        Sample("remoterun_job_queue_seconds", (), 1, (1, 2)),
    ]
    assert known([*odd, good]) == {"remoterun_workers": [good]}


def test_a_sample_crosses_a_wire() -> None:
    for sample in some_of_all():
        assert decode(encode(sample), Sample) == sample


@given(st.lists(st.floats(0, 100)))
def test_a_distribution_holds_each_value_below_the_first_bound_that_it_does_not_exceed(values: list[float]) -> None:
    counted = Distribution((0.1, 1, 10))
    for value in values:
        counted.add(value)
    cumulative = [sum(value <= bound for value in values) for bound in (0.1, 1, 10, float("inf"))]
    assert [sum(counted.counts[: n + 1]) for n in range(4)] == cumulative
    assert counted.sum == pytest.approx(sum(values))


def test_scripts_beyond_the_most_share_their_counts() -> None:
    measures = Measures()
    for number in range(MOST_SCRIPTS + 50):
        for _ in range(2):
            measures.ended(f"script{number}", State.FAILED, 0.1)
    found = dict(measures.by_script())
    assert len(found) == MOST_SCRIPTS + 1
    assert found["script0"].ends == {State.FAILED: 2}
    assert found[OTHERS].ends == {State.FAILED: 100}
    assert sum(found[OTHERS].run.counts) == 100


def test_a_job_that_never_started_has_no_run_time() -> None:
    measures = Measures()
    measures.ended("hello", State.CANCELLED, None)
    ((_, found),) = measures.by_script()
    assert (found.ends, sum(found.run.counts)) == ({State.CANCELLED: 1}, 0)
