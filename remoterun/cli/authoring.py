"""`remoterun new` and `check`: for those who write scripts."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from remoterun.cli.serve import load_settings
from remoterun.cli.session import wants_json
from remoterun.cli.terminal import safe_line
from remoterun.messages import encode

if TYPE_CHECKING:
    from remoterun.config import NodeSettings
    from remoterun.environments.check import EnvironmentCheck
    from remoterun.environments.plan import Phase


def new_options(parser: ArgumentParser) -> None:
    """Add the options of `new`."""
    parser.add_argument("name", help="the script's name: hello, reports/daily")


def new(options: Namespace) -> int:
    """Make a script in the first scripts folder and print its path."""
    from remoterun.catalog.new import create

    path = create(Path(load_settings(options, {}).node.scripts[0]), options.name)
    print(encode({"path": str(path)}).decode() if wants_json(options) else path)
    return 0


def check_options(parser: ArgumentParser) -> None:
    """Add the options of `check`."""
    parser.add_argument("scripts", nargs="*", metavar="SCRIPTS", help="folders of scripts; the configured ones")
    parser.add_argument("--build", action="store_true", help="build the environments that scripts need, ahead of calls")


def check(options: Namespace) -> int:
    """Check every script; exit code 1 where one cannot be called."""
    import asyncio

    from remoterun.catalog.check import check as check_folders

    settings = load_settings(options, {}).node
    folders = options.scripts or settings.scripts
    with tempfile.TemporaryDirectory(prefix="remoterun-check-") as scratch:
        environments = _environments(settings, options.build, Path(scratch))
        findings = asyncio.run(check_folders([Path(folder) for folder in folders], environments=environments))
    if wants_json(options):
        print(encode(findings).decode())
    for finding in () if wants_json(options) else findings:
        print(f"{finding.file}:{finding.line}: {finding.severity}: {safe_line(finding.message)}")
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _environments(settings: NodeSettings, build: bool, scratch: Path) -> EnvironmentCheck:
    """Look where the node has its environments; make a folder there only if some are to be built."""
    from remoterun.environments import EnvironmentFolder
    from remoterun.environments.check import EnvironmentCheck

    data = Path(settings.data)
    path = Path(settings.environments.folder or data / "environments")
    if build and not settings.environments.folder:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = EnvironmentFolder(path if build or path.is_dir() else scratch)
    return EnvironmentCheck(folder, build=build, timeout=settings.environments.timeout, on_phase=_show)


def _show(script: str, phase: Phase) -> None:
    if sys.stderr.isatty():
        print(f"{safe_line(script)}: {safe_line(phase.message)}", file=sys.stderr)
