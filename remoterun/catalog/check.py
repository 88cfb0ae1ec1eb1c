"""Look scripts over before a node does: `remoterun check`."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from remoterun.catalog import metadata, signature
from remoterun.catalog.catalog import check_folder
from remoterun.catalog.defect import Defect
from remoterun.catalog.describe import Describer, Outcome, Script, decode
from remoterun.catalog.scan import Found, walk
from remoterun.catalog.versions import Versions, read_script
from remoterun.config import Limits
from remoterun.environments import EnvironmentFolder
from remoterun.environments.check import EnvironmentCheck


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that an author should know. An error keeps the script from being called."""

    file: str
    line: int  # from 1; 1 where it concerns the whole file
    severity: Literal["error", "warning"]
    message: str


async def check(
    folders: Sequence[Path],
    limits: Limits | None = None,
    node_env: Mapping[str, str] | None = None,
    python: str = sys.executable,
    environments: EnvironmentCheck | None = None,
) -> list[Finding]:
    """Look every script below some folders over; give what is wrong, in the order of files and lines.

    Parameters:
        folders: as for a node: the first that has a name wins.
        limits: the node's; None: the defaults.
        node_env: the environment of which a script may see what it asks for; None: this process's.
        python: the interpreter that imports scripts whose parameters only that tells.
        environments: whether and where they are built; None: what they would hold is not looked at.

    Raises:
        ConfigError: a folder cannot be read.
    """
    for folder in folders:
        check_folder(str(folder))
    with tempfile.TemporaryDirectory(prefix="remoterun-check-") as versions:
        looker = environments or EnvironmentCheck(EnvironmentFolder(Path(versions, "environments")), resolve=False)
        describer = Describer(
            Versions(Path(versions)),
            limits or Limits(),
            os.environ if node_env is None else node_env,
            python,
            environments=looker.folder,
        )
        try:
            return await _check(folders, describer, looker)
        finally:
            describer.stop.set()


async def _check(folders: Sequence[Path], describer: Describer, looker: EnvironmentCheck) -> list[Finding]:
    findings: list[Finding] = []
    winners: dict[str, str] = {}
    for found in (found for folder in folders for found in _walk(folder)):
        winner = winners.setdefault(found.name, found.path)
        if winner == found.path:
            findings.extend(await _check_script(found, describer, looker))
        else:
            text = f"it cannot be called: {winner} has the same name and comes first"
            findings.append(Finding(found.path, 1, "warning", text))
    return sorted(findings)


def _walk(folder: Path) -> Iterator[Found]:
    return walk(os.path.realpath(folder))


async def _check_script(found: Found, describer: Describer, looker: EnvironmentCheck) -> list[Finding]:
    outcome = await asyncio.to_thread(describer.describe, found, False)
    needs = outcome.script.needs
    if outcome.defect is None and needs is not None:
        reason = await looker.why_not(needs)
        if reason is not None:
            return [Finding(found.path, outcome.script.needs_line or 1, "error", reason)]
    if outcome.pending and (needs is None or looker.folder.is_built(needs.key)):
        outcome = await asyncio.to_thread(describer.describe, found, True)
    if outcome.defect is not None:
        return [Finding(found.path, outcome.defect.line or 1, "error", outcome.defect.message)]
    return [Finding(found.path, line, "warning", message) for line, message in _advice_on(found, outcome)]


def _advice_on(found: Found, outcome: Outcome) -> list[tuple[int, str]]:
    try:
        data = read_script(found.path)
        main = signature.find_main(signature.parse(data))
    except Defect:  # edited between two looks; the next run tells
        return []
    advice = list(_advice(outcome.script, decode(data), main))
    if outcome.pending:
        text = "only its environment can tell what its parameters are; remoterun check --build looks at them too"
        advice.append((1 if main is None else main.line, text))
    return advice


def _advice(script: Script, text: str, main: signature.Signature | None) -> Iterator[tuple[int, str]]:
    if (opened := metadata.unclosed(text)) is not None:
        yield opened, "nothing closes this metadata block, so it is ignored; end it with a line `# ///`"
    for variable in script.settings.env:
        if variable.startswith("REMOTERUN_"):
            yield 1, f"env: {variable} is never passed on; a job's own variables are always there"
    if main is None:
        return
    for parameter in main.parameters:
        if parameter.annotation is None:
            yield parameter.line, f"{parameter.name} has no type, so a text stays a text; write {parameter.name}: str"
        if parameter.default_call == "Field":
            yield (
                parameter.line,
                f"{parameter.name} = Field(...) is no default that main can use; write Annotated[type, Field(...)]",
            )
    if not (script.info.description or main.doc):
        yield main.line, "main has no docstring; its first line is what callers see in lists"
