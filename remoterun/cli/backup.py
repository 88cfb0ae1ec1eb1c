"""`remoterun backup`: have a node copy its data while it runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from remoterun.cli.session import node_session, wants_json
from remoterun.messages import encode


def backup_options(parser: ArgumentParser) -> None:
    """Add the options of `backup`: there are none of its own."""
    parser.epilog = (
        "It is made in the folder that [backup] folder says (by default backups in the data folder), on the node's\n"
        "machine; its path is printed. It is a data folder: start a node on a copy of it, serve --data COPY."
    )


def backup(options: Namespace) -> int:
    """Have a backup made, and print where it is."""
    with node_session(options) as session:
        made = session.backup()
    print(encode(made).decode() if wants_json(options) else made.path)
    return 0
