"""The local node: where it listens, and how its owner is known to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from remoterun.errors import ConfigError
from remoterun.service import Credential, Peer, Token

SOCKET_NAME = "remoterun.sock"
TOKEN_NAME = "token"
CONFIG_NAME = "remoterun.toml"

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


def data_folder(env: Mapping[str, str], data: str | None = None, config: str | None = None) -> Path:
    """Give the data folder of the local node, as `serve` would find it.

    Parameters:
        env: the environment; REMOTERUN_DATA and REMOTERUN_CONFIG count.
        data: the folder, where the caller named it.
        config: the configuration file, where the caller named it.

    Raises:
        ConfigError: the configuration file cannot be read.
    """
    named = data or env.get("REMOTERUN_DATA")
    if named:
        return Path(named).absolute()
    file = Path(config or env.get("REMOTERUN_CONFIG") or CONFIG_NAME)
    if config or file.exists():
        import tomllib

        try:
            setting = tomllib.loads(file.read_text()).get("data", ".remoterun")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        return (file.absolute().parent / str(setting)).absolute()
    return Path(".remoterun").absolute()


def local_url(data: Path) -> str:
    """Give the URL of the Unix socket in a data folder."""
    return f"unix://{data / SOCKET_NAME}"


def read_token(file: Path) -> str:
    """Read a token from a file.

    Raises:
        ConfigError: there is none to read; the text names the file.
    """
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"the token file {file} cannot be read: {reason}") from error
    if not token:
        raise ConfigError(f"the token file {file} is empty")
    return token


def find_credential(url: str, token: str | None, env: Mapping[str, str], data: Path) -> Credential:
    """Give what proves the caller to the node at a URL: a token, or the owner of this process on a Unix socket."""
    token = token or env.get("REMOTERUN_TOKEN")
    if token:
        return Token(token)
    if url.startswith("unix:"):
        return Peer(os.getuid(), os.getgid(), os.getpid())
    if _is_loopback(url):
        try:
            return Token(read_token(data / TOKEN_NAME))
        except ConfigError:
            pass
    return Token("")  # the node's refusal is the one text about this on every wire


def _is_loopback(url: str) -> bool:
    authority = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    host = authority if authority.endswith("]") else authority.rpartition(":")[0] or authority
    return host in _LOOPBACK
