"""The settings: each defined once, with its type, default and help.

`--help`, the reference in the README and the checks are made from these definitions. A value comes from
flags, then `REMOTERUN_*`, then `remoterun.toml`, then the default here.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from remoterun import settings
from remoterun.errors import ConfigError
from remoterun.joblines import LogJobs
from remoterun.logs import LogFormat
from remoterun.quantities import Duration, Size
from remoterun.settings import Setting
from remoterun.transport import PATH


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one job, and one request, may use."""

    request: Annotated[Size, Meta(description="Largest request taken, in bytes.")] = Size(2**20)
    result: Annotated[Size, Meta(description="Largest JSON result of a script, in bytes.")] = Size(4 * 2**20)
    output: Annotated[
        Size, Meta(description="Output kept of one job, stdout and stderr together; what is beyond it is cut.")
    ] = Size(16 * 2**20)
    output_stop: Annotated[Size, Meta(description="A job that writes more than this is stopped.")] = Size(2**30)
    waiting: Annotated[
        Size, Meta(description="Parameters and input of all waiting jobs together, before a call is refused as busy.")
    ] = Size(256 * 2**20)
    artifacts: Annotated[Size, Meta(description="Artifacts kept of one job, all together.")] = Size(2**30)
    artifact_count: Annotated[int, Meta(ge=0, description="Artifacts kept of one job, how many.")] = 1000
    upload: Annotated[Size, Meta(description="Files that a caller sends along with one call, all together.")] = Size(
        100 * 2**20
    )
    timeout: Annotated[
        Duration, Meta(description="How long a job may run unless its script says otherwise; 0: no limit.")
    ] = Duration(3600)
    memory: Annotated[
        Size, Meta(description="Memory of a job's processes together, unless its script says otherwise; 0: no limit.")
    ] = Size(0)
    processes: Annotated[int, Meta(ge=1, description="Processes and threads of one job.")] = 512
    files: Annotated[int, Meta(ge=16, description="Open files of one process of a job.")] = 1024
    file_size: Annotated[Size, Meta(description="Largest file that a job may write; 0: no limit.")] = Size(0)


class Retention(Struct, frozen=True, forbid_unknown_fields=True):
    """How long ended jobs are kept; whichever bound is met first."""

    age: Annotated[Duration, Meta(description="Ended jobs older than this are removed.")] = Duration(30 * 86400)
    jobs: Annotated[int, Meta(ge=0, description="At most this many ended jobs are kept.")] = 1_000_000
    bytes: Annotated[
        Size, Meta(description="At most this much is kept: records, logs, artifacts and uploaded files.")
    ] = Size(10**10)


class EnvironmentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The environments that uv builds for scripts that say `dependencies`."""

    folder: Annotated[
        str,
        Meta(description="Folder of environments, which nodes may share; empty: in the data folder.", extra=PATH),
    ] = ""
    build: Annotated[
        Literal["when-called", "at-start"],
        Meta(description="Build an environment when a call first needs it, or ahead, for every script there is."),
    ] = "when-called"
    timeout: Annotated[Duration, Meta(description="How long one may take to build; 0: no limit.")] = Duration(600)
    retry: Annotated[
        Duration, Meta(description="Wait before one that failed is tried again; it doubles, up to an hour.")
    ] = Duration(60)
    keep: Annotated[Duration, Meta(description="Environments that no script has needed for this long are removed.")] = (
        Duration(30 * 86400)
    )


class BackupSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The copies of the data folder that a running node makes."""

    folder: Annotated[
        str, Meta(description="Folder of backups, one folder each; empty: in the data folder.", extra=PATH)
    ] = ""
    every: Annotated[
        Duration, Meta(description="Time from one backup to the next; 0: only when asked, by `remoterun backup`.")
    ] = Duration(0)
    keep: Annotated[int, Meta(ge=1, description="At most this many backups are kept; the oldest are removed.")] = 7


class TracingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the spans of jobs go; needs the extra `otel`."""

    endpoint: Annotated[
        str,
        Meta(
            description="URL of an OpenTelemetry collector that takes OTLP over HTTP, as http://127.0.0.1:4318;"
            " empty: no spans are made."
        ),
    ] = ""
    ratio: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of traces that are exported; a caller's own traceparent decides for its."),
    ] = 1.0
    service: Annotated[str, Meta(description="`service.name` of the spans.")] = "remoterun"


class PrincipalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """A caller that holds no token of ours, as a queue's publisher."""

    scopes: Annotated[tuple[str, ...], Meta(description="What this principal may do.")] = ()


class NodeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a node; each transport adds a section of its own."""

    scripts: Annotated[
        tuple[str, ...], Meta(description="Folders of scripts; the first that has a name wins.", extra=PATH)
    ] = ("scripts",)
    data: Annotated[
        str, Meta(description="Folder of the database, the Unix socket and the first token.", extra=PATH)
    ] = ".remoterun"
    name: Annotated[str, Meta(description="This node's name in records; empty: the host's name.")] = ""
    workers: Annotated[int, Meta(ge=0, description="Jobs at once; 0: twice the cores.")] = 0
    queue: Annotated[int, Meta(ge=0, description="Jobs that may wait before a call is refused as busy.")] = 10_000
    grace: Annotated[Duration, Meta(description="How long a stopping node lets running jobs go on.")] = Duration(10)
    cancel_grace: Annotated[
        Duration, Meta(description="Time between SIGTERM and SIGKILL for a job that is cancelled or timed out.")
    ] = Duration(2)
    auth_timeout: Annotated[
        Duration, Meta(description="A connection that has not authenticated by then is closed.")
    ] = Duration(10)
    insecure_listen: Annotated[
        bool,
        Meta(description="Allow addresses beyond loopback without TLS; tokens and results then travel in clear text."),
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="What the log holds: this and worse.")
    ] = "info"
    log_format: Annotated[
        LogFormat, Meta(description="Lines for people, or one JSON object a line for what collects logs.")
    ] = "text"
    log_jobs: Annotated[
        LogJobs,
        Meta(
            description="Which ends of jobs get a line in the log, of level info, never with parameters or output;"
            " calls that are refused go with the failed ones."
        ),
    ] = "failed"
    secrets: Annotated[
        str,
        Meta(
            description='TOML file of secrets, NAME = "text", that scripts may ask for by env; mode 0600.', extra=PATH
        ),
    ] = ""
    limits: Limits = Limits()
    retention: Retention = Retention()
    environments: EnvironmentSettings = EnvironmentSettings()
    backup: BackupSettings = BackupSettings()
    tracing: TracingSettings = TracingSettings()
    principals: dict[str, PrincipalSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration as it holds, and where each value that is no default came from."""

    node: NodeSettings
    sections: Mapping[str, Any]  # a transport's name → its settings
    file: Path | None
    sources: Mapping[str, str]  # a setting's name → `--workers`, `REMOTERUN_WORKERS`, `remoterun.toml, line 3`


def load(
    *,
    flags: Mapping[str, Any],
    env: Mapping[str, str],
    file: Path | None,
    sections: Mapping[str, type[Struct]],
) -> Loaded:
    """Load the configuration: flags, then the environment, then the file, then defaults.

    Relative paths from the file start at its folder, all others at the working directory; the loaded
    ones are absolute.

    Parameters:
        flags: values by the settings' names, with dots; None where a flag was not given.
        env: the environment; only `REMOTERUN_*` counts.
        file: the configuration file, or None.
        sections: the transports' definitions, by name of their section.

    Raises:
        ConfigError: it is broken; the text names file, line and setting.
    """
    known = {setting.name: setting for setting in _walk_all(sections)}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in (_defaults(known), _from_file(file, known), _from_env(env, known), _from_flags(flags, known)):
        for source, folder, name, value in layer:
            values[name] = _absolute(value, folder) if known[name].is_path else value
            if source:
                sources[name] = source
    return Loaded(
        node=_build(NodeSettings, "", values, sources),
        sections={name: _build(kind, f"{name}.", values, sources) for name, kind in sections.items()},
        file=file,
        sources=sources,
    )


def reference(sections: Mapping[str, type[Struct]]) -> str:
    """Give the reference of all settings as a Markdown table; `sections` as for `load`."""
    return settings.reference(sections, NodeSettings)


_Layer = Iterator[tuple[str, Path, str, Any]]  # source, folder of relative paths, setting's name, value

_NO_SETTINGS = frozenset({"REMOTERUN_URL", "REMOTERUN_TOKEN", "REMOTERUN_CONFIG"})


def _walk_all(sections: Mapping[str, type[Struct]]) -> Iterator[Setting]:
    yield from settings.walk(NodeSettings)
    for name, definition in sections.items():
        yield from settings.walk(definition, f"{name}.")


def _defaults(known: Mapping[str, Setting]) -> _Layer:
    for name, setting in known.items():
        yield "", Path.cwd(), name, setting.default


def _from_flags(flags: Mapping[str, Any], known: Mapping[str, Setting]) -> _Layer:
    for name, value in flags.items():
        flag = "--" + re.sub("[._]", "-", name)
        if name not in known:
            raise ConfigError(f"{flag}: there is no setting {name}{_suggestion(name, known)}")
        if value is not None:
            yield flag, Path.cwd(), name, _converted(known[name], value, flag, strict=False)


def _from_env(env: Mapping[str, str], known: Mapping[str, Setting]) -> _Layer:
    variables = {setting.variable: setting for setting in known.values() if not setting.is_table}
    for variable in sorted(env):
        if not variable.startswith("REMOTERUN_") or variable in _NO_SETTINGS:
            continue
        if variable in variables:
            setting = variables[variable]
            text = env[variable]
            value = [item.strip() for item in text.split(",") if item.strip()] if setting.is_list else text
            yield variable, Path.cwd(), setting.name, _converted(setting, value, variable, strict=False)
        elif near := difflib.get_close_matches(variable, variables, 1, 0.9):
            # Only a near miss is refused: Kubernetes and Docker set REMOTERUN_PORT… for a service of our name.
            raise ConfigError(f"{variable}: there is no such setting; did you mean {near[0]}?")


def _from_file(file: Path | None, known: Mapping[str, Setting]) -> _Layer:
    if file is None:
        return
    try:
        text = file.read_bytes().decode()
        table = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(file, str(error))) from error
    lines = _Lines(text)
    for name, value in _flatten(table, "", known):
        where = f"{file}, line {lines.find(name)}"
        if name not in known:
            raise ConfigError(f"{where}: there is no setting {name}{_suggestion(name, known)}")
        yield where, file.absolute().parent, name, _converted(known[name], value, where, strict=True)


def _flatten(table: Mapping[str, Any], prefix: str, known: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    """Give the settings that a table says: tables that are sections are entered, others are values."""
    for key, value in table.items():
        name = prefix + key
        is_section = any(other.startswith(f"{name}.") for other in known)
        if is_section and isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.", known)
        else:
            yield name, value


def _syntax_error(file: Path, message: str) -> str:
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    if match is None:
        return f"{file}: {message}"
    where = f"line {match[2]}, column {match[3]}" if match[2] else "at its end"
    return f"{file}, {where}: {match[1]}"


def _converted(setting: Setting, value: Any, source: str, *, strict: bool) -> Any:
    try:
        return settings.convert(value, setting.type, strict=strict)
    except (ValueError, OverflowError) as error:
        named = "" if source == setting.variable or source.startswith("--") else f"{setting.name}: "
        raise ConfigError(f"{source}: {named}{error}") from error


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return str(folder / Path(value).expanduser()) if value else value
    if isinstance(value, (tuple, list)):
        return type(value)(_absolute(item, folder) for item in value)
    return value


def _build(kind: type[Any], prefix: str, values: Mapping[str, Any], sources: Mapping[str, str]) -> Any:
    """Make a definition's value, and let its own checks speak."""
    given: dict[str, Any] = {}
    for entry in msgspec.structs.fields(kind):
        name = prefix + entry.encode_name
        nested = settings.section_of(entry.type)
        given[entry.name] = values[name] if nested is None else _build(nested, f"{name}.", values, sources)
    try:
        return kind(**given)
    except ValueError as error:
        said = [source for name, source in sources.items() if name.startswith(prefix)]
        raise ConfigError(f"{'; '.join(said) or 'defaults'}: {prefix.rstrip('.')}: {error}") from error


def _suggestion(name: str, known: Iterable[str]) -> str:
    candidates = list(known)
    if near := difflib.get_close_matches(name, candidates, 1, 0.75):
        return f"; did you mean {near[0]}?"
    ending = [other for other in candidates if other.rpartition(".")[2] == name.rpartition(".")[2]]
    return f"; did you mean {ending[0]}?" if ending else ""


class _Lines:
    """Where in a TOML text each key stands, as well as a look at its lines can tell."""

    _TABLE = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?")
    _KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")

    def __init__(self, text: str) -> None:
        self._found: dict[str, int] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            if match := self._TABLE.fullmatch(line):
                table = _dotted(match[1])
                self._found.setdefault(table, number)
            elif match := self._KEY.match(line):
                self._found.setdefault(f"{table}.{_dotted(match[1])}".lstrip("."), number)

    def find(self, name: str) -> int:
        """Give the line of a setting, of the table that it is in, or of a setting below it; 1 at worst."""
        outer = name
        while outer:
            if outer in self._found:
                return self._found[outer]
            outer = outer.rpartition(".")[0]
        return next((number for key, number in self._found.items() if key.startswith(f"{name}.")), 1)


def _dotted(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
