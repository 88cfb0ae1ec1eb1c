"""A defect of the node's own, on every wire that has a process behind it: told, kept to itself, survived."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remoterun.errors import Internal
from remoterun.testing import RunningNode, running_node
from tests.contract.wires import DISPATCHER, GATEWAY, SCRIPTS, WIRES, call, eventually

DEFECT = """\
from remoterun.store import sqlite


def list_refusals(self, limit):
    raise RuntimeError("the inside story")


sqlite.SqliteStore.list_refusals = list_refusals
"""


@pytest.fixture(scope="module", params=[wire for wire in WIRES if wire not in (DISPATCHER, GATEWAY)])
def scheme(request: pytest.FixtureRequest) -> str:
    scheme: str = request.param
    return scheme


@pytest.fixture(scope="module")
def node(
    scheme: str, tmp_path_factory: pytest.TempPathFactory, broker_settings: Callable[[str], dict[str, Any]]
) -> Iterator[RunningNode]:
    folder: Path = tmp_path_factory.mktemp("defect")
    (folder / "sitecustomize.py").write_text(DEFECT)
    with running_node(SCRIPTS, env={"PYTHONPATH": str(folder)}, **broker_settings(scheme)) as running:
        yield running


def test_a_defect_is_an_internal_error(node: RunningNode, scheme: str) -> None:
    with node.connect(scheme, node.token) as client:
        before = node.log().count("RuntimeError: the inside story")
        with pytest.raises(Internal) as told:
            client.session.list_refusals()
        assert "inside story" not in str(told.value)
        assert "Traceback" not in str(told.value)
        assert eventually(lambda: node.log().count("RuntimeError: the inside story") == before + 1)
        assert client.session.run(call("echo", {"value": 1})).result == 1
