"""The scripts of a node: found by a scan, described once, looked at again when called and about every second."""

from __future__ import annotations

import asyncio
import difflib
import fnmatch
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from remoterun.catalog import importing
from remoterun.catalog.describe import Describer, Outcome, Script
from remoterun.catalog.environed import ScriptEnvironments
from remoterun.catalog.scan import Found, scan, signature
from remoterun.catalog.versions import Versions
from remoterun.config import Limits
from remoterun.environments import Environments, Needs
from remoterun.errors import ConfigError, NotFound
from remoterun.messages import ScriptInfo

T = TypeVar("T")

_POLL = 0.7  # seconds between scans
_SPACING = 0.05  # seconds between the starts of two scans: unknown names, asked for in a stream, cost no more
_TRUST = 0.02  # seconds for which a look at a file's status holds
_RETRY = 2.0  # seconds after which a call looks again at a script whose fault may have passed
_RETRY_UNCALLED = 60.0  # the same when nobody calls it
_OLD_VERSIONS = 64  # described and kept in memory
_FOREVER = float("inf")

_log = logging.getLogger("remoterun.catalog")


class _Entry:
    """A script in the catalogue, and until when what is known about it holds."""

    __slots__ = ("checked", "found", "imports", "imports_seen", "outcome", "script", "task", "uncalled_until", "until")

    def __init__(self, found: Found, outcome: Outcome) -> None:
        self.found = found
        self.checked = 0.0  # when its status was last compared
        self.task: asyncio.Task[None] | None = None  # imports it
        self.take(outcome)

    def take(self, outcome: Outcome) -> None:
        now = time.monotonic()
        self.outcome = outcome
        self.script = outcome.script
        self.imports = outcome.imports
        self.imports_seen = importing.signatures(outcome.imports)
        self.until = self.uncalled_until = _FOREVER
        if outcome.pending:
            self.until = 0.0
        elif outcome.defect is not None and outcome.defect.passing:
            self.until, self.uncalled_until = now + _RETRY, now + _RETRY_UNCALLED
        elif outcome.read - self.found.signature[0] < _TRUST * 1e9:
            # Read within the tick of the clock that it was written in: a further write may leave no other time.
            self.until = self.uncalled_until = now + _TRUST


class Catalog:
    """The scripts below some folders, by name.

    Parameters:
        folders: the first that has a name wins.
        versions: the folder for copies of every version.
        limits: the node's.
        node_env: the environment of which a script may see what it asks for.
        python: the interpreter that imports scripts to describe them.
        environments: those of scripts that need one of their own; None: such scripts are broken.
        secrets: those that scripts may ask for by name.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        versions: Path,
        limits: Limits,
        node_env: Mapping[str, str],
        python: str = sys.executable,
        environments: Environments | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._folders = tuple(os.path.abspath(folder) for folder in folders)  # noqa: PTH100 - links may change
        self._versions = Versions(versions.absolute())
        self._environed = ScriptEnvironments(environments)
        self._describer = Describer(
            self._versions,
            limits,
            node_env,
            python,
            environments=None if environments is None else environments.folder,
            secrets=secrets,
        )
        if environments is not None:
            environments.needed = self.needs
            environments.on_settled.append(self._environment_settled)
        self._entries: dict[str, _Entry] = {}
        self._old: dict[tuple[str, str], Script] = {}
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix="catalog")
        self._importer = ThreadPoolExecutor(2, thread_name_prefix="describe")
        self._lock = asyncio.Lock()
        self._begun = self._done = 0  # numbers of the newest scans
        self._last = -_FOREVER  # when the newest began
        self._tasks: set[asyncio.Task[None]] = set()
        self._backlog: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Scan the folders, describe what can be described at once, and go on watching.

        Raises:
            ConfigError: a folder cannot be read, or copies cannot be kept.
        """
        for folder in self._folders:
            check_folder(folder)
        try:
            self._versions.prepare()
        except OSError as error:
            raise ConfigError(f"{error.filename} cannot be made: {error.strerror}; name another data folder") from error
        await self._look()
        self._spawn(self._watch())

    async def stop(self) -> None:
        """Stop watching; imports under way are given up."""
        self._describer.stop.set()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for executor in (self._scanner, self._importer):
            executor.shutdown(wait=False, cancel_futures=True)

    def peek(self, name: str) -> Script | None:
        """Give the current version, or None when only `get` can tell: unknown, perhaps changed, not described yet."""
        return self._current(name, _TRUST)

    async def get(self, name: str) -> Script:
        """Give the current version, described; a broken one has `info.broken`.

        Raises:
            NotFound: there is no such script; the text names one that is spelled alike.
        """
        script = self._current(name, trust=0.0)
        while script is None:
            await self._look(name)
            entry = self._entries.get(name)
            if entry is None:
                raise NotFound(self._no_such(name))
            if entry.outcome.pending:
                await self._import(entry)
                entry = self._entries.get(name, entry)
            if not entry.outcome.pending:
                script = entry.script
        return script

    async def get_version(self, name: str, version: str) -> Script:
        """Give an older version of a script that is still in the catalogue.

        Raises:
            NotFound: there is no such script, or no copy of this version.
        """
        current = await self.get(name)
        if current.info.version == version:
            return current
        script = self._old.get((name, version))
        if script is None:
            entry = self._entries.get(name)
            if entry is None:  # removed while it was described
                raise NotFound(self._no_such(name))
            script = self._old[name, version] = await self._describe_old(entry.found, version)
            while len(self._old) > _OLD_VERSIONS:
                del self._old[next(iter(self._old))]
        return script

    async def _describe_old(self, found: Found, version: str) -> Script:
        describe = self._describer.describe_version
        outcome = await self._in(self._importer, describe, found, version, False)
        if outcome is not None and outcome.pending:
            if (failed := await self._environed.without(found, outcome.script)) is not None:
                return failed.script
            outcome = await self._in(self._importer, describe, found, version, True)
        if outcome is None:
            raise NotFound(f"the copy of version {version[:12]} of {found.name} is gone; run the newest instead")
        return outcome.script

    def needs(self) -> dict[str, Needs]:
        """Give what the scripts need beside the node's own environment, by key."""
        found = (entry.outcome.script.needs for entry in self._entries.values())
        return {needs.key: needs for needs in found if needs is not None}

    async def prune_versions(self, before: float) -> None:
        """Remove copies of versions that were last current before a time, in seconds since the epoch."""
        current = {entry.script.info.version for entry in self._entries.values()}
        await self._in(self._importer, self._versions.prune, current, before)

    def list(self, pattern: str = "*") -> list[ScriptInfo]:
        """List the scripts whose names match a glob, by name; `*` matches `/` too."""
        names = sorted(name for name in self._entries if fnmatch.fnmatchcase(name, pattern))
        return [self._entries[name].script.info for name in names]

    def _current(self, name: str, trust: float) -> Script | None:
        """Give what is known about a script if it holds; look at the file unless that was done `trust` seconds ago."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        now = time.monotonic()
        if now >= entry.until:
            return None
        if now - entry.checked >= trust:
            try:
                status = os.stat(entry.found.path)  # noqa: PTH116 - a Path costs as much as the look
            except OSError:
                return None
            if signature(status) != entry.found.signature:
                return None
            entry.checked = now
        return entry.script

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_POLL)
            try:
                await self._look()
            except Exception:
                _log.exception("looking at the scripts folders failed; trying again")

    async def _look(self, called: str | None = None) -> None:
        """Scan, beginning after this moment; callers that come together share one scan."""
        ticket = self._begun
        async with self._lock:
            if self._done > ticket:
                return
            await asyncio.sleep(max(0.0, self._last + _SPACING - time.monotonic()))
            self._begun += 1
            number, self._last = self._begun, time.monotonic()
            found, outcomes = await self._in(self._scanner, self._scan, called)
            self._apply(found, outcomes)
            self._done = number

    def _scan(self, called: str | None) -> tuple[dict[str, Found], dict[str, Outcome]]:
        """Find the scripts and describe those that are new or changed, in a thread."""
        # A link to a folder is how whole folders are replaced at once: it may lead elsewhere by now.
        found = scan([os.path.realpath(folder) for folder in self._folders])
        changed = (script for script in found.values() if self._is_stale(script, script.name == called))
        return found, {script.name: self._describer.describe(script, may_import=False) for script in changed}

    def _is_stale(self, found: Found, called: bool) -> bool:
        entry = self._entries.get(found.name)
        if entry is None or entry.found != found:
            return True
        if entry.outcome.pending:
            return False
        if time.monotonic() >= (entry.until if called else entry.uncalled_until):
            return True
        return bool(entry.imports) and importing.signatures(entry.imports) != entry.imports_seen

    def _apply(self, found: Mapping[str, Found], outcomes: Mapping[str, Outcome]) -> None:
        before = {name: entry.script.info for name, entry in self._entries.items()}
        for name in self._entries.keys() - found.keys():
            del self._entries[name]
        for name, outcome in outcomes.items():
            entry = self._entries[name] = _Entry(found[name], outcome)
            entry.script = self._environed.shown(outcome.script)
        if any(outcome.pending for outcome in outcomes.values()) and (self._backlog is None or self._backlog.done()):
            self._backlog = self._spawn(self._import_pending())
        if before != {name: entry.script.info for name, entry in self._entries.items()}:
            self._tell()

    async def _import_pending(self) -> None:
        """Import what nobody has called yet, one at a time; what an environment is built for first, beside that."""
        while pending := [entry for entry in self._entries.values() if entry.outcome.pending and entry.task is None]:
            if self._environed.must_wait(pending[0].outcome.script):
                self._begin_import(pending[0])
            else:
                await self._import(pending[0])

    async def _import(self, entry: _Entry) -> None:
        await asyncio.shield(self._begin_import(entry))

    def _begin_import(self, entry: _Entry) -> asyncio.Task[None]:
        if entry.task is None:
            entry.task = self._spawn(self._import_now(entry))
        return entry.task

    async def _import_now(self, entry: _Entry) -> None:
        try:
            outcome = await self._environed.without(entry.found, entry.outcome.script)
            if outcome is None:
                outcome = await self._in(self._importer, self._describer.describe, entry.found, True)
            entry.take(outcome)
            entry.script = self._environed.shown(entry.script)
        finally:
            entry.task = None
        if self._entries.get(entry.found.name) is entry:
            self._tell()

    def _environment_settled(self, key: str) -> None:
        """Show the scripts of an environment as that turned out; describe those anew that could not be."""
        concerned = [entry for entry in self._entries.values() if _needs_environment(entry.outcome.script, key)]
        for entry in concerned:
            if entry.outcome.defect is not None:
                entry.until = entry.uncalled_until = 0.0
            elif not entry.outcome.pending:
                entry.script = self._environed.shown(entry.outcome.script)
        if concerned:
            self._tell()

    def _tell(self) -> None:
        for callback in self.on_change:
            callback()

    def _no_such(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._entries, 1) if len(name) <= 100 else []
        hint = f"; do you mean {close[0]}?" if close else "; list_scripts names those there are"
        return f"there is no script {name[:100]!r}{hint}"

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in(self, executor: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, partial(function, *arguments))


def _needs_environment(script: Script, key: str) -> bool:
    return script.needs is not None and script.needs.key == key


def check_folder(folder: str) -> None:
    """Raise ConfigError unless a scripts folder can be read."""
    try:
        with os.scandir(folder):
            return
    except FileNotFoundError as error:
        raise ConfigError(f"there is no scripts folder {folder}; type: mkdir -p {shlex.quote(folder)}") from error
    except OSError as error:
        raise ConfigError(f"the scripts folder {folder} cannot be read: {error.strerror}") from error
