"""`remoterun check` and `doctor`, about environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remoterun.testing import running_node
from tests.integration.packages import OFFLINE, Package, gated_package, script

_RUN = "import sys; from remoterun.cli import main; sys.exit(main())"
CODE = 'import gated\n\ndef main() -> int:\n    """Give a value."""\n    return gated.VALUE\n'
MODEL = """\
    from dataclasses import dataclass

    import gated

    @dataclass
    class Order:
        count: int

    def main(order: Order) -> int:
        \"\"\"Take an order.\"\"\"
        return gated.VALUE + order.count
    """


@pytest.fixture
def package(tmp_path: Path) -> Package:
    package = gated_package(tmp_path)
    package.gate.touch()
    return package


@pytest.fixture
def scripts(tmp_path: Path, package: Package) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "value.py").write_text(script([package.requirement], CODE))
    return folder


def remoterun(
    *arguments: str | Path, data: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _RUN, *map(str, arguments), "--data", str(data)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **OFFLINE, **(env or {})}, cwd=data.parent
    )


def environments(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "environments").iterdir() if path.is_dir())


def test_check_resolves_and_builds_nothing(tmp_path: Path, scripts: Path, package: Package) -> None:
    done = remoterun("check", scripts, data=tmp_path / "data")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "data").exists()
    assert package.count() == 0


def test_check_names_file_and_line_of_what_cannot_be_resolved(tmp_path: Path, scripts: Path) -> None:
    path = scripts / "bad.py"
    path.write_text(script(["remoterun-there-is-no-such-package"], CODE))
    for arguments in ([], ["--build"]):
        done = remoterun("check", scripts, *arguments, data=tmp_path / "data", env={"UV_NO_INDEX": "1"})
        assert done.returncode == 1
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"{path.resolve()}:2: error: ")
        assert "remoterun-there-is-no-such-package was not found" in line


def test_check_builds_where_a_node_looks(tmp_path: Path, scripts: Path, package: Package) -> None:
    (scripts / "again.py").write_text(script([package.requirement], CODE))
    (scripts / "model.py").write_text(script([package.requirement], MODEL))
    data = tmp_path / "data"
    before = remoterun("check", scripts, data=data)
    assert before.returncode == 0
    assert "only its environment can tell what its parameters are" in before.stdout
    done = remoterun("check", scripts, "--build", data=data)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(environments(data)) == 1
    assert package.count() == 1
    assert data.stat().st_mode & 0o777 == 0o700
    with running_node(scripts, data=data, env=OFFLINE) as node, node.connect() as client:
        assert client.run("value") == 1
        assert client.run("model", order={"count": 2}) == 3
    assert package.count() == 1


def test_check_finds_what_is_wrong_once_it_is_built(tmp_path: Path, scripts: Path, package: Package) -> None:
    path = scripts / "model.py"
    path.write_text(script([package.requirement], MODEL.replace("import gated", "import gated_is_not_its_name")))
    done = remoterun("check", scripts, "--build", data=tmp_path / "data")
    assert done.returncode == 1
    assert f"{path.resolve()}:7: error: importing it failed: ModuleNotFoundError" in done.stdout


def test_doctor_says_which_uv_there_is(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    done = remoterun("doctor", "--json", data=tmp_path / "data")
    (found,) = [finding for finding in json.loads(done.stdout) if finding["what"] == "uv"]
    assert found["verdict"] == "ok"
    assert found["message"].startswith("uv ")
