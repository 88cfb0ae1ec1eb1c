"""The catalogue: found, described, kept up to date; a broken script harms no other."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remoterun.catalog import Catalog, Script, importing
from remoterun.config import Limits
from remoterun.errors import ConfigError, Invalid, NotFound

HELLO = 'def main(name: str, times: int = 1):\n    """Say hello."""\n    return {"hello": name}\n'
MODEL = "from _models import Order\n\ndef main(order: Order): ...\n"
ORDER = "from pydantic import BaseModel\n\nclass Order(BaseModel):\n    {}: int\n"
EXTRA = """\
from pydantic import BaseModel, Field
class A(BaseModel):
    x: int = Field(json_schema_extra={})
def main(a: A): ...
"""


class Folder:
    """A scripts folder and its node's data folder."""

    def __init__(self, root: Path) -> None:
        self.scripts = root / "scripts"
        self.scripts.mkdir()
        self.versions = root / "data" / "versions"

    def write(self, name: str, text: str) -> Path:
        path = self.scripts / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def catalog(self, **env: str) -> Catalog:
        return Catalog([self.scripts], self.versions, Limits(), env)

    @asynccontextmanager
    async def serving(self, **env: str) -> AsyncIterator[Catalog]:
        catalog = self.catalog(**env)
        await catalog.start()
        try:
            yield catalog
        finally:
            await catalog.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def broken(folder: Folder, text: str, name: str = "bad") -> str:
    """Give why a script with this text is broken, once a good one beside it was called."""
    folder.write(name, text)
    folder.write("hello", HELLO)
    async with folder.serving() as catalog:
        assert (await catalog.get("hello")).info.broken is None
        script = await catalog.get(name)
        assert script.program is None
        assert script.info.broken is not None
        return script.info.broken


async def change(catalog: Catalog, until: Callable[[], bool]) -> None:
    """Wait for the catalogue to notice something by itself."""
    noticed = asyncio.Event()
    catalog.on_change.append(noticed.set)
    try:
        while not until():
            await noticed.wait()
            noticed.clear()
    finally:
        catalog.on_change.remove(noticed.set)


async def test_a_function_script_is_described(folder: Folder) -> None:
    path = folder.write(
        "reports/daily",
        '''
        # /// script
        # [tool.remoterun]
        # isolation = "warm"
        # timeout = "30s"
        # concurrency = 2
        # retries = 1
        # preload = ["json"]
        # env = ["AWS_*"]
        # memory = "512MB"
        # ///
        """A module."""

        async def main(day: str, top: int = 10, *, tags: list[str] = ["a"], note=None):
            """Make the report.

            Args:
                day: which day,
                    as text
                top: how many
            """
        ''',
    )
    async with folder.serving(AWS_REGION="eu", HOME="/h") as catalog:
        script = await catalog.get("reports/daily")
        info = script.info
        assert (info.name, info.kind, info.description, info.broken) == (
            "reports/daily",
            "function",
            "Make the report.",
            None,
        )
        assert (info.isolation, info.timeout, info.concurrency, info.retries) == ("warm", 30, 2, 1)
        assert info.parameters == {
            "type": "object",
            "properties": {
                "day": {"type": "string", "description": "which day, as text"},
                "top": {"type": "integer", "description": "how many", "default": 10},
                "tags": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
                "note": {"default": None},
            },
            "required": ["day"],
            "additionalProperties": False,
        }
        program = script.program
        assert program is not None
        assert (program.path, program.entry, program.native) == (path, "main", True)
        assert program.source.read_bytes() == path.read_bytes()
        assert program.source.stem == program.version == info.version
        assert (program.preload, program.env, program.memory) == (("json",), {"AWS_REGION": "eu"}, 512_000_000)
        assert script.parameters is not None
        assert script.parameters.check({"day": "x", "top": "3"}).params == b'{"day":"x","top":3}'


@pytest.mark.parametrize(
    "doc",
    [
        "Do.\n\n    Parameters:\n        x: the x\n    ",
        "Do.\n\n    Parameters\n    ----------\n    x : int\n        the x\n    ",
        "Do.\n\n    :param x: the x\n    ",
    ],
)
async def test_docstrings_of_three_styles_describe_parameters(folder: Folder, doc: str) -> None:
    folder.write("a", f'def main(x: int):\n    """{doc}"""\n')
    async with folder.serving() as catalog:
        parameters = (await catalog.get("a")).info.parameters
        assert parameters is not None
        assert parameters["properties"] == {"x": {"type": "integer", "description": "the x"}}


async def test_the_modules_docstring_describes_parameters_where_main_has_none(folder: Folder) -> None:
    folder.write("a", '"""Do.\n\nArgs:\n    x: the x\n"""\n\n\ndef main(x: int): ...\n')
    async with folder.serving() as catalog:
        parameters = (await catalog.get("a")).info.parameters
        assert parameters is not None
        assert parameters["properties"] == {"x": {"type": "integer", "description": "the x"}}


@pytest.mark.parametrize(
    "text",
    [
        'print("hi")\n',
        "",
        "from elsewhere import main\n",
        "class A:\n    def main(self): ...\n",
        "# -*- coding: latin-1 -*-\nprint('\\d')\n",
        "\ufeffprint()\n",
    ],
)
async def test_a_file_without_main_is_a_plain_script(folder: Folder, text: str) -> None:
    folder.write("plain", text)
    async with folder.serving() as catalog:
        script = await catalog.get("plain")
        assert (script.info.kind, script.info.broken, script.parameters) == ("plain", None, None)
        assert script.program is not None
        assert script.program.entry is None


async def test_values_that_are_made_in_the_worker_preload_pydantic(folder: Folder) -> None:
    folder.write("a", "from datetime import date\ndef main(day: date): ...\n")
    async with folder.serving() as catalog:
        program = (await catalog.get("a")).program
        assert program is not None
        assert (program.native, program.preload) == (False, ("pydantic",))


async def test_a_default_of_a_secret_is_not_shown(folder: Folder) -> None:
    folder.write("a", "from pydantic import SecretStr\ndef main(token: SecretStr = 'canary'): ...\n")
    async with folder.serving() as catalog:
        assert "canary" not in repr((await catalog.get("a")).info)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print()\ndef main(:\n", "bad.py:2: it is no Python"),
        ("print('\0')\n", "bad.py: it is no Python"),
        ("# coding: no-such\n", "bad.py: it is no Python"),
        ("(" * 5000, "bad.py:1: it is no Python"),
        ("x = " + "-" * 200_000 + "1\n", "nested too deeply"),
        ("x = " + "+".join(["1"] * 200_000) + "\n", "nested too deeply"),
        ("#" * (2**20 + 1), "larger than 1 MiB"),
        ("def main(a, /): ...\n", "bad.py:1: main takes a by position only"),
        ("def main(*names): ...\n", "write names: list[str] instead"),
        ("# /// script\n# [tool.remoterun]\n# timeuot = 1\n# ///\n", "bad.py:3: [tool.remoterun] timeuot"),
        ('# /// script\n# [tool.remoterun]\n# isolation = "warm"\n# ///\n', 'bad.py:3: isolation "warm" needs'),
        ('# /// script\n# dependencies = ["no-such"]\n# ///\n', "bad.py: it needs an environment of its own, and none"),
        ("# /// script\n# a =\n# ///\n", "bad.py:2: the metadata block is no TOML"),
        ("import no_such\nfrom x import T\ndef main(a: T): ...\n", "importing it failed: ModuleNotFoundError"),
        ("class T: ...\n\nraise ValueError(3)\ndef main(a: T): ...\n", "bad.py:3: importing it failed: ValueError"),
        ("class T: ...\ndef main(a: T): ...\n", "T"),
        ("def main(a: Missing): ...\n", "NameError"),
        (EXTRA.format({"$ref": "http://127.0.0.1:1/x"}), "JSON Schema of its parameters is unusable"),
        (EXTRA.format({"minimum": "x"}), "JSON Schema of its parameters is unusable"),
        ("import sys\nsys.exit(3)\ndef main(a: T): ...\n", "bad.py:2: importing it failed: SystemExit: 3"),
        ("import os\nos._exit(7)\ndef main(a: T): ...\n", "ended the process (exit code 7)"),
        ("import os\nos.kill(os.getpid(), 9)\ndef main(a: T): ...\n", "ended the process (signal 9)"),
        ("def wrap(f): return 3\n@wrap\ndef main(): ...\n", "main is no function"),
        ("def wrap(f): return lambda *a: 3\n@wrap\ndef main(): ...\n", "by position only"),
        ("import typing\ndef main(a: typing.Callable[[], int]): ...\n", "the parameters of main cannot be described: "),
    ],
)  # fmt: skip
async def test_a_broken_script_says_why_and_harms_no_other(folder: Folder, text: str, reason: str) -> None:
    assert reason in await broken(folder, text)


async def test_an_import_that_hangs_is_broken(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "TIMEOUT", 0.3)
    assert "took longer than 0.3 s" in await broken(
        folder, "class T: ...\nimport time\ntime.sleep(60)\ndef main(a: T): ...\n"
    )


async def test_a_node_that_stops_ends_an_import(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "TIMEOUT", 1000.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = f"import os\nopen({str(pipe)!r}, 'w').write(str(os.getpid()))\nwhile True: pass\ndef main(a: T): ...\n"
    folder.write("a", text)
    async with folder.serving():
        pid = int(await asyncio.to_thread(pipe.read_text))  # it is being imported: a reader met the writer
    await asyncio.to_thread(wait_for_end, pid)


async def test_a_grandchild_does_not_outlive_the_import(folder: Folder, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    folder.write(
        "a",
        f"""
        import subprocess
        from typing import Callable
        class T(__import__("pydantic").BaseModel): ...
        child = subprocess.Popen(["sleep", "600"])
        open({str(pid)!r}, "w").write(str(child.pid))
        def main(a: T): ...
        """,
    )
    async with folder.serving() as catalog:
        assert (await catalog.get("a")).info.broken is None
    await asyncio.to_thread(wait_for_end, int(pid.read_text()))


def wait_for_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([descriptor], [], [])
    os.close(descriptor)


async def test_an_import_sees_a_clean_environment(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret")
    folder.write(
        "a",
        """
        # /// script
        # [tool.remoterun]
        # env = ["WANTED"]
        # ///
        import os
        from typing import Literal
        Names = Literal[tuple(sorted(os.environ))]
        def main(name: Names): ...
        """,
    )
    async with folder.serving(WANTED="yes", OTHER="no") as catalog:
        script = await catalog.get("a")
        assert script.info.parameters is not None
        seen = set(script.info.parameters["properties"]["name"]["enum"])
        assert "WANTED" in seen
        assert seen.isdisjoint({"CANARY", "OTHER"})


async def test_describing_leaves_nothing_in_the_scripts_folder(folder: Folder) -> None:
    folder.write("_models", ORDER.format("x"))
    folder.write("a", MODEL)
    before = sorted(folder.scripts.rglob("*"))
    async with folder.serving() as catalog:
        assert (await catalog.get("a")).info.broken is None
    assert sorted(folder.scripts.rglob("*")) == before


async def test_a_script_is_never_run_in_the_node(folder: Folder) -> None:
    folder.write(
        "a", "import os\nclass T(__import__('pydantic').BaseModel):\n    x: int = os.getpid()\ndef main(a: T): ...\n"
    )
    async with folder.serving() as catalog:
        info = (await catalog.get("a")).info
        assert info.parameters is not None
        assert info.parameters["$defs"]["T"]["properties"]["x"]["default"] != os.getpid()
    assert not any(name.startswith("_remoterun_script") for name in sys.modules)


async def test_a_folder_that_cannot_be_read_is_an_error_of_configuration(tmp_path: Path) -> None:
    catalog = Catalog([tmp_path / "missing"], tmp_path / "v", Limits(), {})
    with pytest.raises(ConfigError, match="mkdir -p"):
        await catalog.start()
    await catalog.stop()
    file = tmp_path / "file"
    file.write_text("")
    catalog = Catalog([file], tmp_path / "v", Limits(), {})
    with pytest.raises(ConfigError, match="cannot be read"):
        await catalog.start()
    await catalog.stop()


async def test_scripts_are_listed_by_name_and_glob(folder: Folder) -> None:
    for name in ("b", "a", "reports/x", "reports/deep/y"):
        folder.write(name, HELLO)
    folder.write("reports/bad", "def main(:")
    async with folder.serving() as catalog:
        assert [info.name for info in catalog.list()] == ["a", "b", "reports/bad", "reports/deep/y", "reports/x"]
        assert [info.name for info in catalog.list("reports/*")] == ["reports/bad", "reports/deep/y", "reports/x"]
        assert [info.name for info in catalog.list("?")] == ["a", "b"]
        assert catalog.list("A") == []


async def test_an_unknown_name_is_not_found_with_one_that_is_spelled_alike(folder: Folder) -> None:
    folder.write("hello", HELLO)
    async with folder.serving() as catalog:
        with pytest.raises(NotFound, match="do you mean hello"):
            await catalog.get("helo")
        assert catalog.peek("helo") is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=200)
    | st.sampled_from(["", ".", "/", "..", "../outside", "sub/../hello", "./hello", "//hello", "hello.py", "hello/"])
    | st.sampled_from(["Hello", "HELLO", "hello\0", "\0", "/etc/passwd", "_lib", "sub/_x", ".x", "sub", "~", "%2e%2e"])
)
def test_no_text_but_a_name_finds_anything(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    if name == "hello":
        return
    assert _lookup(tmp_path_factory, name) is None


def _lookup(tmp_path_factory: pytest.TempPathFactory, name: str) -> Script | None:
    root = tmp_path_factory.mktemp("names")
    (root / "outside.py").write_text(HELLO)
    folder = Folder(root)
    for known in ("hello", "_lib", "sub/_x", ".x"):
        folder.write(known, HELLO)

    async def look() -> Script | None:
        async with folder.serving() as catalog:
            assert (await catalog.get("hello")).info.name == "hello"
            assert catalog.peek(name) is None
            try:
                return await catalog.get(name)
            except NotFound:
                return None

    return asyncio.run(look())


async def test_a_call_after_saving_runs_the_new_text(folder: Folder) -> None:
    folder.write("a", HELLO)
    async with folder.serving() as catalog:
        for number in range(20):
            path = folder.write("a", f"def main(p{number % 10}: int): ...\n")  # of one size
            script = await catalog.get("a")
            assert script.program is not None
            assert script.program.source.read_bytes() == path.read_bytes()


async def test_a_call_after_adding_a_script_finds_it(folder: Folder) -> None:
    async with folder.serving() as catalog:
        with pytest.raises(NotFound):
            await catalog.get("new/one")
        folder.write("new/one", HELLO)
        assert (await catalog.get("new/one")).info.broken is None


async def test_a_call_after_removing_a_script_does_not_find_it(folder: Folder) -> None:
    path = folder.write("a", HELLO)
    async with folder.serving() as catalog:
        await catalog.get("a")
        path.unlink()
        with pytest.raises(NotFound):
            await catalog.get("a")


async def test_changes_are_noticed_without_a_call(folder: Folder) -> None:
    folder.write("a", HELLO)
    async with folder.serving() as catalog:
        folder.write("b", HELLO)
        await change(catalog, lambda: [info.name for info in catalog.list()] == ["a", "b"])
        folder.write("a", "def main(x: int):\n    'New.'\n")
        await change(catalog, lambda: catalog.list("a")[0].description == "New.")
        (folder.scripts / "b.py").unlink()
        await change(catalog, lambda: [info.name for info in catalog.list()] == ["a"])
        (folder.scripts / "a.py").chmod(0o666)
        await change(catalog, lambda: "chmod o-w" in (catalog.list("a")[0].broken or ""))


async def test_a_half_written_file_recovers_at_the_next_look(folder: Folder) -> None:
    folder.write("a", HELLO[:15])
    async with folder.serving() as catalog:
        assert (await catalog.get("a")).info.broken is not None
        folder.write("a", HELLO)
        assert (await catalog.get("a")).info.broken is None


async def test_concurrent_calls_import_a_script_once(folder: Folder, tmp_path: Path) -> None:
    log = tmp_path / "log"
    folder.write(
        "a",
        f"class T(__import__('pydantic').BaseModel): ...\nopen({str(log)!r}, 'a').write('x')\ndef main(a: T): ...\n",
    )
    async with folder.serving() as catalog:
        assert catalog.peek("a") is None
        scripts = await asyncio.gather(*(catalog.get("a") for _ in range(20)))
        assert {script.info.broken for script in scripts} == {None}
        assert catalog.peek("a") is not None
    assert log.read_text() == "x"
    async with folder.serving() as catalog:  # a restart knows it from its notes
        assert (await catalog.get("a")).info.kind == "function"
    assert log.read_text() == "x"


async def test_an_edit_of_an_imported_module_is_noticed(folder: Folder) -> None:
    helper = folder.write("_models", ORDER.format("x"))
    folder.write("a", MODEL)

    async def takes(catalog: Catalog, params: Any) -> bool:
        parameters = (await catalog.get("a")).parameters
        assert parameters is not None
        try:
            parameters.check(params)
        except Invalid:
            return False
        return True

    async with folder.serving() as catalog:
        assert await takes(catalog, {"order": {"x": 1}})
        helper.write_text(ORDER.format("why"))
        await change(catalog, lambda: "why" in repr(catalog.list("a")[0].parameters))
        assert await takes(catalog, {"order": {"why": 1}})
        assert not await takes(catalog, {"order": {"x": 1}})
    helper.write_text(ORDER.format("z"))
    async with folder.serving() as catalog:
        assert await takes(catalog, {"order": {"z": 1}})


async def test_a_fault_outside_of_the_file_may_pass(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remoterun.catalog.catalog._RETRY", 0.0)
    folder.write("a", MODEL)
    async with folder.serving() as catalog:
        assert "No module named '_models'" in ((await catalog.get("a")).info.broken or "")
        folder.write("_models", ORDER.format("x"))
        assert (await catalog.get("a")).info.broken is None


async def test_an_older_version_can_be_had_while_the_script_is_there(folder: Folder) -> None:
    path = folder.write("a", HELLO)
    async with folder.serving() as catalog:
        old = (await catalog.get("a")).info.version
        folder.write("a", "print()\n")
        new = await catalog.get("a")
        assert await catalog.get_version("a", new.info.version) is new
        script = await catalog.get_version("a", old)
        assert (script.info.version, script.info.kind) == (old, "function")
        assert script.program is not None
        assert script.program.source.read_text() == HELLO
        for gone in ("0" * 64, "", "../x", "\0"):
            with pytest.raises(NotFound, match="is gone"):
                await catalog.get_version("a", gone)
        path.unlink()
        with pytest.raises(NotFound):
            await catalog.get_version("a", old)


async def test_damaged_notes_are_made_again(folder: Folder) -> None:
    folder.write("a", HELLO)
    async with folder.serving() as catalog:
        info = (await catalog.get("a")).info
    for damage in (b"", b"{", b"{}", b"\xff", b'{"made_by": "x", "kind": "plain", "doc": ""}'):
        (folder.versions / f"{info.version}.json").write_bytes(damage)
        async with folder.serving() as catalog:
            assert (await catalog.get("a")).info == info


async def test_a_cancelled_call_leaves_the_catalogue_whole(folder: Folder) -> None:
    folder.write("a", "class T(__import__('pydantic').BaseModel): ...\ndef main(a: T): ...\n")
    async with folder.serving() as catalog:
        call = asyncio.create_task(catalog.get("a"))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await catalog.get("a")).info.broken is None


async def test_many_scripts_are_known_at_the_start(folder: Folder) -> None:
    for number in range(300):
        folder.write(f"group{number % 10}/s{number}", HELLO.replace("hello", f"hello {number}"))
    async with folder.serving() as catalog:
        assert len(catalog.list()) == 300
        assert all(info.kind == "function" and info.parameters for info in catalog.list())
