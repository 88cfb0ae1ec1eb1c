"""What nginx itself refuses, and that it says so as the API does."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.testing import RunningNode
from tests.deployments.callers import Caller
from tests.deployments.certificate import write_certificate
from tests.deployments.conftest import require
from tests.deployments.front import NAME, Front, Place, free_port
from tests.deployments.fronts.nginx_uvicorn import NginxUvicorn
from tests.deployments.fronts.nginx_uwsgi import NginxUwsgi
from tests.deployments.nginx import Nginx
from tests.deployments.programs import eventually

_FOLLOWERS = 16  # of one caller, as nginx-uwsgi/remoterun.conf has it


@pytest.fixture(scope="module", params=[NginxUvicorn, NginxUwsgi], ids=lambda kind: kind.folder)
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


def test_guesses_at_the_door_are_slowed_down(front: Front) -> None:
    with Caller(front, "") as guesser:
        headers = {"Sec-Fetch-Site": "same-origin"}
        answers = [guesser.http.post("/login", data={"token": "rr_guess"}, headers=headers) for _ in range(20)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 401
        assert refused
        assert refused[0].json()["code"] == "busy"
        assert refused[0].headers["retry-after"] == "1"
        assert guesser.http.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("path", "behind"),
    [
        ("nginx-uvicorn/remoterun.conf", "127.0.0.1:8001"),
        ("nginx-uwsgi/remoterun.conf", "/run/remoterun-uwsgi/uwsgi.sock"),
        ("supervisor-nginx/remoterun.conf", "127.0.0.1:8001"),
    ],
)
def test_that_nothing_answers_behind_it_is_said_in_the_words_of_the_api(
    folder: Path, tmp_path: Path, path: str, behind: str
) -> None:
    require(NginxUvicorn)
    place = Place(tmp_path, f"unix://{folder}/none", *write_certificate(tmp_path))
    nobody = f"127.0.0.1:{free_port()}" if ":" in behind else f"{folder}/nobody.sock"
    nginx = Nginx(place, path, {behind: nobody})
    running = nginx.start()
    try:
        verify = ssl.create_default_context(cafile=place.certificate)
        answer = eventually(
            lambda: _answer(f"https://localhost:{nginx.port}/livez", verify), "nginx answers", [running]
        )
    finally:
        running.stop()
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (503, 503, "unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"


def _answer(url: str, verify: ssl.SSLContext) -> httpx2.Response | None:
    try:
        return httpx2.get(url, verify=verify)
    except httpx2.ConnectError:
        return None


@pytest.mark.parametrize("front", [NginxUwsgi], ids=["nginx-uwsgi"], indirect=True)
def test_a_caller_with_many_followers_leaves_threads_to_others(
    front: Front, caller: Caller, node: RunningNode, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = caller.submit("ticks", gate=str(gate))
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(caller.following(job)) for _ in range(_FOLLOWERS)]
        assert [next(events).n for events in followers] == [1] * _FOLLOWERS
        refused = caller.http.get(f"/jobs/{job}/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "busy")
        with Caller(front, node.token, "127.0.0.2") as other, other.following(job) as events:
            assert next(events).n == 1
    gate.touch()


def test_followers_that_leave_free_their_threads(front: Front, caller: Caller, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = caller.submit("ticks", gate=str(gate))
    for _ in range(80):  # more than there are threads
        with Caller(front, "") as follower:
            follower.http.headers.update(caller.http.headers)
            with follower.following(job) as events:
                assert next(events).n == 1
    gate.touch()
    assert caller.job(job, wait=60)["state"] == "succeeded"


def test_a_name_that_is_not_served_gets_no_handshake(front: Front) -> None:
    context = front.trust()
    assert isinstance(context, ssl.SSLContext)
    with socket.create_connection(("127.0.0.1", front.port)) as wire, pytest.raises(ssl.SSLError):
        context.wrap_socket(wire, server_hostname="evil.example")
    with (
        socket.create_connection(("127.0.0.1", front.port)) as wire,
        context.wrap_socket(wire, server_hostname=NAME) as tls,
    ):
        assert tls.version() == "TLSv1.3"
