"""The shipped units, with systemd's own programs; a real node behind sockets that `systemd-socket-activate` opens."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.cli.serve import transport_settings
from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.config import Loaded, load
from remoterun.quantities import Duration
from remoterun.service import Token
from remoterun.transport import Target
from tests.deployments.front import DEPLOY, free_port, shipped

UNITS = DEPLOY / "systemd"
NAMES = ("remoterun.service", "remoterun-gateway@.service", "remoterun-http.socket", "remoterun-resp.socket")
_PATIENCE = 60.0
_EXPOSURE = 20  # tenths: systemd's own measure, 0 (nothing is exposed) to 100; what the units are held to
_PROGRAM = "/opt/remoterun/bin/remoterun"


@pytest.fixture(autouse=True)
def _programs() -> None:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is missing, and CI must have it")
        pytest.skip("systemd-analyze is not installed (Debian, Ubuntu: apt install systemd)")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Give a folder with the shipped units, their program replaced by the one here."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for name in NAMES:
        if name.endswith(".service"):
            here = str(Path(sys.executable).with_name("remoterun"))
            (folder / name).write_text(shipped(f"systemd/{name}", {_PROGRAM: here}))
    return folder


def run(*command: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=_PATIENCE, env={**os.environ, **settings}
    )


def unit(name: str) -> configparser.ConfigParser:
    """Read a unit: of a word that stands twice, the values with a line's end between."""

    class Values(dict[str, object]):
        def __setitem__(self, key: str, value: object) -> None:
            if key in self and isinstance(value, list):
                value = [*self[key], *value]  # type: ignore[misc] # lists, as the parser collects them
            super().__setitem__(key, value)

    parser = configparser.ConfigParser(
        dict_type=Values,  # type: ignore[arg-type]
        strict=False,
        interpolation=None,
        delimiters=("=",),
        comment_prefixes=("#",),
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / name).read_text())
    return parser


def shipped_settings() -> Loaded:
    return load(flags={}, env={}, file=UNITS / "remoterun.toml", sections=transport_settings())


@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_wrong(units: Path, name: str) -> None:
    done = run("systemd-analyze", "verify", "--man=no", units / name)
    ours = [line for line in done.stderr.splitlines() if "remoterun" in line]
    assert (ours, done.returncode) == ([], 0)


def test_systemd_would_find_what_is_wrong(units: Path) -> None:
    broken = (units / "remoterun.service").read_text().replace("WatchdogSec=", "WatchdogSeconds=")
    (units / "remoterun.service").write_text(broken)
    assert "WatchdogSeconds" in run("systemd-analyze", "verify", "--man=no", units / "remoterun.service").stderr


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".service")])
def test_the_services_expose_little(units: Path, name: str) -> None:
    done = run("systemd-analyze", "security", "--offline=yes", f"--threshold={_EXPOSURE}", units / name)
    assert done.returncode == 0, "\n".join(done.stdout.splitlines()[-1:])


def test_the_drop_in_with_credentials_is_right(units: Path) -> None:
    whole = units / "remoterun.service"
    whole.write_text(whole.read_text() + (UNITS / "remoterun.service.d" / "credentials.conf").read_text())
    done = run("systemd-analyze", "verify", "--man=no", whole)
    assert [line for line in done.stderr.splitlines() if "remoterun" in line] == []


def test_the_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = run("systemd-sysusers", f"--root={tmp_path}", UNITS / "sysusers.d" / "remoterun.conf")
    assert done.returncode == 0, done.stderr
    name, _, _, _, _, home, shell = (tmp_path / "etc" / "passwd").read_text().strip().split(":")
    assert name == unit("remoterun.service")["Service"]["User"]
    assert (home, shell.rpartition("/")[2]) == (shipped_settings().node.data, "nologin")


def test_the_folders_are_made(tmp_path: Path) -> None:
    text = (UNITS / "tmpfiles.d" / "remoterun.conf").read_text()
    owned = re.compile(r"^(d \S+ +\d+) +(\S+) +(\S+)", re.MULTILINE)
    assert {name for found in owned.finditer(text) for name in found.groups()[1:]} == {"root", "remoterun"}
    ours = tmp_path / "ours.conf"  # only root may give folders away
    ours.write_text(owned.sub(rf"\1 {os.getuid()} {os.getgid()}", text))
    root = tmp_path / "root"
    root.mkdir()
    done = run("systemd-tmpfiles", f"--root={root}", "--create", ours)
    assert done.returncode == 0, done.stderr
    modes = {path: stat.S_IMODE((root / path).stat().st_mode) for path in ("srv/remoterun/scripts", "etc/remoterun")}
    assert modes == {"srv/remoterun/scripts": 0o755, "etc/remoterun": 0o750}
    settings = shipped_settings().node
    assert all((root / folder.lstrip("/")).is_dir() for folder in (*settings.scripts, settings.data))


def test_units_and_configuration_agree() -> None:
    settings, service = shipped_settings(), unit("remoterun.service")["Service"]
    sockets = [unit(name)["Socket"] for name in NAMES if name.endswith(".socket")]
    named = {f"fd:{each['FileDescriptorName']}" for each in sockets}
    assert named == {*settings.sections["http"].listen, *settings.sections["socket"].listen}
    assert {each["Service"] for each in sockets} == {"remoterun.service"}
    assert {*service["Sockets"].split()} == {name for name in NAMES if name.endswith(".socket")}
    assert settings.node.data == f"/var/lib/{service['StateDirectory']}"
    assert settings.node.grace + 2 < Duration.parse(service["TimeoutStopSec"])
    assert service["KillMode"] == "mixed", "jobs are the node's to end"
    assert service["OOMPolicy"] == "continue", "a job that is killed for memory ends alone"


def test_what_hardens_the_node_hardens_its_gateways() -> None:
    node, gateway = (unit(name)["Service"] for name in NAMES if name.endswith(".service"))
    hardening = [key for key in node if re.match("Protect|Private|Restrict|NoNew|Capab|Lock|SystemCallArch", key)]
    assert len(hardening) > 15
    assert {key: gateway.get(key) for key in hardening} == {key: node[key] for key in hardening}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give the shipped configuration, with folders here."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "hello.py").write_text("print('hello')")
    path = tmp_path / "remoterun.toml"
    path.write_text(
        shipped(
            "systemd/remoterun.toml",
            {"/srv/remoterun/scripts": str(scripts), "/var/lib/remoterun": str(tmp_path / "d")},
        )
    )
    return path


@pytest.fixture
def activated(config: Path, tmp_path: Path) -> Iterator[str]:
    """Open the sockets of the units, on which the first call starts a node; give the URL for HTTP."""
    url, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    listen = [f"--listen={url}", f"--listen={tmp_path}/resp.sock", "--fdname=http:resp"]
    serve = [sys.executable, "-m", "remoterun", "serve", "--config", str(config)]
    with log.open("wb") as out:
        activator = subprocess.Popen(["systemd-socket-activate", *listen, *serve], stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + _PATIENCE
        while b"Listening" not in log.read_bytes():
            assert activator.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield f"http://{url}"
    finally:
        activator.terminate()  # the node took its place
        assert activator.wait(_PATIENCE) == 0, log.read_text()


def test_the_first_call_starts_the_node(activated: str, tmp_path: Path) -> None:
    token = tmp_path / "d" / "token"
    assert not token.exists()
    assert httpx2.get(f"{activated}/livez", timeout=_PATIENCE).status_code == 200
    for url in (activated, f"unix://{tmp_path}/resp.sock"):
        with Client(*open_session(Target(url, timeout=_PATIENCE), Token(token.read_text().strip()))) as client:
            assert client.run("hello") == "hello\n"
