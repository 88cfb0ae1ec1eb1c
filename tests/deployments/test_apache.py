"""What Apache itself refuses, and that it says so as the API does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.testing import RunningNode
from tests.deployments.callers import Caller
from tests.deployments.certificate import write_certificate
from tests.deployments.conftest import require
from tests.deployments.front import LARGEST, Front, Place
from tests.deployments.fronts.apache_mod_wsgi import ApacheModWsgi
from tests.deployments.fronts.apache_proxy import ApacheProxy
from tests.deployments.programs import PATIENCE, eventually

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module", params=[ApacheModWsgi, ApacheProxy], ids=lambda kind: kind.folder)
def front(request: pytest.FixtureRequest, node: RunningNode, folder: Path) -> Iterator[Front]:
    kind: type[Front] = request.param
    require(kind)
    own = folder / kind.folder
    own.mkdir()
    standing = kind(Place(own, node.urls["unix"], *write_certificate(own)))
    try:
        standing.start()
        yield standing
    finally:
        standing.stop()


def said(answer: httpx2.Response) -> tuple[int, str, str]:
    """Give an answer's status, type, and the code of the API in it."""
    return answer.status_code, answer.headers["content-type"], answer.json()["code"]


def test_what_is_too_large_is_refused_unread(caller: Caller) -> None:
    assert said(caller.http.post("/run/hello", content=bytes(LARGEST + 1))) == (413, PROBLEM, "too_large")


def test_another_name_is_refused(caller: Caller) -> None:
    assert said(caller.http.get("/livez", headers={"Host": "evil.example"})) == (421, PROBLEM, "invalid")


def test_a_page_of_the_node_keeps_its_type(caller: Caller) -> None:
    answer = caller.http.get("/login", headers={"Accept": "text/html", "Sec-Fetch-Site": "none"})
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("front", [ApacheModWsgi], ids=["apache-mod-wsgi"], indirect=True)
def test_a_process_that_dies_under_a_call_is_told_of(front: Front, node: RunningNode, tmp_path: Path) -> None:
    assert isinstance(front, ApacheModWsgi)
    gate, answers = tmp_path / "gate", []
    with Caller(front, node.token) as caller, Caller(front, node.token) as other:
        params = {"gate": str(gate)}
        calling = threading.Thread(target=lambda: answers.append(caller.http.post("/run/gated", json=params)))
        calling.start()
        running = {"state": "running", "script": "gated"}
        job = eventually(lambda: other.http.get("/jobs", params=running).json()["jobs"], "it runs")[0]["id"]
        for process in front.processes():
            os.kill(process, signal.SIGKILL)
        calling.join(PATIENCE)
        assert said(answers[0]) == (500, PROBLEM, "unavailable")
        gate.touch()
        eventually(lambda: other.http.get("/livez").status_code == 200, "new processes answer")
        assert other.job(job, wait=PATIENCE)["state"] == "succeeded"


@pytest.mark.parametrize("front", [ApacheProxy], ids=["apache-proxy"], indirect=True)
def test_that_nothing_answers_behind_it_is_told(front: Front, caller: Caller) -> None:
    assert isinstance(front, ApacheProxy)
    front.stop_gateway()
    assert said(caller.http.post("/run/hello", json={"name": "Ada"})) == (503, PROBLEM, "unavailable")
