"""The wheel: built, looked into, installed in a fresh environment, and used there as a newcomer would."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Installing takes pip some 20 seconds where its cache is cold.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command: list[str | Path] = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin/python",
        "install",
        "--quiet",
        "--quiet",
    ]
    command += ["--constraint", ROOT / "constraints.txt", f"{wheel}[http]"]
    installed = subprocess.run(command, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return folder / "bin"


def test_it_holds_every_file_of_every_package(names: set[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "remoterun", "transports"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = {name.removeprefix("transports/") for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert {"remoterun/__init__.py", "remoterun/script.py", "remoterun/py.typed"} <= files
    assert names == files


def test_it_holds_nothing_else(names: set[str]) -> None:
    packages = {path.name for path in (ROOT / "transports").iterdir() if (path / "__init__.py").exists()}
    assert {name.partition("/")[0] for name in names} == {"remoterun", *packages}
    assert not {name for name in names if "__pycache__" in name or "/tests/" in name}


def test_it_announces_its_program_and_its_transports(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        points = configparser.ConfigParser()
        points.read_string(archive.read(entry_points).decode())
    assert points["console_scripts"]["remoterun"] == "remoterun.cli:main"
    assert {"socket", "http", "rpc"} <= set(points["remoterun.transports"])


def environment(folder: Path) -> dict[str, str]:
    """Give an environment in which nothing leads back to this repository."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REMOTERUN_", "PYTHON"))}
    return {**inherited, "HOME": str(folder), "REMOTERUN_DATA": str(folder / "data")}


@pytest.fixture(scope="module")
def workplace(bin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one script in it, which a node of the fresh environment serves on free ports."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "scripts").mkdir()
    (folder / "scripts/double.py").write_text("def main(number: int) -> int:\n    return 2 * number\n")
    sections = [f'[{name}]\nlisten = ["127.0.0.1:0"]\n' for name in ("socket", "http", "rpc")]
    (folder / "remoterun.toml").write_text("\n".join(sections))
    command: list[str | Path] = [bin_folder / "remoterun", "serve", "scripts", "--ready-file", folder / "ready.json"]
    with subprocess.Popen(command, cwd=folder, env=environment(folder)) as node:
        try:
            wait_until_ready(node, folder / "ready.json")
            yield folder
            node.send_signal(signal.SIGTERM)
            assert node.wait(timeout=30) == 0
        finally:
            node.kill()


def wait_until_ready(node: subprocess.Popen[bytes], file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert node.poll() is None, f"the node ended with {node.returncode} while starting"
        assert time.monotonic() < deadline, "the node was not ready within 60 seconds"
        time.sleep(0.05)  # a file that appears is all there is to wait for


def test_a_node_of_it_runs_a_script(bin_folder: Path, workplace: Path) -> None:
    command: list[str | Path] = [bin_folder / "remoterun", "run", "double", "number=21", "--no-stdin"]
    ended = subprocess.run(command, cwd=workplace, env=environment(workplace), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "42", "")


@pytest.mark.parametrize("wire", ["socket", "http", "rpc"])
def test_its_client_calls_over_each_transport(bin_folder: Path, workplace: Path, wire: str) -> None:
    (url,) = json.loads((workplace / "ready.json").read_text())[wire]
    code = "import remoterun, sys; print(remoterun.connect(sys.argv[1]).run('double', number=4), remoterun.__file__)"
    command: list[str | Path] = [bin_folder / "python", "-c", code, url]
    ended = subprocess.run(command, cwd=workplace, env=environment(workplace), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    result, _, origin = ended.stdout.strip().partition(" ")
    assert result == "8"
    assert Path(origin).is_relative_to(bin_folder.parent)
