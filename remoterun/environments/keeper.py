"""The keeper of a node's environments: each is built once, however many ask for it; a failure is tried again later."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING

from remoterun.environments.equipment import equip
from remoterun.environments.folder import EnvironmentFolder
from remoterun.environments.needs import Needs
from remoterun.environments.plan import Phase
from remoterun.environments.process import build
from remoterun.errors import ConfigError, RemoterunError

if TYPE_CHECKING:
    from remoterun.config import EnvironmentSettings

logger = logging.getLogger(__name__)

_AT_ONCE = 2  # builds side by side
_LONGEST_PAUSE = 3600.0  # seconds between two attempts to build what failed
_HOUSEKEEPING = 1800.0  # seconds between looks for old environments
_TOUCHES_PER_KEEP = 4  # of nodes that share a folder: none removes what another one needs
_WAITING = Phase(0, 2, "waiting for other environments to be built")


class EnvironmentFailed(RemoterunError):
    """There is no such environment for now; the text is one line that says why."""


class Build:
    """A build under way, and who wants to hear of it."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.phase = _WAITING
        self.on_phase: list[Callable[[Phase], None]] = []
        self.on_end: list[Callable[[str | None], None]] = []  # with the reason where it failed

    def advance(self, phase: Phase) -> None:
        """Note how far it is."""
        self.phase = phase
        for callback in self.on_phase:
            callback(phase)


class _Failure:
    def __init__(self, reason: str, pause: float) -> None:
        self.reason = reason
        self.pause = pause  # seconds before the next attempt
        self.timer: asyncio.TimerHandle | None = None


class Environments:
    """The environments that scripts of a node need.

    Parameters:
        folder: where they are.
        settings: when they are built, how long that may take, how long they are kept.
    """

    def __init__(self, folder: EnvironmentFolder, settings: EnvironmentSettings) -> None:
        self.folder = folder
        self.needed: Callable[[], Mapping[str, Needs]] = dict  # by key: what the scripts that there are need
        self.on_settled: list[Callable[[str], None]] = []  # with a key, once its build ended, or ended otherwise
        self.built = self.failed = 0  # builds since the start
        self._settings = settings
        self._ready: set[str] = set()
        self._builds: dict[str, Build] = {}
        self._failures: dict[str, _Failure] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Make the folder and begin to look after it.

        Raises:
            ConfigError: it cannot be made.
        """
        try:
            await asyncio.to_thread(self.folder.prepare)
        except OSError as error:
            raise ConfigError(
                f"{self.folder.path} cannot be made: {error.strerror}; name another one, environments.folder"
            ) from error
        self._spawn(self._look_after())

    async def stop(self) -> None:
        """Give up what is being built."""
        for failure in self._failures.values():
            if failure.timer is not None:
                failure.timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_ready(self, needs: Needs) -> bool:
        """Whether an environment can be used now; looks whether its interpreter is still there."""
        key = needs.key
        if key in self._ready:
            if self.folder.python(key).exists():
                return True
            self._ready.discard(key)
        if key in self._builds or not self.folder.is_built(key):
            return False
        return self._take(key)

    def _take(self, key: str) -> bool:
        """Take an environment that is there into use; one that cannot be equipped is as good as none."""
        try:
            equip(self.folder.home(key), self.folder.typed(key))
        except OSError as error:
            logger.warning("the environment %s cannot be used: %s", self.folder.home(key), error)
            return False
        self.folder.touch([key])
        self._ready.add(key)
        return True

    @property
    def failing(self) -> int:
        """How many cannot be built for now."""
        return len(self._failures)

    def failure(self, key: str) -> str | None:
        """Give the reason why an environment could not be built, until it is."""
        failure = self._failures.get(key)
        return None if failure is None else failure.reason

    def request(self, needs: Needs) -> Build:
        """Have an environment built that is not ready; give the build, which is the same for all who ask.

        Raises:
            EnvironmentFailed: it failed a short while ago.
        """
        failure = self._failures.get(needs.key)
        if failure is not None:
            raise EnvironmentFailed(failure.reason)
        return self._begin(needs)

    async def ready(self, needs: Needs) -> None:
        """Wait until an environment can be used.

        Raises:
            EnvironmentFailed: it cannot be built.
        """
        if self.is_ready(needs):
            return
        done: asyncio.Future[str | None] = self._loop.create_future()
        self.request(needs).on_end.append(lambda reason: None if done.done() else done.set_result(reason))
        reason = await done
        if reason is not None:
            raise EnvironmentFailed(reason)

    def build_ahead(self) -> None:
        """Have everything built that scripts need, if that is what the settings say."""
        if self._settings.build != "at-start":
            return
        for needs in self.needed().values():
            if not self.is_ready(needs) and needs.key not in self._failures:
                self._begin(needs)

    def _begin(self, needs: Needs) -> Build:
        known = self._builds.get(needs.key)
        if known is None:
            known = self._builds[needs.key] = Build(needs)
            self._spawn(self._build(known))
        return known

    async def _build(self, under_way: Build) -> None:
        needs = under_way.needs
        try:
            async with self._room:
                began = time.monotonic()
                reason = await build(needs, self.folder, self._settings.timeout, under_way.advance)
        except Exception as error:  # a defect of ours: those who wait must hear of it
            logger.exception("the environment of %s cannot be built", needs.script)
            reason = f"its environment cannot be built: {error}"
        del self._builds[needs.key]
        if reason is None and not self._take(needs.key):
            reason = f"{self.folder.home(needs.key)} cannot be written; the node's log says why"
        if reason is None:
            self._failures.pop(needs.key, None)
            self.built += 1
            logger.info("built the environment of %s in %.1f s", needs.script, time.monotonic() - began)
        else:
            self._fail(needs, reason)
        for callback in under_way.on_end:
            callback(reason)
        self._tell(needs.key)

    def _fail(self, needs: Needs, reason: str) -> None:
        self.failed += 1
        known = self._failures.get(needs.key)
        pause = self._settings.retry if known is None else min(known.pause * 2, _LONGEST_PAUSE)
        failure = self._failures[needs.key] = _Failure(reason, max(pause, 0.1))
        failure.timer = self._loop.call_later(failure.pause, self._try_again, needs)
        logger.warning("the environment of %s failed, tried again in %.0f s: %s", needs.script, failure.pause, reason)

    def _try_again(self, needs: Needs) -> None:
        """Build what failed once more, if it is still wanted."""
        if needs.key in self.needed():
            self._begin(needs)
        else:
            del self._failures[needs.key]

    def _tell(self, key: str) -> None:
        for callback in self.on_settled:
            callback(key)

    async def _look_after(self) -> None:
        """Remove old environments, and note which ones are needed, for ever."""
        while True:
            # First of all a pause: at the start no script is known yet.
            await asyncio.sleep(min(_HOUSEKEEPING, max(self._settings.keep / _TOUCHES_PER_KEEP, 0.5)))
            needed = {*self.needed(), *self._builds}
            before = time.time() - self._settings.keep
            try:
                removed = await asyncio.to_thread(self.folder.prune, needed, before)
            except OSError as error:
                logger.warning("old environments cannot be removed now: %s", error)
                removed = []
            self._ready.difference_update(removed)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
