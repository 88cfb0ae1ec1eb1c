"""Real packages from the real index, in real environments."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from remoterun.environments.uv import find_uv
from remoterun.errors import JobFailed, Unavailable
from remoterun.messages import ProgressEvent
from remoterun.testing import running_node
from tests.integration.packages import index_environment, script

pytestmark = pytest.mark.timeout(300)  # an index may be far away

VERSION = "import six\n\ndef main() -> str:\n    return six.__version__\n"
MODULES = """\
    import sys

    BEFORE = sorted({"PIL.Image", "six"} & sys.modules.keys())

    from PIL import Image

    def main(width: int) -> dict[str, object]:
        picture = Image.new("RGB", (200, 100))
        picture.thumbnail((width, width))
        return {"preloaded": BEFORE, "size": picture.size}
    """


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    return folder


def lock(path: Path, *arguments: str) -> None:
    """Write a script's lock file, as its author does."""
    command = [find_uv(), "lock", "--quiet", "--script", str(path), "--python", sys.executable, *arguments]
    subprocess.run(command, check=True, env={**environment(), "UV_PYTHON_DOWNLOADS": "never"})


def environment() -> dict[str, str]:
    import os

    return {**os.environ, **index_environment()}


def test_conflicting_versions_run_side_by_side(scripts: Path) -> None:
    for name, version in (("old", "1.16.0"), ("new", "1.17.0")):
        (scripts / f"{name}.py").write_text(script([f"six=={version}"], VERSION, isolation='"warm"'))
    with running_node(scripts, env=index_environment()) as node, node.connect() as client:
        jobs = [client.submit(name) for name in ("old", "new", "old", "new")]
        assert [job.wait().result for job in jobs] == ["1.16.0", "1.17.0", "1.16.0", "1.17.0"]
        assert [client.run("old"), client.run("new")] == ["1.16.0", "1.17.0"]


def test_a_package_is_preloaded_in_its_environments_fork_server(scripts: Path) -> None:
    (scripts / "picture.py").write_text(script(["pillow>=10"], MODULES, preload='["PIL.Image"]'))
    with running_node(scripts, env=index_environment()) as node, node.connect() as client:
        assert client.run("picture", width=50) == {"preloaded": ["PIL.Image"], "size": [50, 25]}


def test_a_package_that_does_not_exist_is_named_by_the_index(scripts: Path) -> None:
    (scripts / "bad.py").write_text(script(["remoterun-there-is-no-such-package"], VERSION))
    with running_node(scripts, env=index_environment()) as node, node.connect() as client:
        with pytest.raises(JobFailed, match="remoterun-there-is-no-such-package was not found"):
            client.run("bad")
        with pytest.raises(Unavailable, match=r"bad\.py:2: .*remoterun-there-is-no-such-package was not found"):
            client.run("bad")


def test_a_lock_file_is_honoured_and_a_stale_one_refused(scripts: Path) -> None:
    path = scripts / "locked.py"
    path.write_text(script(["six"], VERSION))
    lock(path, "--upgrade-package", "six==1.15.0")
    with running_node(scripts, env=index_environment()) as node, node.connect() as client:
        assert client.run("locked") == "1.15.0"
        path.write_text(script(["six>=1.17"], VERSION))
        with pytest.raises(JobFailed, match=r"locked\.py\.lock is out of date: .*; type: uv lock --script locked\.py"):
            client.run("locked")
        assert "is out of date" in (client.describe("locked").broken or "")
        lock(path, "--upgrade-package", "six==1.17.0")
        wait_until_not_broken(client, "locked")
        assert client.run("locked") == "1.17.0"
        path.with_name("locked.py.lock").unlink()
        path.write_text(script(["six==1.16.0"], VERSION))
        assert client.run("locked") == "1.16.0"


def wait_until_not_broken(client: object, name: str) -> None:
    deadline = time.monotonic() + 60
    while client.describe(name).broken is not None:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_index_that_cannot_be_reached_is_a_clear_error(scripts: Path, tmp_path: Path) -> None:
    (scripts / "far.py").write_text(script(["six"], VERSION))
    env = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0", "UV_CACHE_DIR": str(tmp_path / "c")}
    with running_node(scripts, env=env) as node, node.connect() as client, pytest.raises(JobFailed) as caught:
        client.run("far")
    assert "http://127.0.0.1:9/simple/six/" in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_a_python_that_is_not_there_is_named(scripts: Path) -> None:
    (scripts / "new.py").write_text('# /// script\n# requires-python = ">=3.99"\n# ///\nprint("hi")\n')
    with running_node(scripts) as node, node.connect() as client:
        with pytest.raises(JobFailed, match=r"EnvironmentFailed: it requires Python >=3\.99, .* this machine has 3\."):
            client.run("new")
        assert "new.py:2: " in (client.describe("new").broken or "")


def test_a_python_that_is_too_old_for_us_is_refused(scripts: Path) -> None:
    (scripts / "old.py").write_text('# /// script\n# requires-python = "<3.11"\n# ///\nprint("hi")\n')
    with running_node(scripts) as node, node.connect() as client, pytest.raises(JobFailed) as caught:
        client.run("old")
    assert "EnvironmentFailed: it requires Python <3.11, scripts run under 3.11 or newer" in str(caught.value)


def test_progress_of_a_first_call_ends_where_the_scripts_own_begins(scripts: Path) -> None:
    code = "from remoterun import script\n\ndef main() -> None:\n    script.progress(5, 5, 'done')\n"
    (scripts / "steps.py").write_text(script(["six==1.16.0"], code))
    with running_node(scripts, env=index_environment()) as node, node.connect() as client:
        job = client.submit("steps")
        assert job.wait().progress is not None
        said = [event.message for event in job.events() if isinstance(event, ProgressEvent)]
        assert said[-3:] == ["resolving dependencies", "installing 1 package", "done"]


TABLE = """\
    import io

    import matplotlib

    matplotlib.use("Agg")

    import matplotlib.pyplot as plt
    import pandas

    from remoterun import script

    def main(csv: str) -> dict[str, float]:
        table = pandas.read_csv(io.StringIO(csv))
        table.plot(x="day", y="count")
        plt.savefig(script.artifact("plot.png"))
        return table.groupby("day")["count"].sum().to_dict()
    """


@pytest.mark.timeout(600)
def test_a_table_in_a_table_and_a_plot_out(scripts: Path) -> None:
    (scripts / "table.py").write_text(
        script(["pandas", "matplotlib"], TABLE, preload='["pandas", "matplotlib.pyplot"]')
    )
    with running_node(scripts, env=index_environment()) as node, node.connect() as client:
        job = client.submit("table", csv="day,count\n1,2\n2,3\n2,4\n")
        ended = job.wait()
        assert ended.result == {"1": 2, "2": 7}
        assert job.artifact("plot.png").read().startswith(b"\x89PNG")
