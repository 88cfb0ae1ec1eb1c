"""The scripts of the catalogue that have environments of their own: described once those are there, broken if never."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from remoterun.catalog import requirements
from remoterun.catalog.defect import Defect
from remoterun.catalog.describe import Outcome, Script, broken
from remoterun.catalog.scan import Found
from remoterun.environments import EnvironmentFailed, Environments


class ScriptEnvironments:
    """What becomes of scripts while their environments are built, or cannot be.

    Parameters:
        environments: the node's; None: it has none, and scripts that need one are broken anyway.
    """

    def __init__(self, environments: Environments | None) -> None:
        self._environments = environments

    def must_wait(self, script: Script) -> bool:
        """Whether a script's environment is not there yet."""
        if script.needs is None or self._environments is None:
            return False
        return not self._environments.is_ready(script.needs)

    async def without(self, found: Found, script: Script) -> Outcome | None:
        """Wait for a script's environment; where there will be none, give the script that this breaks."""
        if script.needs is None or self._environments is None:
            return None
        try:
            await self._environments.ready(script.needs)
        except EnvironmentFailed as error:
            defect = Defect(str(error), line=script.needs_line, passing=True)
            failed = replace(broken(script.name, script.info.version, defect), needs=script.needs)
            return Outcome(failed, defect=defect, imports={requirements.lock_of(found.path): ""})
        return None

    def shown(self, script: Script) -> Script:
        """Give a script as broken while its environment cannot be built."""
        if script.needs is None or self._environments is None or script.info.broken is not None:
            return script
        reason = self._environments.failure(script.needs.key)
        if reason is None:
            return script
        text = Defect(reason, line=script.needs_line).reason(f"{script.name}.py")
        return replace(script, info=msgspec.structs.replace(script.info, broken=text))
