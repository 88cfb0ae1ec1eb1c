"""A private RabbitMQ: an ordinary process of ours, on free ports, with its own node name, data and log.

`python -m tests.brokers.rabbitmq FOLDER` runs one until SIGTERM, and writes its address into the folder's file `url`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pika
from pika.adapters.blocking_connection import BlockingChannel

from tests.brokers.proxy import Proxy

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's own wrapper runs as another user, with fixed folders
_START = 60.0  # seconds; Erlang is slow to start on a loaded machine
_STOP = 30.0
_LOOK_EVERY = 0.05

logging.getLogger("pika").setLevel(logging.CRITICAL)  # that a killed broker cannot be reached is no news here

T = TypeVar("T")


class RabbitMQ:
    """A RabbitMQ that tests kill, pause and cut off; `url` leads to it, `proxied_url` through a proxy.

    Parameters:
        folder: where it keeps everything.
        settings: lines of its `rabbitmq.conf`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port, self.tls_port, self._dist_port, self._epmd_port = _free_ports(4)
        self._node = f"remoterun-{secrets.token_hex(4)}@localhost"
        self._epmd: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enabled_plugins").write_text("[].\n")
        self.configure(settings or {})
        self.proxy = Proxy(self.port)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write what its next start reads."""
        lines = {"listeners.tcp.1": f"127.0.0.1:{self.port}", "log.file.level": "info", **settings}
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self.folder / "rabbitmq.conf").write_text(text)

    @property
    def url(self) -> str:
        """The broker's address, with its credentials."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def proxied_url(self) -> str:
        """The address of the proxy in front of it."""
        return f"amqp://guest:guest@127.0.0.1:{self.proxy.port}/%2F"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if self._epmd is None:
            self._epmd = self._spawn(["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"])
        self.process = self._spawn([str(SERVER)])
        self.await_answer()

    def await_answer(self) -> None:
        """Wait until a client can connect."""
        deadline = time.monotonic() + _START
        while True:
            try:
                with self.channel():
                    return
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(_LOOK_EVERY)
            assert self.process is not None
            assert self.process.poll() is None, f"RabbitMQ ended: {self.output()}"
            assert time.monotonic() < deadline, f"RabbitMQ did not start: {self.output()}"

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_STOP)

    def stop(self) -> None:
        """Ask it to stop (SIGTERM), and wait until it has."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(_STOP)

    def restart(self) -> None:
        """Stop it and start it again; clients see 320, `CONNECTION_FORCED`."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections stay, nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End all that was started here."""
        self.proxy.close()
        for process in (self.process, self._epmd):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait(_STOP)
                if process.stdout is not None:
                    process.stdout.close()

    def output(self) -> str:
        """Give what it wrote to stdout and its log."""
        logs = [self.folder / "output.log", *sorted((self.folder / "log").glob("*.log"))]
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in logs if path.exists())

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl` on it, and give what that printed; it takes a second or two."""
        command = [str(SERVER.with_name("rabbitmqctl")), "-n", self._node, *words]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    @contextlib.contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """Open a bare channel of pika's, with confirms, for the time of a `with` block."""
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout = parameters.stack_timeout = 10
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()

    def publish(self, queue: str, body: bytes, **properties: Any) -> None:
        """Publish a persistent message, confirmed."""
        with self.channel() as channel:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)

    def get(self, queue: str, seconds: float = 30.0) -> tuple[pika.BasicProperties, bytes]:
        """Wait for a message, take it, and give its properties and body."""

        def take() -> tuple[pika.BasicProperties, bytes] | None:
            with contextlib.suppress(pika.exceptions.AMQPError), self.channel() as channel:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                return (properties, body) if method and properties and body is not None else None
            return None  # a queue that came back with its broker needs a moment

        return _await(take, f"a message in {queue}", seconds)

    def count(self, queue: str) -> int:
        """Give how many messages wait in a queue."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def consumers(self, queue: str) -> int:
        """Give how many consume a queue; 0 where there is none."""
        try:
            with self.channel() as channel:
                return int(channel.queue_declare(queue, passive=True).method.consumer_count)
        except pika.exceptions.ChannelClosedByBroker:
            return 0

    def delete(self, *queues: str) -> None:
        """Delete queues; their consumers get `basic.cancel`."""
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "output.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # its cookie is there
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_ALLOW_INPUT": "1",  # the shell makes way for Erlang: the pid that we start is the one we kill
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
        }


def _await(condition: Callable[[], T | None], what: str, seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while (found := condition()) is None:
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(_LOOK_EVERY)
    return found


def require() -> None:
    """Skip where there is no RabbitMQ, but fail where CI runs."""
    import pytest  # here, because the demo has no need of it

    absent = missing()
    if absent and os.environ.get("CI") == "true":
        pytest.fail(f"{absent} is missing, and CI must have it")
    if absent:
        pytest.skip(f"{absent} is not installed (Debian, Ubuntu: apt install rabbitmq-server)")


def missing() -> str:
    """Say what is not installed that a RabbitMQ of our own needs; nothing where all is there."""
    absent = [name for name in ("epmd", "erl") if shutil.which(name) is None]
    return ", ".join(absent + ([] if SERVER.exists() else [str(SERVER)]))


def _free_ports(count: int) -> list[int]:
    """Give ports that nobody is given while the broker is down: the system hands out those above 32767 by itself."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found += [port] if port not in found else []
    return found


def main(folder: Path) -> None:
    """Run a broker until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    broker = RabbitMQ(folder)
    try:
        broker.start()
        (folder / "url.new").write_text(broker.url)
        (folder / "url.new").rename(folder / "url")
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    finally:
        broker.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
