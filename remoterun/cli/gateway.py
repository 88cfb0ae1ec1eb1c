"""`remoterun gateway`: transports in front of a node elsewhere."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from remoterun.cli.serve import load_settings
from remoterun.local import data_folder, local_url


def gateway_options(parser: ArgumentParser) -> None:
    """Add the options of `gateway`."""
    parser.add_argument("--to", metavar="URL", help="the node (REMOTERUN_URL, else the local node's Unix socket)")
    parser.add_argument(
        "--transport", metavar="NAME", action="append", help="which to serve; again for further ones (http)"
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", action="append", help="its address, in place of the one in its section"
    )
    parser.add_argument("--ready-file", metavar="PATH", help="write the addresses taken there, once all answer")


def gateway(options: Namespace) -> int:
    """Run a gateway until it is stopped."""
    from remoterun.gateway import serve
    from remoterun.transport import Target

    names = options.transport or ["http"]
    flags = {f"{names[0]}.listen": options.listen} if options.listen else {}
    loaded = load_settings(options, flags)
    data = data_folder(os.environ, getattr(options, "data", None), getattr(options, "config", None))
    url = options.to or getattr(options, "on", None) or os.environ.get("REMOTERUN_URL") or local_url(data)
    ready = None if options.ready_file is None else Path(options.ready_file)
    return serve(loaded, Target(url, ca_file=getattr(options, "ca_file", None)), names, ready)
