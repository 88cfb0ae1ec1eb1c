"""Kill the node at any moment of a build; what it leaves is never used, and what waited is run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remoterun.environments import EnvironmentFolder
from remoterun.states import State
from remoterun.testing import running_node
from tests.hostile.harness import sized
from tests.integration.packages import OFFLINE, gated_package, script

KILLS = 8
LATEST = 1.0  # seconds: about as long as a build takes
CODE = "import gated\n\ndef main() -> int:\n    return gated.VALUE\n"


@pytest.mark.timeout(60 + 30 * sized(KILLS))
def test_kills_at_any_moment_of_a_build(place: Path, show: Callable[[str], None]) -> None:
    """Given builds under way, when the node is killed, then no environment is half there and each job succeeds."""
    scripts, data = place / "scripts", place / "data"
    scripts.mkdir()
    package = gated_package(place)
    package.gate.touch()
    dice = random.Random(7)
    submitted: list[str] = []
    half_built = 0
    with running_node(scripts, data=data, env=OFFLINE, workers=2) as node:
        for number in range(sized(KILLS)):
            # The number is in the version that is asked for, so that each script needs an environment of its own.
            (scripts / f"kill{number}.py").write_text(script([package.requirement, f"gated<{number + 2}"], CODE))
            with node.connect() as client:
                submitted.append(client.submit(f"kill{number}").id)
            time.sleep(dice.uniform(0, LATEST))
            node.kill()
            folder = EnvironmentFolder(data / "environments")
            for home in folder.path.glob("[0-9a-f]*"):
                if home.is_dir():
                    assert folder.is_built(home.name), f"{home} has an environment's name and is not whole"
            half_built += len(list(folder.path.glob(".part-*")))
            node.restart()
        with node.connect() as client:
            ends = [client.session.wait(job_id, 60) for job_id in submitted]
        # A job that ran when its node died is lost, as any other; one that waited for its environment is not.
        assert {end.state for end in ends} <= {State.SUCCEEDED, State.LOST}
        assert all(end.started is not None for end in ends)
        assert all(end.result == 1 for end in ends if end.state is State.SUCCEEDED)
    show(f"{sized(KILLS)} kills, {half_built} of them with a build half done; {len(submitted)} jobs, none stuck")
