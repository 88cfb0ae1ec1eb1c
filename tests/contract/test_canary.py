"""Tokens and secrets are seen nowhere: in no log, record, command line, environment or error text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remoterun.errors import ServiceError
from remoterun.messages import JobQuery, encode
from remoterun.testing import RunningNode, running_node
from tests.contract.wires import DISPATCHER, GATEWAY, SCRIPTS, SETTINGS, WIRES, all_events, call, wait_for_output

SECRET = "correct-horse-battery-staple"
PROCESS_WIRES = [name for name in WIRES if name not in (DISPATCHER, GATEWAY)]


@pytest.fixture(scope="module")
def node(broker_settings: Callable[[str], dict[str, Any]]) -> Iterator[RunningNode]:
    brokers = {section: found for wire in WIRES for section, found in broker_settings(wire).items()}
    with running_node(SCRIPTS, **SETTINGS, **brokers, log_jobs="all") as running:
        yield running


def test_tokens_and_secrets_are_seen_nowhere(node: RunningNode, gate: Path) -> None:
    tokens = {node.token, node.new_token(["run", "read"], name="canary"), node.new_token(["admin"], name="gone")}
    shown: list[str] = []
    for scheme in PROCESS_WIRES:
        for token in sorted(tokens):
            shown += _use(node, scheme, token)
    node.revoke_token("gone")
    with node.connect(PROCESS_WIRES[0], node.token) as client:
        job = client.session.submit(call("secret", {"user": "u", "password": SECRET, "path": str(gate)}))
        waits = client.session.submit(call("gate", {"path": str(gate)}))
        wait_for_output(client.session, waits.id, "waiting")
        everything = {
            "command lines and environments": b"".join(_processes(node.pid)),
            "log": _log_of_calls(node),
            "answers": "".join(shown).encode(),
            "data folder while a job waits": _data(node.data),
        }
        gate.touch()
        assert client.session.wait(job.id).result == {"u": len(SECRET)}
    node.stop()
    everything["data folder"] = _data(node.data)
    everything["log at the end"] = node.log().encode()
    for place, data in everything.items():
        assert len(data) > 100, f"nothing was found in {place}: the test looks in the wrong place"
        for canary in (*tokens, SECRET):
            for form in (canary.encode(), canary[3:-6].encode(), canary.encode().hex().encode()):
                assert form not in data, f"a token or secret is in the {place}"


def _log_of_calls(node: RunningNode) -> bytes:
    log = node.log()
    for line in ("job succeeded job=", "refused: invalid", "refused: unauthenticated"):
        assert line in log, "the calls are not in the log: the test looks in the wrong place"
    return log.encode()


def _use(node: RunningNode, scheme: str, token: str) -> list[str]:
    """Do what can be done, well and badly, and give all that was answered."""
    shown = []
    with node.connect(scheme, token) as client:
        session = client.session
        job = session.run(call("secret", {"user": "u", "password": SECRET}))
        ran = session.run(call("environment"))
        shown += [encode(job).decode(), encode(session.info()).decode(), encode(ran).decode()]
        shown += [encode(event).decode() for event in all_events(session, job.id)]
        shown.append(encode(session.list_jobs(JobQuery())).decode())
        for bad in (call("secret", {"user": "u", "password": SECRET, "more": 1}), call("no/such"), call("hello")):
            try:
                session.run(bad)
            except ServiceError as error:
                shown.append(encode(error.body()).decode())
    try:
        node.connect(scheme, token[:-1] + "~")
    except ServiceError as error:
        shown.append(encode(error.body()).decode())
    return shown


def _processes(pid: int) -> Iterator[bytes]:
    """Give what /proc tells of a process and all below it."""
    folder = Path(f"/proc/{pid}")
    yield (folder / "cmdline").read_bytes()
    yield (folder / "environ").read_bytes()
    for thread in (folder / "task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _processes(int(child))


def _data(folder: Path) -> bytes:
    """Give what is in a data folder, but for the one file that holds a token."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "token")
