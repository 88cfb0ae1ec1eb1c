"""The shipped scripts that bring packages of their own, in environments made for them, with files in and files out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun.client import Node
from remoterun.errors import Invalid, JobFailed
from remoterun.testing import RunningNode, running_node
from tests.integration.packages import index_environment

SCRIPTS = Path(__file__).parents[2] / "scripts"

PNG = b"\x89PNG\r\n\x1a\n"
PRICES = "day,open,close\n2026-11-02,3,4\n2026-11-03,5,4.5\n2026-11-04,4,6\n"

pytestmark = pytest.mark.timeout(600)  # an index may be far away, and pandas is large


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, env=index_environment()) as running:
        yield running


@pytest.fixture(params=["unix", "http"])
def caller(node: RunningNode, request: pytest.FixtureRequest) -> Iterator[Node]:
    with node.connect(request.param) as client:
        yield client


def test_a_picture_in_a_thumbnail_out(caller: Node, tmp_path: Path) -> None:
    picture = tmp_path / "gradient.png"
    drawn = caller.submit("picture")
    drawn.result()
    picture.write_bytes(drawn.artifact(drawn.job.artifacts[0].name).read())

    job = caller.submit("thumbnail", picture=picture, size=64)
    result = job.result()

    assert max(result["is"]) == 64
    assert result["is"] < result["was"]
    assert job.artifact(result["thumbnail"]).read().startswith(PNG)
    assert job.artifact(result["thumbnail"]).info.media_type == "image/png"
    assert job.rerun().result() == result


def test_what_is_no_picture_fails_by_name(caller: Node, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(JobFailed, match="UnidentifiedImageError"):
        caller.run("thumbnail", picture=tmp_path / "text.png")
    with pytest.raises(Invalid, match="picture"):
        caller.run("thumbnail", size=64)


def test_a_table_in_a_plot_and_statistics_out(caller: Node, tmp_path: Path) -> None:
    table = tmp_path / "prices.csv"
    table.write_text(PRICES)

    job = caller.submit("table_plot", table=table, x="day", columns=["open", "close"])
    result = job.result()

    assert (result["rows"], result["columns"]) == (3, ["open", "close"])
    left = {info.name: info.media_type for info in job.job.artifacts}
    assert {"plot.png", "statistics.csv"} <= left.keys()
    assert job.artifact("plot.png").read().startswith(PNG)
    assert b"mean,4.0" in job.artifact("statistics.csv").read()
    with pytest.raises(JobFailed, match="there is no column 'high'"):
        caller.run("table_plot", table=table, columns=["high"])
