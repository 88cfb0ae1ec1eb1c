"""`remoterun serve`: start a node. Its flags are made from the definitions of the settings."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from remoterun.config import Loaded, NodeSettings, load
from remoterun.local import CONFIG_NAME
from remoterun.settings import Setting, walk

_COMMON = {"data"}  # an option of every command


def serve_options(parser: ArgumentParser) -> None:
    """Add the options of `serve`."""
    parser.add_argument("scripts", nargs="*", metavar="SCRIPTS", help="folders of scripts (scripts)")
    parser.add_argument("--ready-file", metavar="PATH", help="write the addresses taken there, once all answer")
    group = parser.add_argument_group("settings", "defaults in brackets; also in remoterun.toml and REMOTERUN_*")
    for setting in _flags():
        _add_flag(group, setting)


def serve(options: Namespace) -> int:
    """Run a node until it is stopped."""
    from remoterun.node import serve as run_node

    given = {name.removeprefix("set:"): value for name, value in vars(options).items() if name.startswith("set:")}
    if options.scripts:
        given["scripts"] = options.scripts
    ready = None if options.ready_file is None else Path(options.ready_file)
    return run_node(load_settings(options, given), ready_file=ready)


def load_settings(options: Namespace, flags: Mapping[str, Any]) -> Loaded:
    """Load the configuration that the options of a command line name.

    Raises:
        ConfigError: it is broken.
    """
    data = getattr(options, "data", None)
    return load(
        flags={**flags, **({} if data is None else {"data": data})},
        env=os.environ,
        file=config_file(options),
        sections=transport_settings(),
    )


def config_file(options: Namespace) -> Path | None:
    """Give the configuration file: the one named, else `remoterun.toml` here if there is one."""
    named = getattr(options, "config", None) or os.environ.get("REMOTERUN_CONFIG")
    if named:
        return Path(named)
    here = Path(CONFIG_NAME)
    return here if here.exists() else None


def _flags() -> list[Setting]:
    own = [setting for setting in walk(NodeSettings) if setting.is_scalar and setting.name not in _COMMON]
    for name, definition in transport_settings().items():
        own += [setting for setting in walk(definition, f"{name}.") if setting.has_flag]
    return own


def transport_settings() -> dict[str, type[Struct]]:
    """Give the definition of each installed transport's section, by its name."""
    from remoterun.transport import installed

    return {transport.name: transport.settings for transport in installed().values()}


def _add_flag(group: Any, setting: Setting) -> None:
    flag = "--" + setting.name.replace(".", "-").replace("_", "-")
    about = f"{setting.description} [{setting.default_text}]".replace("%", "%%")
    if setting.kind == "true or false":
        group.add_argument(flag, dest=f"set:{setting.name}", action="store_true", default=None, help=about)
    else:
        metavar = setting.kind.replace(" ", "") if "|" in setting.kind else setting.kind.upper()
        group.add_argument(flag, dest=f"set:{setting.name}", metavar=metavar, help=about)
