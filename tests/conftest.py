"""The brokers that tests share: each a private one, started when it is first asked for."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.brokers import rabbitmq as brokers
from tests.brokers.activemq import ActiveMQ, running_activemq

# What a shell runs in the background ignores interrupts, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[brokers.RabbitMQ]:
    """Give a RabbitMQ that nobody harms."""
    with _started() as broker:
        yield broker


@pytest.fixture(scope="module")
def own_rabbitmq() -> Iterator[brokers.RabbitMQ]:
    """Give a RabbitMQ that a module may kill, pause and starve."""
    with _started() as broker:
        yield broker


@contextmanager
def _started() -> Iterator[brokers.RabbitMQ]:
    brokers.require()
    with tempfile.TemporaryDirectory(prefix="rr-rabbit-", ignore_cleanup_errors=True) as folder:
        broker = brokers.RabbitMQ(Path(folder))
        try:
            broker.start()
            yield broker
        finally:
            broker.close()


@pytest.fixture(scope="session")
def activemq() -> Iterator[ActiveMQ]:
    """Give an ActiveMQ that nobody kills; those who do start their own."""
    with (
        tempfile.TemporaryDirectory(prefix="rr-activemq-", ignore_cleanup_errors=True) as folder,
        running_activemq(Path(folder)) as broker,
    ):
        yield broker
