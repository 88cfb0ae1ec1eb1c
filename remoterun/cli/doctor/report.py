"""A report to paste into a bug: versions, findings, settings; nothing of whose machine it is."""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from msgspec import Struct

from remoterun import __version__
from remoterun.cli.doctor.finding import Finding
from remoterun.cli.doctor.redaction import Redaction
from remoterun.config import Loaded, NodeSettings
from remoterun.settings import Setting, walk

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OF_OURS = re.compile(r"""extra == ['"](?:test|check|bench)['"]""")  # what only working on remoterun needs
_SHOWN = ("true or false", "number", "duration", "size")  # kinds of settings whose values say nothing of anybody
_SET = "(set; left out)"


def report(findings: Sequence[Finding], loaded: Loaded | None, sections: Mapping[str, type[Struct]]) -> str:
    """Give the report, as Markdown.

    Parameters:
        findings: what was found.
        loaded: the configuration; None where it cannot be read.
        sections: the transports' definitions.
    """
    redacted = Redaction(_names(loaded))
    parts = [
        f"# remoterun {__version__}: doctor, {datetime.now(UTC):%Y-%m-%d}",
        "Names of people, hosts, tokens and folders, and all texts in settings, were left out.",
        "## Versions\n\n" + _table(("what", "version"), _versions()),
        "## Findings\n\n" + _table(("check", "", "found"), ((*each[:2], redacted(_said(each))) for each in findings)),
        "## Settings that are not the default\n\n" + _settings(loaded, sections),
    ]
    return "\n\n".join(parts) + "\n"


def _said(finding: Finding) -> str:
    return finding.message if finding.public is None else finding.public


def _versions() -> Iterator[tuple[str, str]]:
    yield "remoterun", __version__
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver())}"
    yield "distribution", _distribution()
    yield "processors", str(os.cpu_count())
    for name in sorted(_packages(), key=str.lower):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return "unknown"


def _packages() -> set[str]:
    """Give what remoterun depends on where it runs, extras included, as far as its metadata says."""
    try:
        wanted = requires("remoterun") or []
    except PackageNotFoundError:
        return set()
    used = [each for each in wanted if not _OF_OURS.search(each)]
    return {match[0] for each in used if (match := _NAME.match(each)) and match[0] != "remoterun"}


def _settings(loaded: Loaded | None, sections: Mapping[str, type[Struct]]) -> str:
    if loaded is None:
        return "The configuration cannot be read; what it says was left out."
    rows = [(f"`{name}`", value, source) for name, value, source in _changed(loaded, sections)]
    return _table(("setting", "value", "from"), rows) if rows else "None."


def _changed(loaded: Loaded, sections: Mapping[str, type[Struct]]) -> Iterator[tuple[str, str, str]]:
    known: list[tuple[Setting, Any]] = [(setting, loaded.node) for setting in walk(NodeSettings)]
    for name, definition in sections.items():
        known += [(setting, {name: loaded.sections[name]}) for setting in walk(definition, f"{name}.")]
    for setting, root in known:
        source = loaded.sources.get(setting.name)
        if source is not None:
            yield setting.name, _shown(setting, _value(root, setting.name)), _kind_of(source)


def _value(root: Any, name: str) -> Any:
    for part in name.split("."):
        root = root[part] if isinstance(root, Mapping) else getattr(root, part)
    return root


def _shown(setting: Setting, value: Any) -> str:
    if setting.kind in _SHOWN or " | " in setting.kind:
        return f"`{value}`"
    if isinstance(value, Mapping | tuple | list):
        return f"({len(value)}; left out)"
    return _SET if value else "(empty)"


def _kind_of(source: str) -> str:
    if source.startswith("--"):
        return "a flag"
    return "the environment" if source.startswith("REMOTERUN_") else "the file"


def _names(loaded: Loaded | None) -> dict[str, str]:
    """Give every text that says who or where somebody is, with a word for it; what is set wins over what is found."""
    names = {word: "text" for word in os.environ.get("HOME", "").split("/")[2:] if word}
    names |= {_user(): "user", str(Path.home()): "home", os.getcwd(): "path"}  # noqa: PTH109 - as a text
    names |= dict.fromkeys((socket.gethostname(), socket.gethostname().partition(".")[0]), "host")
    if loaded is not None:
        node = loaded.node
        names |= {node.name: "node", node.data: "data", node.secrets: "path", node.environments.folder: "environments"}
        names |= dict.fromkeys(node.scripts, "scripts")
        names |= dict.fromkeys(node.principals, "principal")
        if loaded.file is not None:
            names |= {str(loaded.file): "configuration"}
    return {text: word for text, word in names.items() if text not in ("", "/", "root", "localhost")}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return ""


def _table(header: Sequence[str], rows: Any) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
