"""Addresses as people write them."""

from __future__ import annotations

import pytest

from remoterun.addresses import join, split, without_credentials
from remoterun.errors import Invalid


@pytest.mark.parametrize(
    ("text", "place"),
    [("host:1", ("host", 1)), ("host", ("host", 7)), ("[::1]:2", ("::1", 2)), ("[::1]", ("::1", 7))],
)
def test_an_address_is_split_and_joined(text: str, place: tuple[str, int]) -> None:
    assert split(text, 7) == place
    assert split(join(*place), 0) == place


@pytest.mark.parametrize("text", ["", ":1", "host:x", "host:65536", "host:-1", "[]:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Invalid, match="no address"):
        split(text, 7)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://user:secret@host:5672/%2F", "amqp://host:5672/%2F"),
        ("tcp://host:7460", "tcp://host:7460"),
        ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
        ("stomp://user:se@cret@host", "stomp://host"),
    ],
)
def test_credentials_are_left_out(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
