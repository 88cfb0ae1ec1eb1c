"""Files in and files out at a real node: what each wire has of its own, and what stays on disk."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from remoterun.errors import Invalid, NotFound, ServiceError, TooLarge, Unavailable
from remoterun.messages import FileOnDisk, JobRequest, UploadedFile
from remoterun.states import State
from remoterun.testing import NodeDidNotStart, RunningNode, running_node
from tests.contract.wires import SCRIPTS, eventually
from tests.integration.test_cli_node import remoterun

MIB = 2**20
JOB_REQUEST = "application/vnd.remoterun.job-request+json"
TEXT = """\
from pathlib import Path


def main(text: str = "", where: Path = Path("."), lines: list[str] = []) -> list[str]:
    return [text, str(where), *lines]
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    more = tmp_path_factory.mktemp("scripts")
    (more / "text.py").write_text(TEXT)
    with running_node([SCRIPTS, more], data=tmp_path_factory.mktemp("data"), workers=2) as node:
        yield node


@pytest.fixture(scope="module")
def http(node: RunningNode) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {node.token}"}
    with httpx2.Client(base_url=node.urls["http"], headers=headers, trust_env=False, timeout=60) as client:
        yield client


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def arriving(node: RunningNode) -> list[str]:
    return [path.name for path in (node.data / "uploads" / "incoming").iterdir()]


def kept(node: RunningNode) -> list[str]:
    return sorted(path.name for path in (node.data / "uploads").iterdir() if path.name != "incoming")


def high_water(node: RunningNode) -> int:
    """Give the most memory that the node's process has had, in bytes."""
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_form_may_send_files_larger_than_any_request(node: RunningNode, http: httpx2.Client, tmp_path: Path) -> None:
    data = os.urandom(MIB) * 40
    (tmp_path / "large.bin").write_bytes(data)
    http.post("/run/takes", files={"one": ("small", b"x")})  # what a first upload loads is no part of the file's cost
    before = high_water(node)
    with (tmp_path / "large.bin").open("rb") as file:
        answer = http.post("/run/takes", files={"one": ("large.bin", file)}, data={"n": "7"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["one"]["sha256"], answer.json()["n"]) == (digest(data), 7)
    assert high_water(node) - before < 16 * MIB
    assert arriving(node) == []


def test_a_form_beyond_the_limit_leaves_nothing(node: RunningNode, http: httpx2.Client) -> None:
    jobs = kept(node)
    answer = http.post("/run/takes", files={"one": ("huge", io.BytesIO(bytes(101 * MIB)))})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "limits.upload" in answer.json()["message"]
    assert (arriving(node), kept(node)) == ([], jobs)


@pytest.mark.parametrize("path", ["/run/takes", "/jobs"])
def test_a_whole_job_request_may_be_a_part_of_a_form(node: RunningNode, http: httpx2.Client, path: str) -> None:
    request = ("request", (None, b'{"script":"takes","params":{"n":2}}', JOB_REQUEST))
    parts: list[Any] = [request, ("one", ("a", b"1")), ("more.1", ("c", b"3")), ("more.0", ("b", b"2"))]
    answer = http.post(path, files=parts)
    assert answer.is_success, answer.text
    job = http.get(f"/jobs/{answer.headers['remoterun-job']}", params={"wait": 60}).json()
    assert [each["name"] for each in [job["result"]["one"], *job["result"]["more"]]] == ["a", "b", "c"]


def test_a_job_request_may_hold_its_files(http: httpx2.Client) -> None:
    files = {"one": {"name": "a", "data_base64": base64.b64encode(b"\xff\x00").decode()}}
    answer = http.post("/jobs", json={"script": "takes", "files": files})
    assert answer.status_code == 201, answer.text
    job = http.get(f"/jobs/{answer.json()['id']}", params={"wait": 60}).json()
    assert job["result"]["one"]["sha256"] == digest(b"\xff\x00")


@pytest.mark.parametrize("more", ['"path":"/etc/passwd"', '"path":"/etc/passwd","size":1', '"sha256":"x"'])
def test_no_request_can_name_a_file_of_the_nodes(http: httpx2.Client, more: str) -> None:
    for body in (f'{{"name":"a","data_base64":"",{more}}}', f'{{"name":"a",{more}}}'):
        content = f'{{"script":"takes","files":{{"one":{body}}}}}'
        answer = http.post("/jobs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text


def test_the_document_shows_files_as_parts_of_a_form(http: httpx2.Client) -> None:
    document = http.get("/openapi.json").json()
    body = document["paths"]["/run/takes"]["post"]["requestBody"]["content"]
    assert [*body] == ["multipart/form-data"]
    schema = document["components"]["schemas"]["Script.takes"]
    assert schema["properties"]["one"]["contentMediaType"] == "application/octet-stream"


def test_artifacts_come_in_parts(http: httpx2.Client) -> None:
    made = http.post("/run/leaves", json={"big": 700_000 // 256 * 256})
    path = f"/jobs/{made.headers['remoterun-job']}/artifacts/big.bin"
    whole = http.get(path)
    tag = whole.headers["etag"]
    assert (whole.status_code, len(whole.content), whole.headers["accept-ranges"]) == (200, 699_904, "bytes")
    assert (whole.headers["x-content-type-options"], whole.headers["content-length"]) == ("nosniff", "699904")
    assert whole.headers["content-disposition"].startswith("attachment")
    for wanted, start, stop in (("0-9", 0, 10), ("300000-500000", 300_000, 500_001), ("-1", 699_903, 699_904)):
        part = http.get(path, headers={"Range": f"bytes={wanted}", "If-Range": tag})
        assert part.status_code == 206
        assert part.content == whole.content[start:stop]
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/699904"
        assert part.headers["etag"] == tag
    beyond = http.get(path, headers={"Range": "bytes=699904-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */699904")
    assert beyond.headers["content-type"] == "application/problem+json"
    same = http.get(path, headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    empty = http.get(path.replace("big.bin", "empty"))
    assert (empty.status_code, empty.content, empty.headers["content-length"]) == (200, b"", "0")
    assert empty.headers["etag"] != tag


def test_a_redis_client_sends_files(node: RunningNode) -> None:
    address = node.urls["tcp"].removeprefix("tcp://")
    host, _, port = address.partition(":")
    with redis.Redis(host=host, port=int(port), password=node.token) as client:
        args = ["takes", "FILE", "one", "a.bin", b"\xff\x00\r\n", "n=4", "file", "more.0", "b", b""]
        answer: Any = client.execute_command("RUN", *args)
        assert digest(b"\xff\x00\r\n").encode() in answer
        assert b'"n":4' in answer
        for bad in (["takes", "FILE", "one", "a"], ["takes", "FILE", "one", "a", b"", "FILE", "one", "a", b""]):
            with pytest.raises(redis.ResponseError, match="INVALID"):
                client.execute_command("RUN", *bad)


def test_a_person_sends_a_small_file_in_a_line(node: RunningNode) -> None:
    host, _, port = node.urls["tcp"].removeprefix("tcp://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(f'AUTH {node.token}\r\nRUN takes FILE one note.txt "two words\\n"\r\nQUIT\r\n'.encode())
        received = b""
        while piece := line.recv(65536):
            received += piece
    assert digest(b"two words\n").encode() in received


def test_the_command_line_sends_a_file_where_one_is_wanted(node: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(b"\xff\x00")
    (tmp_path / "note.txt").write_text("étage\n")
    done = remoterun(node, "run", "takes", "one@a b.bin", "more@note.txt", "more@a b.bin", "n=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest(b"\xff\x00").encode() in done.stdout
    assert b'"name":"note.txt"' in done.stdout
    done = remoterun(node, "run", "text", "text@note.txt", "lines@note.txt", "lines=b", cwd=tmp_path)
    assert done.stdout.decode() == '["étage\\n",".","étage\\n","b"]\n'
    done = remoterun(node, "run", "text", "text@a b.bin", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"no UTF-8 text" in done.stderr
    done = remoterun(node, "run", "takes", "one=note.txt", cwd=tmp_path)
    assert (done.returncode, b"one: it is a file" in done.stderr) == (125, True)


def test_the_command_line_sends_what_a_pipe_gives(node: RunningNode, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"from a pipe")
    os.close(theirs)
    done = remoterun(node, "run", "takes", f"one@/dev/fd/{ours}", pass_fds=(ours,))
    os.close(ours)
    assert digest(b"from a pipe").encode() in done.stdout


def test_the_command_line_copies_artifacts(node: RunningNode, tmp_path: Path) -> None:
    job_id = remoterun(node, "submit", "leaves", "big:=256").stdout.decode().strip()
    assert remoterun(node, "wait", job_id).returncode == 0
    listed = remoterun(node, "artifacts", job_id).stdout.decode()
    assert "plot.txt" in listed
    assert "text/plain" in listed
    assert remoterun(node, "artifacts", job_id, "-o", "out", cwd=tmp_path).returncode == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"plot.txt", "pages/1 of 2.html", "empty", "big.bin"}
    assert (tmp_path / "out/big.bin").read_bytes() == bytes(range(256))


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_python_callers_pass_paths_and_open_files(node: RunningNode, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"on disk")
    with node.connect(scheme) as client, path.open("rb") as opened:
        opened.seek(3)
        result = client.run("takes", one=path, more=[io.BytesIO(b"in memory"), opened, path], n=1)
        assert result["one"]["sha256"] == digest(b"on disk")
        shown = [(each["name"], each["sha256"]) for each in result["more"]]
        data = [("more", b"in memory"), ("a.bin", b"disk"), ("a.bin", b"on disk")]
        assert shown == [(name, digest(content)) for name, content in data]
        assert client.run("text", where=path, lines=[path]) == ["", str(path), str(path)]
        with pytest.raises(Invalid, match="nowhere"):
            client.run("takes", one=tmp_path / "nowhere")
        with pytest.raises(Invalid):
            client.run("text", text=io.BytesIO(b"x"))


def test_large_files_go_over_http_alone(node: RunningNode, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(2 * MIB))
    with node.connect("http") as client:
        assert client.run("takes", one=path)["one"]["size"] == 2 * MIB
        assert client.submit("takes", one=path).result()["one"]["size"] == 2 * MIB
        job = client.script("takes", key="twice").submit(one=path)
        assert client.script("takes", key="twice").submit(one=path).id == job.id
    with node.connect("tcp") as client, pytest.raises(TooLarge):
        client.run("takes", one=path)


def test_a_caller_who_may_only_run_passes_open_files(node: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    token = node.new_token(["run"], name="runs-alone")
    with node.connect("tcp", token) as client, (tmp_path / "a").open("rb") as file:
        with pytest.raises(ServiceError):
            client.run("takes", one=tmp_path / "a")  # nobody may tell this caller that it is a file
        job = client.session.run(JobRequest(script="takes", files={"one": UploadedFile(name="a", data=file.read())}))
        assert job.state is State.SUCCEEDED


def test_a_file_of_this_machine_is_read_by_the_client_alone(node: RunningNode) -> None:
    file = FileOnDisk(name="a", path="/no/such/file", size=1)
    for scheme in ("tcp", "http"):
        with node.connect(scheme) as client, pytest.raises((Invalid, NotFound)):
            client.session.run(JobRequest(script="takes", files={"one": file}))


def test_files_go_with_their_jobs(tmp_path: Path) -> None:
    with running_node(SCRIPTS, data=tmp_path / "data", retention={"jobs": 1}) as node, node.connect() as client:
        first = client.submit("takes", one=io.BytesIO(b"1"))
        first.wait()
        assert kept(node) == [first.id]
        again = first.rerun()
        assert again.wait().state is State.SUCCEEDED
        assert eventually(lambda: kept(node) == [again.id], 60), kept(node)
        with pytest.raises(NotFound):
            first.rerun()
        assert again.rerun().wait().state is State.SUCCEEDED, "the bytes are there though the first job is gone"


@pytest.mark.parametrize("scheme", ["tcp", "http"])
def test_a_full_disk_refuses_the_file_and_nothing_is_left(tmp_path: Path, scheme: str) -> None:
    env = {"REMOTERUN_FAILPOINTS": "uploads.write=error:ENOSPC@2"}
    with running_node(SCRIPTS, data=tmp_path / "data", env=env) as node, node.connect(scheme) as client:
        assert client.run("takes", one=io.BytesIO(b"first"))["one"]["size"] == 5
        with pytest.raises(Unavailable, match="disk of the node is full"):
            client.run("takes", one=io.BytesIO(b"second"))
        assert arriving(node) == []
        assert len(kept(node)) == 1
        assert client.run("takes", one=io.BytesIO(b"third"))["one"]["size"] == 5
        assert len([*client.jobs()]) == 2


def test_a_node_killed_between_file_and_job_starts_without_either(tmp_path: Path) -> None:
    env = {"REMOTERUN_FAILPOINTS": "uploads.kept=kill@2"}
    with running_node(SCRIPTS, data=tmp_path / "data", env=env) as node:
        with node.connect() as client:
            first = client.submit("takes", one=io.BytesIO(b"first"))
            first.wait()
            with pytest.raises(Unavailable):
                client.submit("takes", one=io.BytesIO(b"second"))
        assert eventually(lambda: node.process is None or node.process.poll() is not None)
        assert len(kept(node)) == 2
        (node.data / "uploads/incoming/half").write_bytes(b"half")
        node.start()
        with node.connect() as client:
            assert [job.id for job in client.jobs()] == [first.id]
            assert eventually(lambda: kept(node) == [first.id]), kept(node)
            assert arriving(node) == []
            assert client.job(first.id).rerun().result()["one"]["sha256"] == digest(b"first")


def test_an_accepted_job_has_its_file_after_a_kill(tmp_path: Path) -> None:
    env = {"REMOTERUN_FAILPOINTS": "dispatcher.admitted=kill"}
    with running_node(SCRIPTS, data=tmp_path / "data", env=env) as node:
        with node.connect() as client, pytest.raises(Unavailable):
            client.submit("takes", one=io.BytesIO(b"kept"), n=3)
        assert eventually(lambda: node.process is None or node.process.poll() is not None)
    with running_node(SCRIPTS, data=tmp_path / "data") as node, node.connect() as client:
        (job,) = [client.job(job.id) for job in client.jobs()]
        ended = job.wait()
        assert ended.state in (State.SUCCEEDED, State.LOST)
        if ended.state is State.LOST:
            job = job.rerun()
        assert (job.result()["one"]["sha256"], job.result()["n"]) == (digest(b"kept"), 3)


SEES = """\
# /// script
# [tool.remoterun]
# isolation = "{isolation}"
# env = {env}
# ///
import os


def main() -> str:
    return os.environ.get("API_KEY", "")[::-1]
"""
CANARY = "correct-horse-battery-staple"


def test_secrets_reach_those_who_ask_and_nobody_else(tmp_path: Path) -> None:
    scripts, secrets = tmp_path / "scripts", tmp_path / "secrets.toml"
    scripts.mkdir()
    for isolation in ("spawn", "fork", "warm"):
        (scripts / f"asks_{isolation}.py").write_text(SEES.format(isolation=isolation, env='["API_KEY"]'))
    (scripts / "asks_for_all.py").write_text(SEES.format(isolation="fork", env='["*"]'))
    secrets.write_text(f'API_KEY = "{CANARY}"\n')
    secrets.chmod(0o600)
    with running_node(scripts, data=tmp_path / "data", secrets=str(secrets), log_level="debug") as node:
        with node.connect() as client:
            for isolation in ("spawn", "fork", "warm", "warm"):
                assert client.run(f"asks_{isolation}") == CANARY[::-1]
            assert client.run("asks_for_all") == ""
            shown = repr(client.scripts()) + repr(client.info()) + repr([*client.jobs()])
        node.stop()
        kept_bytes = b"".join(path.read_bytes() for path in node.data.rglob("*") if path.is_file())
        for place, data in {"answers": shown.encode(), "data": kept_bytes, "log": node.log().encode()}.items():
            assert len(data) > 100, place
            assert CANARY.encode() not in data, place


def test_a_node_does_not_start_with_secrets_that_others_read(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(f'API_KEY = "{CANARY}"\n')
    secrets.chmod(0o644)
    with pytest.raises(NodeDidNotStart, match="chmod 600") as caught, running_node(SCRIPTS, secrets=str(secrets)):
        pass
    assert CANARY not in str(caught.value)
