"""What `remoterun check` finds out about environments: whether they can be had; with `--build` they are built."""

from __future__ import annotations

from collections.abc import Callable

from remoterun.environments.equipment import equip
from remoterun.environments.folder import EnvironmentFolder
from remoterun.environments.needs import Needs
from remoterun.environments.plan import Phase
from remoterun.environments.process import build


class EnvironmentCheck:
    """Looks at each environment once, however many scripts share it.

    Parameters:
        folder: where they are.
        resolve: whether to ask uv; else every environment is taken to be possible.
        build: whether to build what is not there.
        timeout: seconds for each; 0: no limit.
        on_phase: hears what is done for which script.
    """

    def __init__(
        self,
        folder: EnvironmentFolder,
        *,
        resolve: bool = True,
        build: bool = False,
        timeout: float = 0,
        on_phase: Callable[[str, Phase], None] = lambda script, phase: None,
    ) -> None:
        self.folder = folder
        self._resolve = resolve
        self._build = build
        self._timeout = timeout
        self._on_phase = on_phase
        self._known: dict[str, str | None] = {}

    async def why_not(self, needs: Needs) -> str | None:
        """Give the reason why there can be no such environment, or None."""
        if needs.key not in self._known:
            self._known[needs.key] = await self._look(needs)
        return self._known[needs.key]

    async def _look(self, needs: Needs) -> str | None:
        if not self._resolve:
            return None
        self.folder.prepare()
        if not self.folder.is_built(needs.key):
            reason = await build(
                needs,
                self.folder,
                self._timeout,
                lambda phase: self._on_phase(needs.script, phase),
                only_resolve=not self._build,
            )
            if reason is not None or not self._build:
                return reason
        equip(self.folder.home(needs.key), self.folder.typed(needs.key))
        return None
