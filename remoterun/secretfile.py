"""The secrets file: values that scripts may ask for by `env`, and that are in nobody's environment but theirs."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path

from remoterun.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load_secrets(path: str) -> Mapping[str, str]:
    """Read a secrets file: TOML, each line a variable's name and a text. No message repeats a value.

    Parameters:
        path: of the file; empty: there is none.

    Raises:
        ConfigError: it cannot be read, others can read it, or it holds something else.
    """
    if not path:
        return {}
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # a pipe holds nobody up
            _check_private(path, os.fstat(file.fileno()))
            table = tomllib.loads(file.read().decode())
    except OSError as error:
        raise ConfigError(f"the secrets file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"the secrets file {path} is no UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at (.*)\)$", str(error))
        raise ConfigError(f"the secrets file {path} is no TOML{f', at {where[1]}' if where else ''}") from None
    for name, value in table.items():
        _check_secret(path, name, value)
    return table


def _check_private(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"the secrets file {path} is no regular file")
    if stat.S_IMODE(status.st_mode) & (0o037 if _is_credential(path) else 0o077):
        raise ConfigError(f"the secrets file {path} can be read or written by others: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"the secrets file {path} belongs to somebody else: chown it to the node's user")


def _is_credential(path: str) -> bool:
    """Tell whether systemd gave the file to this unit alone: it does so by an access list, which looks like a group."""
    return str(Path(path).parent) == os.environ.get("CREDENTIALS_DIRECTORY")


def _check_secret(path: str, name: str, value: object) -> None:
    if not _NAME.fullmatch(name) or name.startswith("REMOTERUN_"):
        raise ConfigError(f"the secrets file {path}: {name!r} is no name for a variable that a script may see")
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f'the secrets file {path}: {name} is no text; write {name} = "…"')
