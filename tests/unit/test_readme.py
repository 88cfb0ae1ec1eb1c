"""The README says what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from remoterun.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_settings_are_those_of_the_code() -> None:
    tool = load_tool("reference")
    for path, table in tool.tables().items():
        assert tool.with_table(path, table) == path.read_text(encoding="utf-8"), "run `make reference`"


def test_every_command_that_it_names_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\$ remoterun ([a-z]+)", readme))
    assert {"run", "submit", "token"} <= named
    assert named <= set(COMMANDS)
