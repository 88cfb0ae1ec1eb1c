"""What a node says about itself and its scripts, on every wire."""

from __future__ import annotations

import pytest

import remoterun
from remoterun.errors import NotFound
from remoterun.transport import installed
from tests.contract.wires import GATEWAY, WIRES, Wire


def test_every_transport_is_held_to_this_contract() -> None:
    for transport in installed().values():
        assert set(transport.schemes) & set(WIRES), f"add one of {transport.schemes} to WIRES"


def test_info_describes_the_node(wire: Wire) -> None:
    info = wire.session("ada").info()
    assert info.version == remoterun.__version__
    assert info.scripts >= 20
    assert info.load.workers == 4
    assert info.load.queue == 10_000
    assert info.load.queued >= 0
    assert info.enforced["time"]
    assert info.node


def test_info_names_the_transports(wire: Wire) -> None:
    transports = wire.session("ada").info().transports
    if wire.name == "dispatcher":
        assert not transports
    else:
        scheme = "http" if wire.name == GATEWAY else wire.name
        assert any(scheme in address for addresses in transports.values() for address in addresses)


def test_the_session_knows_its_principal(wire: Wire) -> None:
    assert wire.session("ada").principal == f"ada.{wire.name}"
    assert wire.session("reader").principal == f"reader.{wire.name}"


def test_scripts_are_listed_by_name(wire: Wire) -> None:
    names = [script.name for script in wire.session("reader").list_scripts()]
    assert names == sorted(names)
    assert {"hello", "argv", "reports/daily", "broken"} <= set(names)
    assert not any("_hidden" in name for name in names)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("hello", ["hello"]),
        ("in_*", ["in_fork", "in_spawn", "in_warm"]),
        ("reports/*", ["reports/daily"]),
        ("*daily", ["reports/daily"]),
        ("no such thing", []),
    ],
)
def test_scripts_are_listed_by_pattern(wire: Wire, pattern: str, expected: list[str]) -> None:
    assert [script.name for script in wire.session("ada").list_scripts(pattern)] == expected


def test_a_function_script_is_described(wire: Wire) -> None:
    script = wire.session("ada").get_script("hello")
    assert script.kind == "function"
    assert script.description == "Greet someone."
    assert "As often as wanted." in script.doc
    assert script.parameters is not None
    assert script.parameters["properties"]["name"]["type"] == "string"
    assert script.parameters["properties"]["times"]["minimum"] == 1
    assert script.parameters["properties"]["times"]["default"] == 1
    assert script.parameters["required"] == ["name"]
    assert script.broken is None
    assert len(script.version) == 64


def test_a_plain_script_is_described(wire: Wire) -> None:
    script = wire.session("ada").get_script("argv")
    assert (script.kind, script.parameters, script.broken) == ("plain", None, None)


def test_settings_of_a_script_are_described(wire: Wire) -> None:
    assert wire.session("ada").get_script("in_warm").isolation == "warm"
    assert wire.session("ada").get_script("one_at_once").concurrency == 1
    assert wire.session("ada").get_script("hurried").timeout == pytest.approx(0.3)
    assert wire.session("ada").get_script("retried").retries == 2


def test_a_listed_script_is_the_same_as_the_described_one(wire: Wire) -> None:
    session = wire.session("ada")
    for listed in session.list_scripts("in_*"):
        described = session.get_script(listed.name)
        assert (described.name, described.version, described.kind) == (listed.name, listed.version, listed.kind)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("broken", "broken.py:1"), ("misset", "isolation"), ("writable", "can be written by everybody")],
)
def test_a_broken_script_says_why(wire: Wire, name: str, reason: str) -> None:
    assert reason in (wire.session("ada").get_script(name).broken or "")


@pytest.mark.parametrize(
    "name",
    [
        "nosuch",
        "_hidden",
        "hello.py",
        "Hello",
        "../hello",
        "reports/../hello",
        "./hello",
        "/hello",
        "reports",
        "reports//daily",
        "hello/",
        "héllo",
        "a" * 5000,
    ],
)
def test_what_is_no_script_is_not_found(wire: Wire, name: str) -> None:
    with pytest.raises(NotFound):
        wire.session("ada").get_script(name)
    assert wire.session("ada").get_script("hello").name == "hello"


def test_a_script_that_is_dropped_into_the_folder_can_be_called(wire: Wire) -> None:
    name = f"dropped_{wire.name}"
    (wire.scripts / f"{name}.py").write_text("def main() -> str:\n    return 'new'\n")
    assert wire.session("ada").get_script(name).kind == "function"
