"""The settings of a script, `[tool.remoterun]` in its metadata block: each defined once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from remoterun.catalog.defect import Defect
from remoterun.catalog.metadata import Metadata
from remoterun.config import Limits
from remoterun.quantities import Duration, Size

_DEFAULTS = Limits()
_MODULE = r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"
_VARIABLE = r"^([A-Za-z_][A-Za-z0-9_]*\*?|\*)$"


class ScriptSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of one script. What it leaves out is as the node's limits say."""

    isolation: Annotated[
        Literal["spawn", "fork", "warm"],
        Meta(
            description="spawn: a fresh interpreter for each call; fork: a fresh process, forked from one that has "
            "the imports loaded; warm: a process that has run main before."
        ),
    ] = "fork"
    timeout: Annotated[Duration, Meta(description="How long a job may run; 0: no limit.")] = _DEFAULTS.timeout
    concurrency: Annotated[
        int, Meta(ge=0, description="Jobs of this script at once, on one node; 0: as many as the node has workers.")
    ] = 0
    memory: Annotated[Size, Meta(description="Memory of a job's processes together; 0: no limit.")] = _DEFAULTS.memory
    processes: Annotated[int, Meta(ge=1, description="Processes and threads of one job.")] = _DEFAULTS.processes
    files: Annotated[int, Meta(ge=16, description="Open files of one process of a job.")] = _DEFAULTS.files
    file_size: Annotated[Size, Meta(description="Largest file that a job may write; 0: no limit.")] = (
        _DEFAULTS.file_size
    )
    retries: Annotated[int, Meta(ge=0, description="How often a job that did not succeed starts again.")] = 0
    retry_on: Annotated[
        tuple[Literal["failed", "timed_out", "lost"], ...],
        Meta(description="Which ends of a job make it start again: failed, timed_out, lost."),
    ] = ("failed", "timed_out")
    retry_delay: Annotated[
        Duration, Meta(description="Wait before the first retry; it doubles with each further one.")
    ] = Duration(1)
    preload: Annotated[
        tuple[Annotated[str, Meta(pattern=_MODULE)], ...],
        Meta(description="Modules imported once, in the fork server."),
    ] = ()
    env: Annotated[
        tuple[Annotated[str, Meta(pattern=_VARIABLE)], ...],
        Meta(
            description="Variables of the node's environment that it may see, AWS_* for all that begin so; and secrets."
            " Everything else is cleared."
        ),
    ] = ()
    description: Annotated[str, Meta(description="One line; else the docstring's first line is taken.")] = ""


_FIELDS = {field.name: field for field in msgspec.structs.fields(ScriptSettings)}
_FROM_LIMITS = ("timeout", "memory", "processes", "files", "file_size")
_WHERE = re.compile(r" - at `\$(.*)`$")


def load(metadata: Metadata, limits: Limits) -> ScriptSettings:
    """Take a script's settings from its metadata; what it leaves out comes from the node's limits.

    Raises:
        Defect: a setting is unknown or has a bad value; the text names every such setting.
    """
    table = metadata.settings
    if not isinstance(table, dict):
        raise Defect("tool.remoterun must be a table, [tool.remoterun]", line=metadata.line_of("remoterun"))
    values: dict[str, Any] = {name: getattr(limits, name) for name in _FROM_LIMITS}
    problems: dict[str, str] = {}
    for name, value in table.items():
        try:
            values[name] = _convert(name, value)
        except (ValueError, OverflowError) as error:
            problems[name] = str(error)
    if problems:
        text = "; ".join(f"[tool.remoterun] {name}: {problem}" for name, problem in problems.items())
        raise Defect(text, line=metadata.line_of(next(iter(problems))))
    return ScriptSettings(**values)


def select_environment(
    settings: ScriptSettings, node_env: Mapping[str, str], secrets: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give the variables that a script may see. Those of remoterun itself are never among them.

    Parameters:
        secrets: what is given to those alone who ask for it by its full name.
    """
    chosen: dict[str, str] = {}
    for pattern in settings.env:
        if pattern.endswith("*"):
            chosen.update((name, value) for name, value in node_env.items() if name.startswith(pattern[:-1]))
        elif secrets and pattern in secrets:
            chosen[pattern] = secrets[pattern]
        elif pattern in node_env:
            chosen[pattern] = node_env[pattern]
    return {name: value for name, value in chosen.items() if not name.startswith("REMOTERUN_")}


def _convert(name: str, value: Any) -> Any:
    field = _FIELDS.get(name)
    if field is None:
        raise ValueError(f"there is no such setting{_suggestion(name)}")
    try:
        return msgspec.convert(value, type=field.type, dec_hook=_quantity)
    except msgspec.ValidationError as error:
        raise ValueError(_readable(str(error), name)) from error


def _quantity(kind: type, value: Any) -> Any:
    """Parse durations and sizes, which msgspec does not know."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("write it like 30s" if kind is Duration else "write it like 512MB")
    if kind is Duration:
        return Duration.parse(value)
    if isinstance(value, float):
        raise ValueError("a size is a whole number of bytes, or like 512MB")
    return Size.parse(value)


def _readable(message: str, name: str) -> str:
    where = _WHERE.search(message)
    path = where[1] if where else ""
    message = _WHERE.sub("", message)
    if "matching regex" in message:
        message = "this is no module's name" if name == "preload" else "write a variable's name, or its beginning and *"
    return f"{path} {message}".strip()


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, _FIELDS, 1)
    return f"; do you mean {close[0]}?" if close else f"; there are {', '.join(_FIELDS)}"
