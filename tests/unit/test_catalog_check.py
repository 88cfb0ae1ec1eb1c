"""`remoterun check` and `remoterun new`: what an author is told, and where an author starts."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from remoterun.catalog import Catalog
from remoterun.catalog.check import Finding, check
from remoterun.catalog.new import create
from remoterun.config import Limits
from remoterun.errors import ConfigError


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return os.path.realpath(path)


async def test_good_scripts_give_no_findings(tmp_path: Path) -> None:
    write(tmp_path / "plain.py", "print()\n")
    write(tmp_path / "hello.py", 'def main(name: str):\n    """Say hello."""\n')
    write(tmp_path / "model.py", 'import pydantic\nclass A(pydantic.BaseModel): ...\ndef main(a: A):\n    """Do."""\n')
    assert await check([tmp_path]) == []


async def test_findings_name_file_line_and_what_to_do(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.py", "x = 1\ndef main(:\n")
    advice = write(
        tmp_path / "reports" / "advice.py",
        """
        # /// script
        # [tool.remoterun]
        # retires = 1

        from pydantic import Field

        def main(
            name,
            times: int = Field(3, ge=1),
        ): ...
        """,
    )
    setting = write(tmp_path / "setting.py", "# /// script\n# [tool.remoterun]\n# retires = 1\n# ///\n")
    findings = await check([tmp_path])
    assert [(f.file, f.line, f.severity) for f in findings] == [
        (bad, 2, "error"),
        (advice, 2, "warning"),
        (advice, 8, "warning"),
        (advice, 9, "warning"),
        (advice, 10, "warning"),
        (setting, 3, "error"),
    ]
    messages = [finding.message for finding in findings]
    assert "is no Python" in messages[0]
    assert "nothing closes this metadata block" in messages[1]
    assert "no docstring" in messages[2]
    assert "write name: str" in messages[3]
    assert "Annotated" in messages[4]
    assert "do you mean retries" in messages[5]


async def test_a_script_that_another_folder_hides_is_a_warning(tmp_path: Path) -> None:
    first = write(tmp_path / "1" / "a.py", "print()\n")
    second = write(tmp_path / "2" / "a.py", "def main(:\n")
    findings = await check([tmp_path / "1", tmp_path / "2"])
    assert findings == [
        Finding(second, 1, "warning", f"it cannot be called: {first} has the same name and comes first")
    ]


async def test_a_variable_that_is_never_passed_on_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "a.py", '# /// script\n# [tool.remoterun]\n# env = ["REMOTERUN_TOKEN"]\n# ///\n')
    assert [finding.severity for finding in await check([tmp_path])] == ["warning"]


async def test_checking_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mkdir"):
        await check([tmp_path / "missing"])


@pytest.mark.parametrize("name", ["hello", "reports/daily", "a-b_c/D1"])
async def test_a_new_script_works(tmp_path: Path, name: str) -> None:
    scripts = tmp_path / "scripts"
    path = create(scripts, name)
    assert path == scripts / f"{name}.py"
    assert await check([scripts]) == []
    catalog = Catalog([scripts], tmp_path / "versions", Limits(), {})
    await catalog.start()
    try:
        script = await catalog.get(name)
        assert script.parameters is not None
        assert script.parameters.check({"name": "Ada", "times": "2"}).params == b'{"name":"Ada","times":2}'
        assert script.info.parameters is not None
        assert script.info.parameters["properties"]["name"]["description"] == "who is greeted."
    finally:
        await catalog.stop()


def test_a_new_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTERUN_ARTIFACTS", str(tmp_path / "left"))
    scope: dict[str, object] = {"__name__": "script"}
    exec(compile(create(tmp_path, "a").read_text(), "a.py", "exec"), scope)
    main = scope["main"]
    assert callable(main)
    assert main("Ada", 2) == {"greeting": "hello Ada, hello Ada"}
    assert (tmp_path / "left" / "greetings.txt").read_text() == "hello Ada\nhello Ada"


@pytest.mark.parametrize(
    "name", ["", "../x", "/x", "a//b", "_a", ".a", "a/_b", "a.py", "a b", "a\0", "1a", "a/", "ä", "x*"]
)
def test_a_bad_name_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a script"):
        create(tmp_path / "scripts", name)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        create(tmp_path, "a")
    assert (tmp_path / "a.py").read_text() == "mine"


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        create(tmp_path / "file", "reports/a")
