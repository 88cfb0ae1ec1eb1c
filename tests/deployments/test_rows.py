"""What every front must show: the real servers, with the shipped files, before a real node."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.testing import RunningNode
from tests.deployments.callers import Caller, Seen, is_final, texts
from tests.deployments.front import LARGEST, Front
from tests.deployments.programs import PATIENCE, eventually

MEGABYTE = 10**6
FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9;proto=https"}


def test_a_script_runs(caller: Caller) -> None:
    answer = caller.http.post("/run/hello", json={"name": "Ada"})
    assert (answer.status_code, answer.json()) == (200, {"hello": "Ada"})
    assert caller.job(answer.headers["remoterun-job"])["state"] == "succeeded"


def test_a_body_without_a_length_is_not_taken_for_none(caller: Caller) -> None:
    headers = {"Content-Type": "application/json"}
    answer = caller.http.post("/run/hello", content=iter([b'{"name":', b'"Ada"}']), headers=headers)
    assert answer.status_code == 411 or (answer.status_code, answer.json()) == (200, {"hello": "Ada"})


def test_the_command_line_calls_through_it(front: Front, node: RunningNode, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "remoterun", "--on", front.url]
    command += ["--ca-file", str(front.place.certificate)] if front.is_tls else []
    env = {**os.environ, "REMOTERUN_TOKEN": node.token}
    done = subprocess.run(
        [*command, "run", "hello", "name=Ada"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{"hello":"Ada"}\n', b"")


def test_events_pass_while_the_script_waits(caller: Caller, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = caller.submit("gated", gate=str(gate))
    with caller.following(job) as events:
        seen = _until_waiting(events)
        assert not gate.exists()  # so the script is at it, and the event came before the answer's end
        gate.touch()
        seen += events
    assert texts(seen) == "waiting\ngoing on\n"
    assert is_final(seen[-1])


def test_a_flood_passes_while_the_script_waits(caller: Caller, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = caller.submit("gated", gate=str(gate), flood=5 * MEGABYTE)
    with caller.following(job) as events:
        seen = _until_waiting(events)
        gate.touch()
        seen += events
    assert texts(seen) == ("x" * 99 + "\n") * (5 * MEGABYTE // 100) + "waiting\ngoing on\n"
    assert [each.n for each in seen] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("stream", ["output", "events"])
def test_other_streams_pass_while_the_script_waits(caller: Caller, tmp_path: Path, stream: str) -> None:
    gate = tmp_path / "gate"
    job = caller.submit("gated", gate=str(gate))
    headers = {"Accept": "application/x-ndjson"}
    with caller.http.stream("GET", f"/jobs/{job}/{stream}", headers=headers) as answer:
        said = ""
        for piece in answer.iter_text():
            said += piece
            if "waiting" in said and not gate.exists():
                gate.touch()
    assert "going on" in said


def test_an_upload_passes(caller: Caller) -> None:
    data = random.Random(1).randbytes(8 * MEGABYTE)
    answer = caller.http.post("/run/takes", files={"file": ("a.bin", data)}, data={"n": "3"})
    expected = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "n": 3}
    assert (answer.status_code, answer.json()) == (200, expected)


@pytest.mark.parametrize("size", [LARGEST - 2**20, LARGEST + 2**20])
def test_an_upload_that_is_too_large_is_refused(caller: Caller, size: int) -> None:
    # The smaller one is let through, and is too large for the request to the node, in which a file is base64.
    answer = caller.http.post("/run/takes", files={"file": ("a.bin", bytes(size))})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert caller.http.post("/run/hello", json={"name": "Ada"}).status_code == 200


def test_large_outputs_pass(caller: Caller) -> None:
    noise = random.Random(7)
    artifact, output = noise.randbytes(12 * MEGABYTE), noise.randbytes(3 * MEGABYTE).hex().encode()
    job = caller.submit("leaves", seed=7, artifact=len(artifact), output=len(output))
    assert caller.job(job, wait=PATIENCE)["state"] == "succeeded"
    assert caller.http.get(f"/jobs/{job}/artifacts/big.bin").content == artifact
    assert caller.http.get(f"/jobs/{job}/output").content == output


def test_a_restart_of_the_front_loses_nothing(front: Front, node: RunningNode, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Caller(front, node.token) as before:
        job = before.submit("gated", gate=str(gate))
        with before.following(job) as events:
            seen = _until_waiting(events)
            front.restart()
            with contextlib.suppress(httpx2.HTTPError):  # it may end in order, or be cut off
                seen += events
    with Caller(front, node.token) as after:
        assert after.job(job)["state"] == "running"
        gate.touch()
        with after.following(job, seen[-1].n) as events:
            seen += events
    assert [each.n for each in seen] == list(range(1, len(seen) + 1))
    assert texts(seen) == "waiting\ngoing on\n"
    assert is_final(seen[-1])


def _stop(node: RunningNode) -> None:
    node.stop()


def _kill(node: RunningNode) -> None:
    node.kill()


@pytest.mark.parametrize("end", [_stop, _kill])
def test_a_node_that_goes_and_comes_back_loses_nothing(
    caller: Caller, node: RunningNode, tmp_path: Path, end: Callable[[RunningNode], None]
) -> None:
    gate = tmp_path / "gate"
    running, waiting = (caller.submit("one_at_once", gate=str(gate)) for _ in range(2))
    eventually(lambda: caller.job(running)["state"] == "running", "the first one runs")
    end(node)
    answer = caller.http.post("/run/hello", json={"name": "Ada"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    gate.touch()
    node.start()
    eventually(lambda: caller.http.get("/scripts").status_code == 200, "it works again")
    assert caller.http.post("/run/hello", json={"name": "Ada"}).json() == {"hello": "Ada"}
    assert caller.job(waiting, wait=PATIENCE)["state"] == "succeeded"
    assert caller.job(running)["ended"] is not None


@pytest.mark.parametrize("claims", [{}, FORGED], ids=["honest", "forging"])
def test_the_record_names_the_callers_address(
    front: Front, node: RunningNode, caller: Caller, claims: dict[str, str]
) -> None:
    address = f"127.0.0.{random.randrange(2, 255)}"
    with Caller(front, "rr_wrong", address) as stranger, Caller(front, node.token, address) as known:
        assert stranger.http.get("/info", headers=claims).status_code == 401
        job = known.http.post("/run/hello", json={"name": "Ada"}, headers=claims).headers["remoterun-job"]
    record = caller.job(job)
    assert (record["transport"], record["peer"]) == ("http", address)
    refusals = caller.http.get("/refusals", params={"limit": 1}).json()["refusals"]
    assert [(each["transport"], each["peer"]) for each in refusals] == [("http", address)]


@pytest.mark.parametrize("claimed", ["", "http", "https"])
def test_the_scheme_is_the_callers(front: Front, node: RunningNode, claimed: str) -> None:
    headers = {"Sec-Fetch-Site": "same-origin"}
    headers |= {"X-Forwarded-Proto": claimed, "X-Forwarded-Ssl": "on"} if claimed else {}
    with Caller(front, "") as browser:
        answer = browser.http.post("/login", data={"token": node.token}, headers=headers)
        assert answer.status_code == 303, answer.text
        assert ("; Secure" in answer.headers["set-cookie"]) is front.is_tls


def test_the_page_loads_and_signs_in(front: Front, node: RunningNode) -> None:
    own = {"Origin": front.url, "Sec-Fetch-Site": "same-origin"}
    with Caller(front, "") as browser:
        assert browser.http.post("/login", data={"token": node.token}, headers=own).status_code == 303
        page = browser.http.get("/", headers={"Sec-Fetch-Site": "none"})
        assert page.status_code == 200
        assert "hello" in page.text
        job = browser.http.post("/run/hello", json={"name": "Ada"}, headers=own)
        assert job.json() == {"hello": "Ada"}
        elsewhere = {**own, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert browser.http.post("/run/hello", json={"name": "Ada"}, headers=elsewhere).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example"])
def test_a_wrong_host_is_refused(caller: Caller, host: str) -> None:
    answer = caller.http.post("/run/hello", json={"name": "Ada"}, headers={"Host": host})
    assert answer.status_code in (400, 403, 404, 421)
    assert "Ada" not in answer.text


def test_no_secret_stands_in_its_log(front: Front, node: RunningNode) -> None:
    token = node.new_token(["run:*", "read"])
    with Caller(front, token) as caller, Caller(front, "") as browser:
        assert caller.http.post("/run/hello?name=in-a-query").status_code == 200
        assert caller.http.get("/nowhere", headers={"Referer": f"{front.url}/login?code=in-a-referer"}).is_error
        browser.http.headers["Sec-Fetch-Site"] = "same-origin"
        cookie = browser.http.post("/login", data={"token": token}).headers["set-cookie"].split(";")[0]
        browser.http.get("/login", params={"code": "in-a-code"})
        browser.http.get("/", headers={"Cookie": cookie})
    front.restart()  # what it holds back, it writes
    log = front.log()
    secrets = (token, cookie.partition("=")[2], "in-a-query", "in-a-referer", "in-a-code", "Bearer")
    assert [secret for secret in secrets if secret in log] == []


def _until_waiting(events: Iterator[Seen]) -> list[Seen]:
    seen: list[Seen] = []
    for each in events:
        seen.append(each)
        if texts(seen[-2:]).endswith("waiting\n"):
            return seen
    raise AssertionError(f"the stream ended after {len(seen)} events")
