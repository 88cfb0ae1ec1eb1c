"""The parts of the ActiveMQ transport that need no broker: addresses, headers, counts of attempts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.errors import Invalid
from remoterun.messages import FieldError
from remoterun_queue.activemq import headers
from remoterun_queue.activemq.address import Address, parse_url
from remoterun_queue.activemq.attempts import Attempts


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("stomp://broker", Address("broker", 61613)),
        ("stomp+ssl://broker", Address("broker", 61614, is_tls=True)),
        ("stomp://[::1]:7/", Address("::1", 7)),
        ("stomp://a%40b:p%3A%2F@broker:1", Address("broker", 1, login="a@b", passcode="p:/")),
        ("stomp://broker:1?queue=/queue/some%20jobs", Address("broker", 1, queue="/queue/some jobs")),
    ],
)
def test_an_address_is_read(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    ["tcp://broker", "stomp://:pass@", "stomp://:1", "stomp://b:0x", "stomp://b:99999", "stomp://b/q", "stomp://b?x=y"],
)
def test_what_is_no_address_is_said_without_repeating_it(url: str) -> None:
    with pytest.raises(Invalid, match="write it like") as refused:
        parse_url(url)
    assert url not in str(refused.value)


@given(st.text(min_size=1), st.text(min_size=1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_an_address_tells_no_secrets_and_leads_back(login: str, passcode: str, queue: str) -> None:
    secrets = [f"secret {login}", f"secret {passcode}"]
    address = Address("broker", 1, login=secrets[0], passcode=secrets[1], queue=queue)
    for text in (str(address), repr(address), address.url):
        assert "secret" not in text
    assert parse_url(address.url) == Address("broker", 1, queue=queue)


def test_the_key_is_the_publishers_own_or_the_brokers_id() -> None:
    assert headers.key_of({"message-id": "ID:1"}) == "ID:1"
    assert headers.key_of({"message-id": "ID:1", "key": "a"}) == "a"
    assert headers.key_of({"message-id": "ID:1", "key": "a", "remoterun-key": "b"}) == "b"
    assert headers.key_of({"message-id": "ID:1", "key": ""}) == "ID:1"


def test_a_refused_message_keeps_its_headers_and_gets_the_reason() -> None:
    error = Invalid("bad\nparameters\0", fields=[FieldError("name", "it is required")])
    delivered = {
        "message-id": "ID:1",
        "ack": "x",
        "subscription": "y",
        "redelivered": "true",
        "mark": "m",
        "nul": "a\0b",
    }
    assert headers.of_dead(delivered, error) == {
        "mark": "m",
        "nul": "a\N{REPLACEMENT CHARACTER}b",
        "amq-msg-type": "text",
        "remoterun-error": "invalid",
        "remoterun-reason": "bad parameters  (name: it is required)",
        "remoterun-message-id": "ID:1",
    }


@given(st.dictionaries(st.text(), st.text()), st.text())
def test_no_header_breaks_its_frame(delivered: dict[str, str], reason: str) -> None:
    for made in (headers.of_dead(delivered, Invalid(reason)), headers.of_answer(delivered)):
        for name, value in made.items():
            assert "\0" not in name + value
            assert len(name) <= 2000
            assert len(value) <= 2000


def test_an_answer_is_known_by_its_correlation_or_the_message() -> None:
    assert headers.of_answer({"correlation-id": "c", "message-id": "m"})["correlation-id"] == "c"
    assert headers.of_answer({"message-id": "m"})["correlation-id"] == "m"


def test_attempts_count_lives_and_not_deliveries(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    for life in range(1, 4):
        attempts = Attempts(path)
        assert [attempts.begin("a") for _ in range(3)] == [life] * 3
    attempts.settle("a")
    assert Attempts(path).begin("a") == 1


def test_a_life_that_ends_as_it_should_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    for _ in range(3):
        attempts = Attempts(path)
        assert attempts.begin("a") == 1
        attempts.forgive()
    assert Attempts(path).begin("a") == 1
    attempts = Attempts(path)
    assert attempts.begin("a") == 2
    attempts.forgive()
    assert Attempts(path).begin("a") == 2


def test_attempts_survive_a_broken_file_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    path.write_bytes(b"{")
    assert Attempts(path).begin("a") == 1
    assert Attempts(tmp_path / "no" / "attempts").begin("a") == 1


def test_attempts_forget_what_others_have_settled(tmp_path: Path) -> None:
    path = tmp_path / "attempts"
    path.write_bytes(msgspec.json.encode({str(number): 1 for number in range(10_000)}))
    attempts = Attempts(path)
    assert attempts.begin("new") == 1
    kept = msgspec.json.decode(path.read_bytes())
    assert len(kept) == 10_000
    assert "new" in kept
    assert "0" not in kept
