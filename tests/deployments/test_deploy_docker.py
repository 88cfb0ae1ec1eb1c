"""The container files: linted, and each step run here that can be without an engine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from remoterun.cli.serve import transport_settings
from remoterun.config import Loaded, load
from remoterun.quantities import Duration
from remoterun.testing import running_node
from tests.deployments.dockerfile import Instruction, parse
from tests.deployments.front import DEPLOY, free_port

ROOT = DEPLOY.parent
FOLDER = DEPLOY / "docker"
_PATIENCE = 60.0
_IMAGE_USER = "10001:10001"


def instructions(word: str) -> list[Instruction]:
    return [each for each in parse((FOLDER / "Dockerfile").read_text()) if each.word == word]


def last(word: str) -> Instruction:
    """Give the last instruction of a kind in the stage that becomes the image."""
    final = instructions("FROM")[-1].stage
    return [each for each in instructions(word) if each.stage == final][-1]


def settings(file: Path) -> Loaded:
    return load(flags={}, env={}, file=file, sections=transport_settings())


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return read


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True, timeout=_PATIENCE)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_image_does_not_run_as_root() -> None:
    assert last("USER").text == _IMAGE_USER


def test_the_image_is_told_which_base_and_takes_nothing_else_from_a_network() -> None:
    assert {each.arguments()[0] for each in instructions("FROM")} == {"${BASE}"}
    (base,) = instructions("ARG")
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-[a-z]+", base.text), "a version of Python and of Debian is named"
    assert instructions("ADD") == []


def test_what_builds_is_not_in_the_image() -> None:
    ran = " ".join(each.text for each in instructions("RUN") if each.stage == instructions("FROM")[-1].stage)
    assert "pip" not in ran
    assert "apt" not in ran
    (build,) = (each.text for each in instructions("RUN") if each.stage == 0)
    assert "pip uninstall" in build


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = [each for each in instructions("COPY") if "--from=" not in each.text]
    sources = {name for each in copied for name in each.arguments()[:-1]}
    assert "*" in ignored
    assert sources == let_through
    assert all((ROOT / name).exists() for name in sources)


def test_what_is_copied_is_all_that_the_wheel_needs(tmp_path: Path) -> None:
    """The install line of the Dockerfile, run on what it copies; without dependencies, which need an index."""
    copied = [each for each in instructions("COPY") if each.stage == 0]
    source = tmp_path / "src"
    source.mkdir()
    for each in copied:
        *names, _ = each.arguments()
        subprocess.run(["cp", "-r", *(ROOT / name for name in names), source], check=True)
    (run,) = (each.text for each in instructions("RUN") if each.stage == 0)
    environment = tmp_path / "environment"
    steps = [step.strip() for step in run.split("&&")]
    assert len(steps) == 3
    subprocess.run(shlex.split(steps[0].replace("/opt/remoterun", str(environment))), check=True)
    install = shlex.split(steps[1].replace("/opt/remoterun", str(environment)))
    assert install[-1] == ".[all]"
    building = ["hatchling.build"]
    command = [*install[:-1], "--no-deps", "--no-index", "--no-build-isolation", "."]
    packages = str(Path(__import__(building[0].partition(".")[0]).__file__ or "").parents[1])
    env = {**os.environ, "PYTHONPATH": packages}  # hatchling
    subprocess.run(command, cwd=source, env=env, check=True, timeout=_PATIENCE, capture_output=True)
    subprocess.run(shlex.split(steps[2].replace("/opt/remoterun", str(environment))), check=True, capture_output=True)
    listed = {path.name for path in (environment / "bin").iterdir()}
    assert "remoterun" in listed
    assert not [name for name in listed if name.startswith("pip")]


def test_the_health_check_sees_a_node_and_misses_one(tmp_path: Path) -> None:
    port = free_port()
    check = [word.replace("127.0.0.1:7461", f"127.0.0.1:{port}") for word in last("HEALTHCHECK").listed()]
    assert check != last("HEALTHCHECK").listed()
    assert check[0] == "python"
    command = [sys.executable, *check[1:]]
    (tmp_path / "scripts").mkdir()
    with running_node(tmp_path / "scripts", http={"listen": [f"127.0.0.1:{port}"]}):
        assert subprocess.run(command, timeout=_PATIENCE).returncode == 0
    assert subprocess.run(command, timeout=_PATIENCE, stderr=subprocess.DEVNULL).returncode != 0


def test_the_image_and_its_configuration_agree() -> None:
    held = settings(FOLDER / "remoterun.toml")
    copied = {each.arguments()[-1] for each in instructions("COPY")}
    environment = dict(item.split("=", 1) for item in shlex.split(last("ENV").text))
    assert environment["REMOTERUN_CONFIG"] in copied
    assert held.node.data == last("VOLUME").text == last("WORKDIR").text
    ports = {address.rpartition(":")[2] for name in ("http", "socket") for address in held.sections[name].listen}
    assert ports == {*last("EXPOSE").text.split()}
    assert last("CMD").listed() == ["remoterun", "serve"]
    assert f"-o {_IMAGE_USER.partition(':')[0]}" in last("RUN").text
    assert held.node.data in last("RUN").text


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Do what the page says before `docker compose up`; give the folder of the secrets."""
    lines = re.findall(
        r"^    \$ (.*)$", (FOLDER / "README.md").read_text().partition("## With RabbitMQ")[2], re.MULTILINE
    )
    (tmp_path / "remoterun.toml").write_text((FOLDER / "remoterun.toml").read_text())
    commands = [line for line in lines if "docker" not in line]
    assert len(commands) == 5
    subprocess.run(["sh", "-euc", "\n".join(commands)], cwd=tmp_path, check=True)
    return tmp_path / "secrets"


def test_what_the_page_says_makes_the_files_that_compose_wants(secrets: Path) -> None:
    wanted = {each["file"] for kind in ("secrets", "configs") for each in compose()[kind].values()}
    assert wanted == {f"./secrets/{path.name}" for path in secrets.iterdir()}
    password = re.findall(r"^default_pass = ([0-9a-f]{32})$", (secrets / "rabbitmq.conf").read_text(), re.MULTILINE)
    held = settings(secrets / "remoterun.toml")
    assert held.sections["rabbitmq"].url == f"amqp://remoterun:{password[0]}@rabbitmq:5672/%2F"
    assert held.sections["rabbitmq"].principal in held.node.principals


def test_no_password_stands_in_the_compose_file() -> None:
    assert not re.search(r"pass(word)?\s*[:=]|amqp://", (FOLDER / "compose.yaml").read_text(), re.IGNORECASE)


@pytest.mark.parametrize("name", ["node", "rabbitmq"])
def test_services_are_bounded_and_can_do_little(name: str) -> None:
    service = compose()["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"mem_limit", "pids_limit", "restart"} <= service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), "published on loopback alone"


def test_the_node_of_the_compose_file_is_the_images() -> None:
    parts = compose()
    node = parts["services"]["node"]
    assert node["read_only"] is True
    assert (FOLDER / node["build"]["context"]).resolve() == ROOT
    assert (ROOT / node["build"]["dockerfile"]).is_file()
    assert node["depends_on"]["rabbitmq"]["condition"] == "service_healthy"
    assert "healthcheck" in parts["services"]["rabbitmq"]
    assert node["environment"]["REMOTERUN_CONFIG"] == f"/run/secrets/{node['secrets'][0]}"
    assert {*node["secrets"]} == {*parts["secrets"]}
    grace = settings(FOLDER / "remoterun.toml").node.grace
    assert grace + 2 < Duration.parse(node["stop_grace_period"])
    mounted = {volume.split(":")[0]: volume.split(":")[1] for volume in node["volumes"]}
    assert mounted["data"] == settings(FOLDER / "remoterun.toml").node.data
    assert mounted["../../scripts"] == settings(FOLDER / "remoterun.toml").node.scripts[0]
    load(
        flags={},
        env={name: value for name, value in node["environment"].items() if name != "REMOTERUN_CONFIG"},
        file=FOLDER / "remoterun.toml",
        sections=transport_settings(),
    )
