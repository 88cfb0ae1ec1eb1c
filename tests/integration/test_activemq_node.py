"""A node behind a real ActiveMQ, called by a bare stomp.py: what a message means, and where it goes."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

import remoterun
from remoterun.errors import Unavailable
from remoterun.failpoints import VARIABLE
from remoterun.messages import JobQuery
from remoterun.states import State
from remoterun.testing import NodeDidNotStart, RunningNode, running_node
from tests.brokers.activemq import ActiveMQ, Bare, Keystore, Message, eventually, running_activemq

SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Place:
    """A node, its queues, and a bare client."""

    def __init__(self, node: RunningNode, broker: ActiveMQ, client: Bare, name: str) -> None:
        self.node = node
        self.broker = broker
        self.client = client
        self.jobs = f"/queue/jobs.{name}"
        self.dead = f"/queue/dead.{name}"
        self.answers = f"/queue/answers.{name}"
        client.subscribe(self.answers)
        client.subscribe(self.dead)

    def publish(self, body: Any, **headers: str) -> None:
        """Publish a message to the node's queue; what is no bytes goes as JSON."""
        self.client.publish(body if isinstance(body, bytes) else json.dumps(body), self.jobs, **headers)

    def ask(self, body: Any, **headers: str) -> dict[str, Any]:
        """Publish a message, and wait for its answer."""
        correlation = uuid.uuid4().hex
        self.publish(body, reply_to=self.answers, correlation_id=correlation, **headers)
        answer = self.client.get()
        assert answer.headers["destination"] == self.answers, answer
        assert answer.headers["correlation-id"] == correlation
        assert answer.headers["persistent"] == "true"
        decoded: dict[str, Any] = json.loads(answer.body)
        return decoded

    def refused(self) -> Message:
        """Wait for a message among the refused."""
        message = self.client.get()
        assert message.headers["destination"] == self.dead, message
        assert message.headers["persistent"] == "true"
        return message

    def nothing_is_refused(self) -> bool:
        """Whether there are no more messages among the refused."""
        self.client.publish(b"the end", self.dead)  # one queue keeps one order
        return self.refused().body == b"the end"

    def job_with_key(self, key: str) -> dict[str, Any]:
        """Wait until the node has a job with this key, and give it once it ended."""
        with self.node.connect() as client:
            found = eventually(
                lambda: next((job for job in client.session.list_jobs(JobQuery()).jobs if job.key == key), None),
                f"a job with the key {key}",
            )
            ended = client.session.wait(found.id)
            return {"id": ended.id, "state": ended.state, "result": ended.result, "principal": ended.principal}

    def is_settled(self) -> bool:
        """Whether nothing is left in the node's queue: what it did not acknowledge comes back when it goes."""
        self.node.stop()
        return self.broker.drain(self.jobs) == []


def settings_of(broker: ActiveMQ, name: str, **more: Any) -> dict[str, Any]:
    """Give the settings of a node that takes the jobs of one queue."""
    section = {
        "url": broker.url,
        "queue": f"/queue/jobs.{name}",
        "dead": f"/queue/dead.{name}",
        "principal": "publisher",
    }
    return {
        "principals": {"publisher": {"scopes": ["run:*", "read"]}},
        "workers": 2,
        **more,
        "activemq": {**section, **more.get("activemq", {})},
    }


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex[:8]


@pytest.fixture
def place(activemq: ActiveMQ, name: str) -> Iterator[Place]:
    with running_node(SCRIPTS, **settings_of(activemq, name)) as node, activemq.client() as client:
        yield Place(node, activemq, client, name)


def test_a_plain_message_with_a_way_back_is_answered_with_the_finished_job(place: Place) -> None:
    answer = place.ask({"script": "hello", "params": {"name": "Ada"}}, key="one", traceparent=TRACE)
    assert answer["ok"] is True
    assert answer["state"] == answer["job"]["state"] == "succeeded"
    assert answer["result"] == answer["job"]["result"] == {"hello": "Ada", "times": 1}
    assert answer["job"]["principal"] == "publisher"
    assert answer["job"]["transport"] == "activemq"
    assert answer["job"]["key"] == "one"
    assert place.is_settled()


def test_a_plain_message_without_one_is_a_job_all_the_same(place: Place) -> None:
    place.publish({"script": "hello", "params": {"name": "Ada"}}, remoterun_key="two")
    assert place.job_with_key("two")["result"]["hello"] == "Ada"
    assert place.is_settled()


def test_the_trace_reaches_the_script(place: Place) -> None:
    answer = place.ask({"script": "environment"}, traceparent=TRACE)
    assert TRACE in json.dumps(answer["result"]), answer


def test_a_message_says_its_id_and_op_in_its_body(place: Place) -> None:
    token = place.node.token
    assert place.ask({"op": "info", "id": 7, "token": token})["id"] == 7
    listed = place.ask({"op": "list_scripts", "token": token, "pattern": "hel*"})
    assert [script["name"] for script in listed["scripts"]] == ["hello"]
    submitted = place.ask({"op": "submit", "id": "s", "token": token, "script": "nothing"})
    assert submitted["job"]["principal"] == "first"
    waited = place.ask({"op": "wait", "token": token, "job": submitted["job"]["id"]})
    assert waited["job"]["state"] == "succeeded"


def test_a_duplicate_is_the_same_job(place: Place) -> None:
    request = {"script": "hello", "params": {"name": "Ada"}}
    answers = [place.ask(request, key="again") for _ in range(3)]
    assert len({answer["job"]["id"] for answer in answers}) == 1
    assert place.ask({**request, "key": "other"}, key="again")["job"]["id"] != answers[0]["job"]["id"]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"\xff\x00 no JSON", "invalid", "the message is no request"),
        (b"[]", "invalid", "the message is no request"),
        ({"script": "hello", "params": {"name": "A"}, "more\0": 1}, "invalid", "more"),
        ({"script": "no/such"}, "not_found", "no/such"),
        ({"script": "hello", "params": {"times": 1}}, "invalid", "name: it is required"),
        ({"script": "hello", "params": {"name": "A"}, "token": "rr_wrong"}, "unauthenticated", "no token of remoterun"),
        ({"op": "frobnicate"}, "invalid", "frobnicate"),
        (b'{"script": "cat", "stdin": "%b"}' % (b"x" * 2**20), "too_large", "1048"),
    ],
    ids=[
        "no json",
        "no object",
        "unknown field",
        "unknown script",
        "bad parameters",
        "bad token",
        "unknown op",
        "large",
    ],
)
def test_a_refused_message_is_put_aside_with_the_reason(place: Place, body: Any, code: str, reason: str) -> None:
    place.publish(body, key="k:1", mark="a\\b:c\nd")
    refused = place.refused()
    assert refused.body == (body if isinstance(body, bytes) else json.dumps(body).encode())
    assert refused.headers["remoterun-error"] == code
    assert reason in refused.headers["remoterun-reason"]
    assert refused.headers["remoterun-message-id"].startswith("ID:")
    assert refused.headers["mark"] == "a\\b:c\nd"
    assert refused.headers["key"] == "k:1"
    assert place.is_settled()
    assert place.nothing_is_refused()


def test_who_may_not_is_refused(activemq: ActiveMQ, name: str) -> None:
    settings = settings_of(activemq, name, principals={"publisher": {"scopes": ["run:hello"]}})
    with running_node(SCRIPTS, **settings) as node, activemq.client() as client:
        place = Place(node, activemq, client, name)
        assert place.ask({"script": "hello", "params": {"name": "Ada"}})["state"] == "succeeded"
        place.publish({"script": "nothing"})
        assert place.refused().headers["remoterun-error"] == "forbidden"


def test_without_a_principal_a_message_needs_a_token(activemq: ActiveMQ, name: str) -> None:
    with (
        running_node(SCRIPTS, **settings_of(activemq, name, activemq={"principal": ""})) as node,
        activemq.client() as client,
    ):
        place = Place(node, activemq, client, name)
        place.publish({"script": "nothing"})
        refused = place.refused()
        assert refused.headers["remoterun-error"] == "unauthenticated"
        assert "principal in section [activemq]" in refused.headers["remoterun-reason"]
        assert place.ask({"script": "nothing", "token": node.token})["state"] == "succeeded"


def test_a_refused_message_with_a_way_back_is_answered_too(place: Place) -> None:
    place.publish({"script": "no/such"}, reply_to=place.answers)
    messages = {message.headers["destination"]: message for message in (place.client.get(), place.client.get())}
    assert messages[place.dead].headers["remoterun-error"] == "not_found"
    answer = json.loads(messages[place.answers].body)
    assert (answer["ok"], answer["error"]["code"]) == (False, "not_found")


def test_an_error_in_a_conversation_is_only_answered(place: Place) -> None:
    answer = place.ask({"op": "get_job", "id": "j", "token": place.node.token, "job": "no such job"})
    assert (answer["id"], answer["ok"], answer["error"]["code"]) == ("j", False, "not_found")
    assert place.is_settled()
    assert place.nothing_is_refused()


def test_events_come_in_order_and_end(place: Place) -> None:
    job = place.ask({"script": "steps"})["job"]["id"]
    asked = {"op": "events", "id": "e", "token": place.node.token, "job": job}
    place.publish(asked, reply_to=place.answers)
    numbers = []
    while "event" in (answer := json.loads(place.client.get().body)):
        numbers.append(answer["event"]["n"])
    assert answer == {"id": "e", "ok": True, "end": True}
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 4


def test_a_message_waits_while_the_node_has_no_room(activemq: ActiveMQ, name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    settings = settings_of(activemq, name, workers=1, queue=0)
    with running_node(SCRIPTS, **settings) as node, activemq.client() as client:
        place = Place(node, activemq, client, name)
        place.publish({"script": "gate", "params": {"path": str(gate)}}, key="first")
        with node.connect() as direct:
            eventually(lambda: direct.info().load.running, "the first job runs")
            for number in range(5):
                place.publish({"script": "nothing"}, key=f"held {number}")
            answer = place.ask({"op": "submit", "token": node.token, "script": "nothing"})
            assert answer["error"]["code"] == "busy"
            assert len(list(direct.jobs())) == 1
            gate.touch()
        assert {place.job_with_key(f"held {number}")["state"] for number in range(5)} == {State.SUCCEEDED}
        assert place.is_settled()
        assert place.nothing_is_refused()


def test_an_answer_that_nobody_can_take_disturbs_nothing(place: Place) -> None:
    place.publish({"script": "nothing"}, reply_to="/remote-temp-queue/ID:gone-1-1:1", key="to nobody")
    assert place.job_with_key("to nobody")["state"] == "succeeded"
    assert place.ask({"script": "nothing"})["state"] == "succeeded"
    assert place.is_settled()
    assert place.nothing_is_refused()


def test_an_answer_to_the_node_itself_makes_no_loop(place: Place) -> None:
    place.publish({"script": "nothing"}, reply_to=place.jobs, key="to myself")
    refused = place.refused()
    assert json.loads(refused.body)["job"]["key"] == "to myself"
    assert refused.headers["remoterun-error"] == "invalid"
    assert place.ask({"script": "nothing"})["state"] == "succeeded"
    assert place.is_settled()


def has_ended(node: RunningNode) -> bool:
    return node.process is not None and node.process.poll() is not None


def test_a_message_that_kills_the_node_is_put_aside(activemq: ActiveMQ, name: str, tmp_path: Path) -> None:
    deadly = {VARIABLE: "store.before_commit=kill"}  # the job is never recorded, so the message comes again
    settings = settings_of(activemq, name, activemq={"attempts": 3})
    deaths = 0
    with (
        running_node(SCRIPTS, data=tmp_path / "data", env=deadly, **settings) as node,
        activemq.client() as client,
    ):
        client.subscribe(f"/queue/dead.{name}")
        client.publish(json.dumps({"script": "nothing"}), f"/queue/jobs.{name}")
        while client.messages.empty():
            eventually(lambda: has_ended(node) or not client.messages.empty(), "the node ends, or puts it aside")
            if has_ended(node):
                deaths += 1
                with contextlib.suppress(NodeDidNotStart):  # killed before it was ready
                    node.start()
        refused = client.get()
        assert refused.headers["remoterun-error"] == "internal"
        assert "3 nodes" in refused.headers["remoterun-reason"]
        assert deaths == 4
        assert node.stop() == 0
    assert activemq.drain(f"/queue/jobs.{name}") == []


def test_a_node_starts_without_its_broker_and_finds_it_later(tmp_path: Path, name: str) -> None:
    broker = ActiveMQ(tmp_path / "broker")
    try:
        with running_node(SCRIPTS, **settings_of(broker, name)) as node:
            assert f"[activemq] {broker.url} cannot be reached: Connection refused" in node.log()
            with node.connect() as client:
                assert client.run("echo", value=1) == 1
                assert client.info().brokers["activemq"].startswith("down: ")
            broker.start()
            with broker.client() as client:
                assert Place(node, broker, client, name).ask({"script": "nothing"})["state"] == "succeeded"
            with node.connect() as client:
                assert client.info().brokers["activemq"] == "up"
            assert node.log().count("cannot be reached") == 1
    finally:
        broker.close()


def test_it_is_off_until_it_has_a_url() -> None:
    with running_node(SCRIPTS) as node:
        assert "stomp" not in node.urls
        with node.connect() as client:
            assert "activemq" not in client.info().transports


@pytest.mark.parametrize("url", ["amqp://127.0.0.1:5672", "stomp://", "stomp://127.0.0.1:x", "stomp://h/queue/jobs"])
def test_a_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(NodeDidNotStart, match=r"\[activemq\] url: the address is no STOMP broker's"):
        running_node(SCRIPTS, activemq={"url": url}).__enter__()


USER = ("ada", "pass word:\\")


def test_a_broker_that_wants_a_password_gets_it(tmp_path: Path, name: str) -> None:
    with running_activemq(tmp_path / "broker", USER) as broker:
        given = {"login": USER[0], "passcode": USER[1]}
        with (
            running_node(SCRIPTS, **settings_of(broker, name, activemq=given, log_level="debug")) as node,
            broker.client() as client,
        ):
            assert Place(node, broker, client, name).ask({"script": "nothing"})["state"] == "succeeded"
            with_user = node.urls["stomp"].replace("//", f"//{USER[0]}:{quote(USER[1], safe='')}@")
            with remoterun.connect(with_user, token=node.token) as caller:
                assert caller.run("echo", value=1) == 1
            with pytest.raises(Unavailable, match=r"refuses the connection: .*password") as refused:
                remoterun.connect(with_user.replace("pass", "wrong"), token=node.token)
            assert "wrong" not in str(refused.value)
            assert USER[1] not in node.log()


def test_a_wrong_password_is_named(tmp_path: Path, name: str) -> None:
    with running_activemq(tmp_path / "broker", USER) as broker:
        settings = settings_of(broker, name, activemq={"login": "ada", "passcode": "hunter2"})
        with running_node(SCRIPTS, **settings) as node:
            assert f"[activemq] {broker.url} refuses the connection: User name [ada] or password" in node.log()
            assert "hunter2" not in node.log()


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ActiveMQ, str]]:
    folder = tmp_path_factory.mktemp("tls")
    keystore, ca = make_keystore(folder)
    with running_activemq(folder / "broker", keystore=keystore) as broker:
        yield broker, ca


def make_keystore(folder: Path) -> tuple[Keystore, str]:
    """Make a certificate of 127.0.0.1 that is its own authority, for Java and for us."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "remoterun tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    ca = folder / "ca.pem"
    ca.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    store = folder / "store.p12"
    encryption = serialization.BestAvailableEncryption(b"secret")
    store.write_bytes(pkcs12.serialize_key_and_certificates(b"broker", key, made, None, encryption))
    return Keystore(store, "secret"), str(ca)


def test_over_tls_it_is_the_same(tls_broker: tuple[ActiveMQ, str], name: str) -> None:
    broker, ca = tls_broker
    settings = settings_of(broker, name, activemq={"url": broker.tls_url, "ca": ca, "heartbeat": "500ms"})
    with running_node(SCRIPTS, **settings) as node, broker.client() as client:
        place = Place(node, broker, client, name)
        assert place.ask({"script": "nothing"})["state"] == "succeeded"
        assert node.urls["stomp+ssl"].startswith(broker.tls_url)
        with remoterun.connect(node.urls["stomp+ssl"], token=node.token, ca_file=ca) as caller:
            for value in (1, "x" * 300_000):
                assert caller.run("echo", value=value) == value
            events = [event.n for event in caller.submit("steps").events()]
            assert events == list(range(1, len(events) + 1))
        broker.restart()
        with broker.client() as other:
            assert Place(node, broker, other, name).ask({"script": "nothing"})["state"] == "succeeded"
        assert node.stop() == 0


def test_a_certificate_that_is_not_trusted_is_named(tls_broker: tuple[ActiveMQ, str], name: str) -> None:
    broker, _ = tls_broker
    with running_node(SCRIPTS, **settings_of(broker, name, activemq={"url": broker.tls_url})) as node:
        assert f"[activemq] {broker.tls_url} cannot be reached: " in node.log()
        assert "certificate verify failed" in node.log()
    with pytest.raises(Unavailable, match="certificate verify failed"):
        remoterun.connect(broker.tls_url, token="rr_x")


def test_where_no_broker_is_the_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unavailable, match=f"stomp://127.0.0.1:{port} took the connection and did not speak STOMP"):
            remoterun.connect(f"stomp://ada:secret@127.0.0.1:{port}", token="rr_x", timeout=0.3)
    with pytest.raises(Unavailable, match=f"stomp://127.0.0.1:{port} cannot be reached: Connection refused"):
        remoterun.connect(f"stomp://ada:secret@127.0.0.1:{port}", token="rr_x")


def test_where_no_node_takes_messages_the_address_is_named(activemq: ActiveMQ, name: str) -> None:
    with pytest.raises(Unavailable, match=f"stomp://127.0.0.1:{activemq.port}: no answer within 0.3 s"):
        remoterun.connect(f"{activemq.url}?queue=/queue/jobs.{name}", token="rr_x", timeout=0.3)
