"""Packages for the tests of environments: where the real ones come from, and some of our own that need no index."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

OFFLINE = {"UV_OFFLINE": "1"}

_BACKEND = """\
import os
import time
import zipfile

NAME, VERSION, CODE, GATE, BUILDS = {name!r}, {version!r}, {code!r}, {gate!r}, {builds!r}


def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open(BUILDS, "a") as file:
        file.write(str(os.getpid()) + "\\n")
    while GATE and not os.path.exists(GATE):
        time.sleep(0.01)
    name = NAME + "-" + VERSION + "-py3-none-any.whl"
    info = NAME + "-" + VERSION + ".dist-info/"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr(NAME + ".py", CODE)
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: " + VERSION + "\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def index_environment() -> dict[str, str]:
    """Give the variables by which uv finds the index that pip is configured to use, and trusts it."""
    found = {"UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "1")}
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys() and (url := _pip_index()):
        found["UV_DEFAULT_INDEX"] = url
    return found


def _pip_index() -> str:
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    said = subprocess.run(command, capture_output=True, text=True)
    return said.stdout.strip() if said.returncode == 0 else ""


@dataclass(frozen=True)
class Package:
    """The source of a package whose build waits until its gate is there, and is counted."""

    requirement: str
    gate: Path
    builds: Path

    def count(self) -> int:
        """Give how many builds have begun."""
        return len(self.pids())

    def pids(self) -> list[int]:
        """Give the processes that built it."""
        return list(map(int, self.builds.read_text().split())) if self.builds.exists() else []


def gated_package(folder: Path, name: str = "gated", code: str = "VALUE = 1\n") -> Package:
    """Write the source of a package that needs no index to be built."""
    source = folder / f"{name}-source"
    source.mkdir()
    package = Package(f"{name} @ file://{source}", folder / f"{name}-gate", folder / f"{name}-builds")
    (source / "pyproject.toml").write_text(
        textwrap.dedent(f"""\
            [project]
            name = "{name}"
            version = "1.0"
            [build-system]
            requires = []
            build-backend = "backend"
            backend-path = ["."]
            """)
    )
    text = _BACKEND.format(name=name, version="1.0", code=code, gate=str(package.gate), builds=str(package.builds))
    (source / "backend.py").write_text(text)
    return package


def write_wheel(folder: Path, name: str, version: str, code: str) -> Path:
    """Write a wheel with one module."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info/"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", code)
        wheel.writestr(f"{info}METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}RECORD", "")
    return path


def script(dependencies: list[str], code: str, **settings: str) -> str:
    """Write a script that asks for packages.

    Parameters:
        settings: of `[tool.remoterun]`, in TOML.
    """
    lines = ["/// script", f"dependencies = {dependencies!r}", "[tool.remoterun]"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    return "".join(f"# {line}\n" for line in [*lines, "///"]) + textwrap.dedent(code)
