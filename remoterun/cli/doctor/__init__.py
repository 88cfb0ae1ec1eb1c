"""`remoterun doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from remoterun.cli.doctor import confinement, disk, keeping, machine, scripts, wires
from remoterun.cli.doctor.clock import Clock
from remoterun.cli.doctor.finding import Finding
from remoterun.cli.serve import load_settings, transport_settings
from remoterun.cli.session import node_session, wants_json
from remoterun.cli.tables import print_table
from remoterun.config import Loaded
from remoterun.errors import RemoterunError
from remoterun.messages import encode

_STDOUT = "-"


def doctor_options(parser: ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.add_argument(
        "--report",
        metavar="FILE",
        nargs="?",
        const=_STDOUT,
        help="write a report to paste into a bug, without names and secrets; to stdout without FILE",
    )
    parser.epilog = "Exit code 1 where something fails."


def doctor(options: Namespace) -> int:
    """Look at this machine and the local node, and say what was found."""
    loaded, broken = _configuration(options)
    findings = list(_look(options, loaded, broken))
    if options.report is not None:
        _write_report(options.report, findings, loaded)
    elif wants_json(options):
        print(encode([_as_json(finding) for finding in findings]).decode())
    else:
        print_table(("CHECK", "", "FOUND"), [finding[:3] for finding in findings])
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def _as_json(finding: Finding) -> dict[str, str]:
    return {"what": finding.what, "verdict": finding.verdict, "message": finding.message}


def _write_report(path: str, findings: list[Finding], loaded: Loaded | None) -> None:
    from remoterun.cli.doctor.report import report

    text = report(findings, loaded, transport_settings())
    if path == _STDOUT:
        print(text, end="")
        return
    Path(path).write_text(text)
    print(f"{path}: read it before you send it", file=sys.stderr)


def _configuration(options: Namespace) -> tuple[Loaded | None, Finding]:
    try:
        loaded = load_settings(options, {})
    except RemoterunError as error:
        return None, Finding("configuration", "fail", str(error), "it cannot be read")
    return loaded, Finding("configuration", "ok", "can be read")


def _look(options: Namespace, loaded: Loaded | None, configuration: Finding) -> Iterator[Finding]:
    clock = Clock()
    yield from machine.look()
    holder = None if loaded is None else keeping.holder_of(Path(loaded.node.data))
    yield from confinement.look(holder or os.getpid())
    yield configuration
    if loaded is not None:
        yield from _look_at_node(options, loaded, holder)
    yield clock.look()  # last: whether it jumped meanwhile


def _look_at_node(options: Namespace, loaded: Loaded, holder: int | None) -> Iterator[Finding]:
    settings = loaded.node
    data = Path(settings.data)
    yield from disk.look(data)
    yield from keeping.look(data, Path(settings.environments.folder or data / "environments"), holder)
    yield from scripts.look([Path(folder) for folder in settings.scripts])
    yield from wires.look(loaded.sections, is_running=holder is not None)
    yield _node(options)


def _node(options: Namespace) -> Finding:
    try:
        with node_session(options) as session:
            info = session.info()
    except RemoterunError as error:
        return Finding("node", "warn", str(error), "it does not answer, or not to this user")
    load = info.load
    text = f"remoterun {info.version}, {load.running} of {load.workers} running"
    down = [f"{name}: {state}" for name, state in info.brokers.items() if state != "up"]
    if down:
        short = f"answers: {text}; brokers that are not there: {len(down)}"
        return Finding("node", "warn", f"{info.node} answers: {text}; {'; '.join(down)}", short)
    return Finding("node", "ok", f"{info.node} answers: {text}", f"answers: {text}")
