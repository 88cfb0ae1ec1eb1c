"""What is shipped for watching a node: rules, a dashboard of metrics that exist, a Prometheus that scrapes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from remoterun.messages import JobRequest
from remoterun.metrics import METRICS
from remoterun.testing import RunningNode, running_node
from tests.deployments.front import DEPLOY, free_port, shipped

MONITORING = DEPLOY / "monitoring"
_PATIENCE = 60.0  # seconds

DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana-dashboard.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]


def require(program: str) -> str:
    found = shutil.which(program)
    if found is None and os.environ.get("CI") != "true":
        pytest.skip(f"{program} is not here: sudo apt install prometheus")
    assert found is not None, f"with CI=true nothing is skipped, and there is no {program}"
    return found


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run([require("promtool"), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def named(expression: str) -> set[str]:
    """Give the metrics that an expression names; a histogram's series count as it."""
    found = set()
    for name in re.findall(r"\b(?:remoterun|process)_[a-z_]+", re.sub(r'"[^"]*"', "", expression)):
        histogram = re.sub("_(bucket|sum|count)$", "", name)
        found.add(histogram if histogram in METRICS and METRICS[histogram].kind == "histogram" else name)
    return found


def labels_asked(expression: str) -> dict[str, set[str]]:
    """Give the labels that each metric of an expression is selected by."""
    found: dict[str, set[str]] = {}
    for name, selector in re.findall(r"\b((?:remoterun|process)_[a-z_]+)\{([^}]*)\}", expression):
        (metric,) = named(name)
        found.setdefault(metric, set()).update(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
    return found


def test_the_rules_are_well_formed() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", MONITORING / "alerts.yaml")


def test_the_rules_fire_when_they_should_and_not_else(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "alerts_test.yaml").read_text()
    (tmp_path / "test.yaml").write_text(text.replace("RULES]", f"{MONITORING / 'alerts.yaml'}]"))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "test.yaml")


def test_every_alert_says_how_bad_it_is_and_the_page_what_to_do() -> None:
    page = (MONITORING / "README.md").read_text()
    assert set(re.findall(r"^\| (Remoterun\w+) \|", page, re.MULTILINE)) == {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


@pytest.mark.parametrize("expression", [*queries(), *(rule["expr"] for rule in RULES)])
def test_every_metric_and_label_that_is_named_exists(expression: str) -> None:
    assert named(expression) <= set(METRICS)
    assert named(expression) or "up{" in expression
    for metric, labels in labels_asked(expression).items():
        assert labels <= {*METRICS[metric].labels, "job", "instance", "le"}


def test_every_metric_worth_watching_is_in_the_dashboard_or_an_alert() -> None:
    shown = {name for expression in (*queries(), *(rule["expr"] for rule in RULES)) for name in named(expression)}
    assert set(METRICS) - shown == {"remoterun_tokens"}


def test_the_dashboard_can_be_imported() -> None:
    """By its form: ids, places, units and the variable for the source of data; Grafana itself is not at hand."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert DASHBOARD["id"] is None
    assert [each["name"] for each in DASHBOARD["__inputs"]] == ["DS_PROMETHEUS"]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${DS_PROMETHEUS}"
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    scripts = tmp_path_factory.mktemp("scripts")
    (scripts / "hello.py").write_text('def main() -> str:\n    return "hello"\n')
    (scripts / "broken.py").write_text("def main(: str): ...\n")
    with running_node(scripts) as running:
        yield running


class Prometheus:
    """A Prometheus of our own that runs from the shipped files."""

    def __init__(self, folder: Path, node: RunningNode) -> None:
        token = folder / "token"
        token.write_text(node.new_token(["read"], name="prometheus") + "\n")
        shutil.copy(MONITORING / "alerts.yaml", folder)
        replaced = {
            "/etc/prometheus/remoterun.token": str(token),
            "127.0.0.1:7461": node.urls["http"].removeprefix("http://"),
            "scrape_interval: 15s": "scrape_interval: 500ms",
            "evaluation_interval: 15s": "evaluation_interval: 500ms",
        }
        config = folder / "prometheus.yaml"
        config.write_text(shipped("monitoring/prometheus.yaml", replaced))
        promtool("check", "config", config)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/api/v1"
        self._log = (folder / "log").open("wb")
        command = [require("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        self.process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=self._log, stderr=self._log
        )
        self.wait(lambda: self.query('up{job="remoterun"} == 1'))

    def ask(self, path: str, **params: str) -> Any:
        answer = httpx2.get(f"{self._url}/{path}", params=params)
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[Mapping[str, Any]]:
        """Give the series that an expression gives now."""
        found: list[Mapping[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def wait(self, is_so: Callable[[], Any]) -> None:
        """Wait until something holds; that nothing listens yet is no error."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            assert self.process.poll() is None, Path(self._log.name).read_text()
            try:
                if is_so():
                    return
            except httpx2.TransportError:
                pass
            assert time.monotonic() < deadline, Path(self._log.name).read_text()
            time.sleep(0.1)

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0
        self._log.close()


@pytest.fixture(scope="module")
def prometheus(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    require("prometheus")
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), node)
    try:
        yield running
    finally:
        running.close()


def test_a_real_prometheus_scrapes_a_real_node_with_the_shipped_file(prometheus: Prometheus, node: RunningNode) -> None:
    with node.connect() as client:
        for _ in range(5):
            client.session.run(JobRequest(script="hello"))
    prometheus.wait(lambda: prometheus.query('remoterun_jobs_ended_total{script="hello",state="succeeded"} == 5'))
    (built,) = prometheus.query("remoterun_build_info")
    assert built["metric"]["job"] == "remoterun"


def test_every_rule_is_evaluated_and_one_that_holds_is_pending(prometheus: Prometheus) -> None:
    def evaluated() -> bool:
        (group,) = prometheus.ask("rules")["groups"]
        return all(rule["health"] == "ok" for rule in group["rules"])

    prometheus.wait(evaluated)
    prometheus.wait(lambda: prometheus.query('ALERTS{alertname="RemoterunScriptsBroken",alertstate="pending"}'))
    assert not prometheus.query('ALERTS{alertname=~"RemoterunDown|RemoterunNotReady|RemoterunStoreFault"}')


def test_every_query_of_the_dashboard_is_understood_and_what_a_node_has_is_shown(prometheus: Prometheus) -> None:
    variables = {"$instance": ".*", "$__rate_interval": "1m"}
    unused = {"remoterun_broker_up", "remoterun_certificate_expiry_timestamp_seconds", "remoterun_trace_spans_total"}

    def replaced(expression: str) -> str:
        for name, value in variables.items():
            expression = expression.replace(name, value)
        return expression

    for expression in queries():
        if named(expression) & unused:
            assert prometheus.query(replaced(expression)) == []
        else:
            prometheus.wait(partial(prometheus.query, replaced(expression)))
