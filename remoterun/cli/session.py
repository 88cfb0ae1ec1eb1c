"""From the options of a command line to a session with a node."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remoterun.client import open_session
from remoterun.errors import Unavailable
from remoterun.local import data_folder, find_credential, local_url, read_token
from remoterun.service import Session
from remoterun.transport import Target


@contextmanager
def node_session(options: Namespace) -> Iterator[Session]:
    """Open a session with the node that the options name, and close it at the end.

    Raises:
        ServiceError: the node cannot be reached, or refuses the credential.
        ConfigError: a token file or the configuration cannot be read.
    """
    data = local_data(options)
    named = getattr(options, "on", None) or os.environ.get("REMOTERUN_URL")
    url = named or local_url(data)
    token_file = getattr(options, "token_file", None)
    token = read_token(Path(token_file)) if token_file else None
    target = Target(url, ca_file=getattr(options, "ca_file", None))
    try:
        service, session = open_session(target, find_credential(url, token, os.environ, data))
    except Unavailable as error:
        if named:
            raise
        raise Unavailable(
            f"no node answers in {data}: start one with `remoterun serve`, or name another with --on URL"
        ) from error
    try:
        yield session
    finally:
        session.close()
        service.close()


def local_data(options: Namespace) -> Path:
    """Give the data folder of the local node."""
    return data_folder(os.environ, getattr(options, "data", None), getattr(options, "config", None))


def wants_json(options: Namespace) -> bool:
    """Whether `--json` was given."""
    return getattr(options, "json", False)
