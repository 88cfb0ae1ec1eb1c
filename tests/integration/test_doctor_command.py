"""`remoterun doctor`, beside a real node and without one; nothing of anybody's in its report."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from remoterun.access import Tokens
from remoterun.testing import running_node

_PATIENCE = 60.0


def doctor(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "remoterun", "doctor", *words]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=_PATIENCE
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {finding["what"]: finding for finding in json.loads(done.stdout)}


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "hello.py").write_text("print('hello')")
    return folder


def test_it_looks_at_a_running_node(scripts: Path, tmp_path: Path) -> None:
    with running_node(scripts) as node:
        found = findings(doctor("--json", "--data", str(node.data), cwd=tmp_path))
    assert set(found) >= {
        "python", "uvloop", "pidfd", "subreaper", "open files", "sqlite", "kept by", "cgroups", "namespaces",
        "privileges", "configuration", "data folder", "file system", "disk", "room", "database", "tokens",
        "environments", "uv", "scripts", "node", "clock",
    }  # fmt: skip
    assert found["node"]["verdict"] == "ok"
    assert found["database"]["message"].startswith(f"the node (process {node.pid}) holds it")
    assert found["privileges"]["message"].startswith("the node: ")
    assert "commits/s" in found["disk"]["message"]
    assert not [what for what in found if what.endswith("address")], "a running node has its addresses"
    assert all(finding.keys() == {"what", "verdict", "message"} for finding in found.values())


def test_it_looks_at_one_that_has_ended(scripts: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_node(scripts, data=data):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = doctor("--json", "--data", str(data), cwd=tmp_path, REMOTERUN_HTTP_LISTEN=address)
    found = findings(done)
    assert found["node"]["verdict"] == "warn"
    assert "this version's" in found["database"]["message"]
    assert found["http address"]["verdict"] == "fail"
    assert done.returncode == 1


def test_it_says_what_is_wrong_with_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "remoterun.toml").write_text("workrs = 1")
    done = doctor(cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no setting workrs; did you mean workers?" in done.stdout


CANARIES = {
    "node": "canarynode",
    "data": "canarydata",
    "folder": "canaryfolder",
    "script": "canaryscript",
    "secret": "canarysecret",
    "password": "canarypassword",
    "user": "canaryuser",
    "broker": "canarybroker",
    "host": "canaryhost",
    "origin": "canaryorigin",
    "principal": "canaryprincipal",
    "scope": "canaryscope",
    "token": "canarytoken",
    "home": "canaryhome",
    "certificate": "canarycertificate",
    "queue": "canaryqueue",
}
CONFIG = """
name = "{node}"
data = "{data}"
scripts = ["{folder}"]
secrets = "{secret}.toml"
workers = 3
timeout_is_in = "limits"
[http]
listen = ["{host}.invalid:7461", "203.0.113.77:80"]
hosts = ["{host}.example.com"]
origins = ["https://{origin}.example.com"]
proxies = ["198.51.100.9"]
cert = "{certificate}.pem"
[rabbitmq]
url = "amqp://{user}:{password}@{broker}.invalid:5672/%2F"
queue = "{queue}"
principal = "{principal}"
[principals.{principal}]
scopes = ["run:{scope}/*"]
""".replace('timeout_is_in = "limits"\n', "")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with a configuration full of what is nobody's business."""
    folder = tmp_path / CANARIES["home"]
    (folder / CANARIES["folder"]).mkdir(parents=True)
    (folder / CANARIES["folder"] / f"{CANARIES['script']}.py").touch()
    (folder / CANARIES["folder"] / f"{CANARIES['script']}.py").chmod(0o666)
    (folder / f"{CANARIES['secret']}.toml").write_text(f'KEY = "{CANARIES["secret"]}"')
    (folder / "remoterun.toml").write_text(CONFIG.format(**CANARIES))
    (folder / CANARIES["data"]).mkdir(mode=0o700)
    Tokens(folder / CANARIES["data"]).new(CANARIES["token"], ["read"], 0.0)
    return folder


def nobodys_business(report: str) -> list[str]:
    """Give what stands in a report of those who and where somebody is."""
    hidden = [*CANARIES.values(), socket.gethostname(), "203.0.113.77", "198.51.100.9", "rr_"]
    user = pwd.getpwuid(os.getuid())
    hidden += [user.pw_name, user.pw_dir] if os.getuid() else []
    return [word for word in hidden if re.search(rf"(?<![^\W_]){re.escape(word)}", report)]


def test_nothing_of_anybodys_is_in_a_report(place: Path) -> None:
    said = doctor(cwd=place, HOME=str(place)).stdout
    assert {"canarytoken", "canaryscript", "canarybroker", "canarydata"} <= {*re.findall(r"canary\w+", said)}
    done = doctor("--report", cwd=place, HOME=str(place))
    assert nobodys_business(done.stdout) == []
    assert done.returncode == 1, "scripts that others may write"
    for part in ("## Versions", "| pydantic |", "## Findings", "1 of 1 are refused", "1 of them, 1 expired"):
        assert part in done.stdout
    assert "| `workers` | `3` | the file |" in done.stdout
    assert "| `rabbitmq.url` | (set; left out) | the file |" in done.stdout
    assert "pytest" not in done.stdout, "only what a node needs"


def test_nothing_of_anybodys_is_in_a_report_beside_a_node(place: Path) -> None:
    (place / CANARIES["folder"] / f"{CANARIES['script']}.py").chmod(0o644)
    with running_node(place / CANARIES["folder"], data=place / CANARIES["data"], name=CANARIES["node"]) as node:
        done = doctor("--report", "--data", str(node.data), cwd=place.parent, HOME=str(place))
        assert "| node | ok | answers: remoterun " in done.stdout
    assert nobodys_business(done.stdout) == []


def test_a_broken_configuration_is_not_quoted(place: Path) -> None:
    (place / "remoterun.toml").write_text(f'log_level = "{CANARIES["secret"]}"')
    assert CANARIES["secret"] in doctor(cwd=place).stdout
    done = doctor("--report", cwd=place, HOME=str(place))
    assert nobodys_business(done.stdout) == []
    assert "| configuration | fail | it cannot be read |" in done.stdout


def test_a_report_goes_to_a_file(scripts: Path, tmp_path: Path) -> None:
    done = doctor("--report", "report.md", cwd=tmp_path)
    assert done.stdout == ""
    assert "read it before you send it" in done.stderr
    assert (tmp_path / "report.md").read_text().startswith("# remoterun ")
