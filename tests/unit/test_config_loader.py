from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from remoterun.config import Limits, Loaded, NodeSettings, load, reference
from remoterun.errors import ConfigError
from remoterun.quantities import Duration, Size
from remoterun.settings import script_reference, walk
from remoterun.transport import PATH


class Wire(Struct, frozen=True, forbid_unknown_fields=True):
    enabled: Annotated[bool, Meta(description="Whether it listens.")] = True
    listen: Annotated[tuple[str, ...], Meta(description="Addresses | ports.")] = ("127.0.0.1:1",)
    key_file: Annotated[str, Meta(description="PEM file.", extra=PATH)] = ""
    retries: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="How often.")] = None

    def __post_init__(self) -> None:
        if self.enabled and not self.listen:
            raise ValueError("listen is empty; name an address, or say enabled = false")


def loaded(
    text: str | None = None,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    file = None
    if text is not None:
        assert folder is not None
        file = folder / "remoterun.toml"
        file.write_text(text)
    return load(flags=flags or {}, env=env or {}, file=file, sections={"wire": Wire})


def test_with_nothing_at_all_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = loaded()
    assert config.node.scripts == (str(tmp_path / "scripts"),)
    assert config.node.data == str(tmp_path / ".remoterun")
    assert config.node.limits == Limits()
    assert config.sections == {"wire": Wire()}
    assert config.sources == {}
    assert config.file is None


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    text = "workers = 1\nqueue = 1\ngrace = '1s'\n"
    env = {"REMOTERUN_QUEUE": "2", "REMOTERUN_GRACE": "2s"}
    config = loaded(text, tmp_path, env, {"grace": "3s", "name": None})
    assert (config.node.workers, config.node.queue, config.node.grace) == (1, 2, 3.0)
    assert config.sources == {
        "workers": f"{tmp_path}/remoterun.toml, line 1",
        "queue": "REMOTERUN_QUEUE",
        "grace": "--grace",
    }


def test_every_kind_of_value_can_come_from_a_file(tmp_path: Path) -> None:
    config = loaded(
        """
        scripts = ["jobs", "/srv/jobs"]
        insecure_listen = true
        [limits]
        output = "1KiB"
        timeout = 1.5
        memory = 1024
        [retention]
        age = "2w"
        [wire]
        key_file = "tls/key.pem"
        retries = 3
        [principals.publisher]
        scopes = ["run:reports/*", "read"]
        """,
        tmp_path,
    )
    assert config.node.scripts == (str(tmp_path / "jobs"), "/srv/jobs")
    assert config.node.insecure_listen is True
    assert config.node.limits.output == Size(1024)
    assert config.node.limits.timeout == Duration(1.5)
    assert config.node.limits.memory == 1024
    assert config.node.retention.age == Duration(14 * 86400)
    assert config.sections["wire"] == Wire(key_file=str(tmp_path / "tls/key.pem"), retries=3)
    assert config.node.principals["publisher"].scopes == ("run:reports/*", "read")


def test_every_kind_of_value_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = loaded(
        env={
            "REMOTERUN_WORKERS": "4",
            "REMOTERUN_INSECURE_LISTEN": "true",
            "REMOTERUN_LIMITS_OUTPUT": "1MB",
            "REMOTERUN_WIRE_LISTEN": "127.0.0.1:2, 127.0.0.1:3",
            "REMOTERUN_WIRE_ENABLED": "0",
            "REMOTERUN_WIRE_KEY_FILE": "key.pem",
            "REMOTERUN_NAME": "007",
        }
    )
    assert (config.node.workers, config.node.insecure_listen, config.node.name) == (4, True, "007")
    assert config.node.limits.output == 10**6
    assert config.sections["wire"] == Wire(
        listen=("127.0.0.1:2", "127.0.0.1:3"), enabled=False, key_file=str(tmp_path / "key.pem")
    )


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert loaded(flags={"data": "~/data"}).node.data == "/home/ada/data"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("workers = 'two'", 1, "workers: Expected `int`, got `str`"),
        ("\n\nworkers = -1", 3, "workers: Expected `int` >= 0"),
        ("workers = true", 1, "workers: Expected `int`, got `bool`"),
        ("workers = 2.5", 1, "workers: Expected `int`, got `float`"),
        ("# hello\ngrace = 'soon'", 2, "grace: 'soon' is no duration"),
        ("grace = true", 1, "grace: Expected duration, got `bool`"),
        ("[limits]\noutput = '3 potatoes'", 2, "limits.output: '3 potatoes' is no size"),
        ("[limits]\noutput = 1.5", 2, "limits.output: Expected a size"),
        ("limits.output = []", 1, "limits.output: Expected size, got `list`"),
        ("limits = { output = 'x' }", 1, "limits.output: 'x' is no size"),
        ("limits = 3", 1, "there is no setting limits"),
        ("workrs = 3", 1, "there is no setting workrs; did you mean workers?"),
        ("[limits]\noutptu = 3", 2, "there is no setting limits.outptu; did you mean limits.output?"),
        ("[wrie]\nlisten = []", 1, "there is no setting wrie"),
        ("\noutput = '1MB'", 2, "there is no setting output; did you mean limits.output?"),
        ('scripts = "jobs"', 1, "scripts: Expected `array`, got `str`"),
        ("scripts = [1]", 1, "scripts: Expected `str`, got `int` - at `$[0]`"),
        ("[principals.me]\nscope = ['read']", 1, "principals: Object contains unknown field `scope`"),
        ('"workers" = "x"', 1, "workers: Expected `int`"),
        ("[wire]\nlisten = []", 2, "wire: listen is empty; name an address"),
    ],
)
def test_a_bad_value_is_named_with_file_line_and_setting(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(text, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/remoterun.toml, line {line}: {words}"), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "where"),
    [("workers = 1\nqueue == 2", ", line 2, column 8: "), ("scripts = [", ", at its end: "), ("a = 1\na = 2", ", ")],
)
def test_a_syntax_error_names_its_line(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(text, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/remoterun.toml{where}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        load(flags={}, env={}, file=tmp_path / "none.toml", sections={})
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"bytes\.toml is no UTF-8 text"):
        load(flags={}, env={}, file=tmp_path / "bytes.toml", sections={})


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"REMOTERUN_WORKERS": "two"}, "REMOTERUN_WORKERS: Expected `int`, got `str`"),
        ({"REMOTERUN_INSECURE_LISTEN": "maybe"}, "REMOTERUN_INSECURE_LISTEN: Expected `bool`"),
        ({"REMOTERUN_WORKRS": "2"}, "REMOTERUN_WORKRS: there is no such setting; did you mean REMOTERUN_WORKERS?"),
        ({"REMOTERUN_WIRE_LISTEN": ""}, "REMOTERUN_WIRE_LISTEN: wire: listen is empty"),
    ],
)
def test_a_bad_variable_is_named(env: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(env=env)
    assert str(caught.value).startswith(words)


def test_variables_that_are_not_ours_are_left_alone() -> None:
    env = {"REMOTERUN_URL": "tcp://x", "REMOTERUN_TOKEN": "t", "REMOTERUN_SERVICE_HOST": "10.0.0.1",
           "REMOTERUN_PORT_7461_TCP": "tcp://10.0.0.1:7461", "PATH": "/bin"}  # fmt: skip
    assert loaded(env=env).sources == {}


def test_a_bad_flag_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--cancel-grace: 'x' is no duration"):
        loaded(flags={"cancel_grace": "x"})
    with pytest.raises(ConfigError, match=r"^--wokers: there is no setting wokers; did you mean workers\?"):
        loaded(flags={"wokers": 1})


def test_the_reference_has_every_setting_with_its_variable() -> None:
    table = reference({"wire": Wire})
    rows = table.splitlines()
    assert "| `workers` | number | `0` | `REMOTERUN_WORKERS` | Jobs at once; 0: twice the cores. |" in rows
    assert "| `wire.listen` | list of texts | `127.0.0.1:1` | `REMOTERUN_WIRE_LISTEN` | Addresses \\| ports. |" in rows
    assert any(row.startswith("| `retention.age` | duration | `30d` | `REMOTERUN_RETENTION_AGE` |") for row in rows)
    assert any(row.startswith("| `limits.output` | size | `16MiB` | `REMOTERUN_LIMITS_OUTPUT` |") for row in rows)
    assert any(row.startswith("| `retention.bytes` | size | `10GB` |") for row in rows)
    assert any(row.startswith("| `principals` | table |  |  |") for row in rows)
    assert len(rows) == 2 + len([*walk(NodeSettings)]) + len([*walk(Wire)])


def test_every_setting_says_what_it_means() -> None:
    assert [setting.name for setting in walk(NodeSettings) if not setting.description] == ["principals"]


def test_defaults_as_written_read_as_the_same_defaults() -> None:
    scalars = [setting for setting in walk(NodeSettings) if setting.is_scalar and setting.default_text]
    env = {setting.variable: setting.default_text for setting in scalars}
    config = load(flags={}, env=env, file=None, sections={})
    assert config.node == load(flags={}, env={}, file=None, sections={}).node
    assert len(config.sources) == len(scalars)


def test_a_script_has_a_reference_of_its_own() -> None:
    rows = script_reference(Wire).splitlines()
    assert "| `enabled` | true or false | `true` | Whether it listens. |" in rows
    assert "| `retries` | number |  | How often. |" in rows


def test_loading_leaves_the_process_alone(tmp_path: Path) -> None:
    before = dict(os.environ), Path.cwd()
    loaded("workers = 1", tmp_path)
    assert (dict(os.environ), Path.cwd()) == before
