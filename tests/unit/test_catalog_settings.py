"""`[tool.remoterun]`: every setting, its default, and what is said of a bad one."""

from __future__ import annotations

import msgspec
import pytest

from remoterun.catalog import ScriptSettings
from remoterun.catalog.defect import Defect
from remoterun.catalog.metadata import Metadata, parse
from remoterun.catalog.settings import load, select_environment
from remoterun.config import Limits
from remoterun.quantities import Duration, Size


def metadata(*lines: str, section: str = "[tool.remoterun]") -> Metadata:
    return parse("\n".join(["# /// script", *(f"# {line}" for line in (section, *lines)), "# ///", ""]))


def test_without_a_block_everything_is_as_the_node_says() -> None:
    limits = Limits(timeout=Duration(7), memory=Size(1000), processes=3, files=20, file_size=Size(9))
    assert load(Metadata(), limits) == ScriptSettings(
        timeout=Duration(7), memory=Size(1000), processes=3, files=20, file_size=Size(9)
    )


def test_every_setting_can_be_set() -> None:
    settings = load(
        metadata(
            'isolation = "warm"',
            'timeout = "1h30m"',
            "concurrency = 4",
            'memory = "512MB"',
            "processes = 8",
            "files = 64",
            'file_size = "1GiB"',
            "retries = 2",
            'retry_on = ["lost"]',
            "retry_delay = 0.5",
            'preload = ["PIL.Image"]',
            'env = ["AWS_REGION", "PG*"]',
            'description = "Make a thumbnail"',
        ),
        Limits(),
    )
    assert settings == ScriptSettings(
        isolation="warm",
        timeout=Duration(5400),
        concurrency=4,
        memory=Size(512_000_000),
        processes=8,
        files=64,
        file_size=Size(2**30),
        retries=2,
        retry_on=("lost",),
        retry_delay=Duration(0.5),
        preload=("PIL.Image",),
        env=("AWS_REGION", "PG*"),
        description="Make a thumbnail",
    )


def test_every_setting_is_described() -> None:
    for field in msgspec.structs.fields(ScriptSettings):
        info = msgspec.inspect.type_info(field.type)
        assert isinstance(info, msgspec.inspect.Metadata), field.name
        assert (info.extra_json_schema or {}).get("description"), field.name


@pytest.mark.parametrize(
    "line",
    [
        'isolation = "thread"',
        'timeout = "soon"',
        "timeout = true",
        "timeout = -1",
        "timeout = nan",
        "timeout = []",
        "concurrency = -1",
        "concurrency = 1.5",
        'memory = "lots"',
        "memory = 1.5",
        "memory = -1",
        "processes = 0",
        "files = 3",
        "retries = -1",
        'retries = "2"',
        'retry_on = ["succeeded"]',
        'retry_on = "failed"',
        'preload = ["os; evil()"]',
        'preload = [""]',
        'env = ["A=B"]',
        'env = ["*A"]',
        "description = 3",
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_line(line: str) -> None:
    with pytest.raises(Defect) as caught:
        load(metadata(line), Limits())
    assert caught.value.message.startswith(f"[tool.remoterun] {line.partition(' ')[0]}: ")
    assert caught.value.line == 3


def test_an_unknown_setting_is_refused_with_one_that_is_spelled_alike() -> None:
    with pytest.raises(Defect, match=r"timeuot: there is no such setting; do you mean timeout\?") as caught:
        load(metadata("retries = 1", "timeuot = 3"), Limits())
    assert caught.value.line == 4


def test_every_bad_setting_is_named() -> None:
    with pytest.raises(Defect, match=r"retries: .*; .*files: .*; .*xyz: there is no such"):
        load(metadata("retries = -1", "files = 1", "xyz = 1"), Limits())


@pytest.mark.parametrize("section", ["tool.remoterun = 3", "tool = {remoterun = []}"])
def test_settings_must_be_a_table(section: str) -> None:
    with pytest.raises(Defect, match="must be a table"):
        load(metadata(section=section), Limits())


def test_a_tool_that_is_no_table_is_nobodys() -> None:
    assert load(metadata(section="tool = 3"), Limits()) == ScriptSettings()


def test_a_script_sees_the_variables_that_it_names_and_no_others() -> None:
    settings = ScriptSettings(env=("AWS_*", "HOME", "MISSING", "REMOTERUN_*", "REMOTERUN_TOKEN"))
    node = {"AWS_REGION": "eu", "AWS_KEY": "k", "HOME": "/h", "PATH": "/bin", "REMOTERUN_TOKEN": "rr_x"}
    assert select_environment(settings, node) == {"AWS_REGION": "eu", "AWS_KEY": "k", "HOME": "/h"}
    assert select_environment(ScriptSettings(env=("*",)), node).keys() == {"AWS_REGION", "AWS_KEY", "HOME", "PATH"}
    assert select_environment(ScriptSettings(), node) == {}
