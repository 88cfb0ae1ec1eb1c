"""CURVE: who has a key that the node knows gets in, and nobody else does."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth

import remoterun
from remoterun.errors import Unauthenticated, Unavailable
from remoterun.testing import NodeDidNotStart, RunningNode, running_node
from tests.contract.wires import SCRIPTS, eventually
from tests.integration.zeromq_sockets import answer, ask, bare, endpoint, is_closed, opened, pull_endpoint

WAIT = 1500  # ms in which an answer would have come to who is let in


@dataclass(frozen=True)
class Keys:
    """A folder of pairs: the node's, those of clients, and that of someone else."""

    folder: Path
    clients: Path

    def options(self, client: str, server: str = "node") -> dict[str, Any]:
        """Give the options of a socket with a client's pair."""
        public, secret = zmq.auth.load_certificate(self.folder / f"{client}.key_secret")
        return {
            "curve_publickey": public,
            "curve_secretkey": secret,
            "curve_serverkey": zmq.auth.load_certificate(self.folder / f"{server}.key")[0],
        }

    def url(self, node: RunningNode, client: str | None, server: str = "node") -> str:
        """Give the node's URL with the names of key files."""
        key = f"&key={self.folder / client}.key_secret" if client else ""
        return f"{node.urls['zmq']}?server_key={self.folder / server}.key{key}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("clients"))
    for name in ("node", "publisher", "ada", "eve", "mallory", "leaver"):
        zmq.auth.create_certificates(made.folder, name)
        (made.folder / f"{name}.key_secret").chmod(0o600)
    for name in ("publisher", "ada", "leaver"):
        (made.clients / f"{name}.key").write_bytes((made.folder / f"{name}.key").read_bytes())
    return made


def section(keys: Keys) -> dict[str, Any]:
    return {"curve_secret": str(keys.folder / "node.key_secret"), "curve_clients": str(keys.clients)}


@pytest.fixture(scope="module")
def node(keys: Keys) -> Iterator[RunningNode]:
    principals = {"publisher": {"scopes": ["run:hello", "read"]}, "leaver": {"scopes": ["run:hello"]}}
    with running_node(SCRIPTS, workers=2, auth_timeout=2, principals=principals, zeromq=section(keys)) as started:
        yield started
        assert "Traceback" not in started.log(), started.log()


def gets_nowhere(node: RunningNode, **options: Any) -> None:
    for kind, address in ((zmq.DEALER, endpoint(node)), (zmq.PUSH, pull_endpoint(node))):
        with opened(kind, address, immediate=True, **options) as stranger:
            assert not stranger.poll(WAIT, zmq.POLLOUT)  # there is never a connection to send on


def test_a_known_key_gets_in_and_shows_a_token(node: RunningNode, keys: Keys) -> None:
    with opened(zmq.REQ, endpoint(node), **keys.options("ada")) as ada:
        assert ask(ada, script="nothing", token=node.token)["ok"] is True
        assert ask(ada, script="nothing")["error"]["code"] == "unauthenticated"


def test_a_key_named_as_a_principal_is_its_credential(node: RunningNode, keys: Keys) -> None:
    with opened(zmq.REQ, endpoint(node), **keys.options("publisher")) as publisher:
        job = ask(publisher, script="hello", params={"name": "Ada"})["job"]
        assert (job["principal"], job["state"]) == ("publisher", "succeeded")
        assert ask(publisher, script="nothing")["error"]["code"] == "forbidden"
        assert ask(publisher, script="nothing", token=node.token)["job"]["principal"] == "first"


def test_a_push_with_a_key_publishes(node: RunningNode, keys: Keys) -> None:
    with opened(zmq.PUSH, pull_endpoint(node), **keys.options("publisher")) as push, node.connect() as client:
        push.send_json({"script": "hello", "params": {"name": "pushed"}})
        assert eventually(lambda: any(job.params == {"name": "pushed"} for job in client.jobs()), 30)
        assert next(job for job in client.jobs() if job.params == {"name": "pushed"}).principal == "publisher"


def test_without_a_key_nobody_gets_in(node: RunningNode) -> None:
    gets_nowhere(node)


def test_with_an_unknown_key_nobody_gets_in(node: RunningNode, keys: Keys) -> None:
    """Given someone who knows the node's key, and has a pair of its own that the node does not know."""
    gets_nowhere(node, **keys.options("eve"))


def test_with_the_wrong_node_s_key_nobody_gets_in(node: RunningNode, keys: Keys) -> None:
    gets_nowhere(node, **keys.options("ada", server="mallory"))


def test_with_a_stolen_public_key_nobody_gets_in(node: RunningNode, keys: Keys) -> None:
    options = keys.options("eve") | {"curve_publickey": keys.options("ada")["curve_publickey"]}
    gets_nowhere(node, **options)


def test_a_node_is_known_by_its_key(node: RunningNode, keys: Keys) -> None:
    """Given someone in the node's place, with another key, a client sends nothing."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as impostor:
        impostor.linger, impostor.curve_server = 0, True
        impostor.curve_secretkey = keys.options("mallory")["curve_secretkey"]
        port = impostor.bind_to_random_port("tcp://127.0.0.1")
        with opened(zmq.DEALER, f"tcp://127.0.0.1:{port}", **keys.options("ada")) as ada:
            ada.send(b"secret")
            assert not impostor.poll(WAIT)


def test_bytes_that_are_no_curve_are_cut_off(node: RunningNode) -> None:
    for data in (b"", b"x" * 300, b"\x01\x00\x0e\x00" + b'{"op":"info"}'):
        with bare(endpoint(node), greeted=False) as line:
            line.sendall(data)
            assert is_closed(line)


def test_a_key_that_is_taken_away_is_worthless_at_once(node: RunningNode, keys: Keys) -> None:
    with opened(zmq.DEALER, endpoint(node), reconnect_ivl=-1, immediate=True, **keys.options("leaver")) as leaver:
        assert ask(leaver, script="hello", params={"name": "Ada"})["ok"] is True
        (keys.clients / "leaver.key").unlink()
        assert eventually(lambda: not leaver.poll(0, zmq.POLLOUT), 30)
    gets_nowhere(node, **keys.options("leaver"))


def test_a_key_that_is_put_there_gets_in_at_once(node: RunningNode, keys: Keys) -> None:
    zmq.auth.create_certificates(keys.folder, "newcomer")
    (keys.clients / "newcomer.key").write_bytes((keys.folder / "newcomer.key").read_bytes())
    with opened(zmq.REQ, endpoint(node), **keys.options("newcomer")) as newcomer:
        assert ask(newcomer, script="nothing", token=node.token)["ok"] is True


def test_our_client_takes_key_files(node: RunningNode, keys: Keys) -> None:
    with remoterun.connect(keys.url(node, "ada"), token=node.token) as connected:
        assert connected.run("hello", name="Ada")["hello"] == "Ada"
        job = connected.submit("steps")
        assert [event.n for event in job.events()] == list(range(1, 1 + len(list(job.events()))))
    with remoterun.connect(keys.url(node, "publisher"), token="") as connected:
        assert connected.session.principal in ("publisher", "first")


def test_our_client_says_what_is_wrong(node: RunningNode, keys: Keys) -> None:
    for url, error, text in (
        (node.urls["zmq"], Unavailable, "server_key"),
        (keys.url(node, None), Unauthenticated, "does not know this CURVE key"),
        (keys.url(node, "eve"), Unauthenticated, "does not know this CURVE key"),
        (keys.url(node, "ada", "mallory"), Unavailable, "does not have the CURVE key"),
        (f"{node.urls['zmq']}?server_key=no-such-file", Unavailable, "no-such-file"),
    ):
        with pytest.raises(error, match=text):
            remoterun.connect(url, token=node.token)


def test_a_secret_that_others_can_read_is_refused(node: RunningNode, keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "ada.key_secret"
    path.write_bytes((keys.folder / "ada.key_secret").read_bytes())
    path.chmod(0o644)
    with pytest.raises(Unavailable, match="chmod 600"):
        remoterun.connect(f"{node.urls['zmq']}?server_key={keys.folder}/node.key&key={path}", token=node.token)
    settings = {**section(keys), "curve_secret": str(path)}
    with pytest.raises(NodeDidNotStart, match="chmod 600"), running_node(SCRIPTS, zeromq=settings):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"curve_clients": ""}, "needs both"),
        ({"curve_secret": ""}, "needs both"),
        ({"curve_clients": "no-such-folder"}, "no-such-folder"),
        ({"curve_secret": "no-such-file"}, "no-such-file"),
    ],
)
def test_half_a_configuration_does_not_start(keys: Keys, change: dict[str, str], text: str) -> None:
    with pytest.raises(NodeDidNotStart, match=text), running_node(SCRIPTS, zeromq=section(keys) | change):
        pass


def test_beyond_loopback_it_needs_curve(keys: Keys, tmp_path: Path) -> None:
    addresses = {"listen": ["0.0.0.0:0"], "pull": []}
    with pytest.raises(NodeDidNotStart, match="without CURVE"), running_node(SCRIPTS, zeromq=addresses):
        pass
    with running_node(SCRIPTS, zeromq=section(keys) | addresses) as node:
        address = endpoint(node).replace("0.0.0.0", "127.0.0.1")
        with opened(zmq.REQ, address, **keys.options("ada")) as ada:
            assert ask(ada, script="nothing", token=node.token)["ok"] is True


def test_streams_hold_their_credit_under_curve_too(node: RunningNode, keys: Keys) -> None:
    with node.connect() as client, opened(zmq.DEALER, endpoint(node), **keys.options("ada")) as ada:
        job = client.submit("steps").wait()
        ada.send_json({"op": "events", "id": "e", "job": job.id, "credit": 1, "token": node.token})
        assert answer(ada)["event"]["n"] == 1
        assert not ada.poll(300)
        ada.send_json({"op": "credit", "id": "e", "n": 100})
        assert answer(ada)["event"]["n"] == 2
