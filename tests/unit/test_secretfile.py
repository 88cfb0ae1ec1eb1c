"""The secrets file: only for its owner, texts by names, and no message repeats a value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remoterun.catalog.settings import ScriptSettings, select_environment
from remoterun.errors import ConfigError
from remoterun.secretfile import load_secrets

VALUE = "correct-horse"


def written(folder: Path, text: str | bytes, mode: int = 0o600) -> str:
    path = folder / "secrets.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return str(path)


def test_no_file_holds_nothing() -> None:
    assert load_secrets("") == {}


def test_names_have_texts(tmp_path: Path) -> None:
    text = f'API_KEY = "{VALUE}"\n# a comment\nEMPTY = ""\nLINES = """a\nb"""\n'
    assert load_secrets(written(tmp_path, text)) == {"API_KEY": VALUE, "EMPTY": "", "LINES": "a\nb"}


@pytest.mark.parametrize(
    "text",
    [
        f"API_KEY = {VALUE}",
        f'API_KEY = "{VALUE}',
        f'API_KEY = ["{VALUE}"]',
        f'[section]\nAPI_KEY = "{VALUE}"',
        f'"no name" = "{VALUE}"',
        f'REMOTERUN_TOKEN = "{VALUE}"',
        f'API_KEY = "{VALUE}\\u0000"',
        f'API_KEY = "{VALUE}"\nAPI_KEY = "{VALUE}"',
        f'API_KEY = "{VALUE}"'.encode() + b"\xff",
        "NUMBER = 3",
    ],
)
def test_what_is_no_secrets_file_is_refused_without_its_values(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        load_secrets(written(tmp_path, text))
    assert VALUE not in str(caught.value)
    assert "secrets.toml" in str(caught.value)
    shown = caught.value.__cause__ or (None if caught.value.__suppress_context__ else caught.value.__context__)
    assert VALUE not in str(shown), "a traceback in the log would tell it"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_file_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        load_secrets(written(tmp_path, f'API_KEY = "{VALUE}"', mode))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError):
            load_secrets(str(path))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ConfigError, match="no regular file"):
        load_secrets(str(tmp_path / "fifo"))


def test_only_who_names_a_secret_gets_it() -> None:
    node_env, secrets = {"API_URL": "u", "API_KEY": "from the environment"}, {"API_KEY": VALUE, "OTHER": "o"}

    def seen(*env: str) -> dict[str, str]:
        return select_environment(ScriptSettings(env=env), node_env, secrets)

    assert seen() == {}
    assert seen("API_KEY") == {"API_KEY": VALUE}
    assert seen("API_*") == node_env
    assert seen("*") == node_env
    assert seen("OTHER", "NONE") == {"OTHER": "o"}
