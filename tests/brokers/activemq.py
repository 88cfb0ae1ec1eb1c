"""A private ActiveMQ: an ordinary process of ours, on a free port, with its own configuration, data and log."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import stomp

from tests.brokers.proxy import Proxy

HOME = Path("/usr/share/activemq")  # of Debian's package
JOBS: Final = "/queue/remoterun.jobs"
DEAD: Final = "/queue/remoterun.dead"
_START = 60.0  # seconds; Java is slow to start on a loaded machine
_STOP = 30.0
_LOOK_EVERY = 0.02

logging.getLogger("stomp.py").setLevel(logging.CRITICAL)  # that a killed broker cannot be reached is no news here

T = TypeVar("T")

# Debian's own configuration has no STOMP connector. Without tcpNoDelay a message of several packets waits 40 ms for a
# delayed ACK. JMX is off: it would open ports beyond loopback.
_CONFIGURATION = """\
<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans
                           http://www.springframework.org/schema/beans/spring-beans.xsd
                           http://activemq.apache.org/schema/core
                           http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="remoterun" dataDirectory="{data}" useJmx="false">
    <persistenceAdapter><kahaDB directory="{data}/kahadb"/></persistenceAdapter>
    {plugins}
    {tls}
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{port}?transport.tcpNoDelay=true"/>
      {tls_connector}
    </transportConnectors>
  </broker>
</beans>
"""

_ONE_USER = """\
<plugins><simpleAuthenticationPlugin anonymousAccessAllowed="false"><users>
  <authenticationUser username="{user}" password="{password}" groups="users,admins"/>
</users></simpleAuthenticationPlugin></plugins>
"""

_TLS = '<sslContext><sslContext keyStore="file:{keystore}" keyStorePassword="{password}"/></sslContext>'
_TLS_CONNECTOR = '<transportConnector name="tls" uri="stomp+ssl://127.0.0.1:{port}"/>'

_LOG = """\
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c{1} %m%n
"""


class Message(NamedTuple):
    """A message as a bare client gets it."""

    headers: Mapping[str, str]
    body: bytes


class Keystore(NamedTuple):
    """A certificate and its key, as Java reads them: a PKCS #12 file with a password."""

    path: Path
    password: str


class ActiveMQ:
    """An ActiveMQ that tests kill, pause and cut off; `url` leads to it, `proxied_url` through a proxy.

    Parameters:
        folder: where it keeps everything.
        user: a name and a password, where it shall want them.
        keystore: with which it speaks TLS, too, at `tls_url`.
    """

    def __init__(self, folder: Path, user: tuple[str, str] | None = None, keystore: Keystore | None = None) -> None:
        self.folder = folder
        self.user = user
        self.port, self._tls_port = _free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "activemq.xml").write_text(self._configuration(keystore))
        (folder / "log4j.properties").write_text(_LOG)
        self.proxy = Proxy(self.port)

    def _configuration(self, keystore: Keystore | None) -> str:
        plugins, tls, connector = "", "", ""
        if self.user is not None:
            plugins = _ONE_USER.format(user=self.user[0], password=self.user[1])
        if keystore is not None:
            tls = _TLS.format(keystore=keystore.path, password=keystore.password)
            connector = _TLS_CONNECTOR.format(port=self._tls_port)
        return _CONFIGURATION.format(
            data=self.folder / "data", port=self.port, plugins=plugins, tls=tls, tls_connector=connector
        )

    @property
    def url(self) -> str:
        """The broker's address, without credentials."""
        return f"stomp://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """The broker's address over TLS."""
        return f"stomp+ssl://127.0.0.1:{self._tls_port}"

    @property
    def proxied_url(self) -> str:
        """The address of the proxy in front of it."""
        return f"stomp://127.0.0.1:{self.proxy.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START
        while not self._answers():
            assert self.process.poll() is None, f"ActiveMQ ended: {self.output()}"
            assert time.monotonic() < deadline, f"ActiveMQ did not start: {self.output()}"
            time.sleep(_LOOK_EVERY)

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
        """Stop it and start it again."""
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
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def output(self) -> str:
        """Give the end of what it wrote."""
        log = self.folder / "output.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    @contextlib.contextmanager
    def client(self) -> Iterator[Bare]:
        """Open a bare connection of stomp.py's for the time of a `with` block."""
        bare = Bare(self.port, self.user)
        try:
            yield bare
        finally:
            bare.close()

    def publish(self, body: bytes | str, to: str = JOBS, **headers: str) -> None:
        """Publish a persistent message; it is on the broker's disk when this returns."""
        with self.client() as client:
            client.publish(body, to, **headers)

    def get(self, queue_name: str = DEAD, seconds: float = 30.0) -> Message:
        """Wait for a message, and take it."""
        with self.client() as client:
            client.subscribe(queue_name)
            return client.get(seconds)

    def drain(self, queue_name: str) -> list[Message]:
        """Take all that waits in a queue."""
        with self.client() as client:
            client.subscribe(queue_name)
            end = uuid.uuid4().hex  # one queue keeps one order
            client.publish(end, queue_name)
            taken = []
            while (message := client.get()).body != end.encode():
                taken.append(message)
            return taken

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()  # stomp.py would log its failures
            with self.client():
                return True
        except (stomp.exception.StompException, OSError):
            return False

    def _command(self) -> list[str]:
        java = shutil.which("java")
        assert java is not None
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # starts in a second
        places = {"home": HOME, "base": self.folder, "data": self.folder / "data"}
        options += [f"-Dactivemq.{name}={place}" for name, place in places.items()]
        options += [f"-Dlog4j.configuration=file:{self.folder / 'log4j.properties'}"]
        start = ["start", f"xbean:file:{self.folder / 'activemq.xml'}"]
        return [java, *options, "-jar", str(HOME / "bin" / "activemq.jar"), *start]


class Bare:
    """A bare client: stomp.py and nothing of ours."""

    def __init__(self, port: int, user: tuple[str, str] | None = None) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._receipts: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.connection = stomp.Connection12(
            [("127.0.0.1", port)], auto_decode=False, reconnect_attempts_max=1, reconnect_sleep_initial=0
        )
        self.connection.set_listener("bare", self)
        self.connection.connect(*(user or ()), wait=True)

    def on_message(self, frame: stomp.utils.Frame) -> None:
        """Keep a message."""
        self.messages.put(Message(frame.headers, frame.body))

    def on_heartbeat_timeout(self) -> None:
        """Be there: stomp.py calls it without looking."""

    def on_receipt(self, frame: stomp.utils.Frame) -> None:
        """Note that the broker has done what it was asked."""
        self._receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame: stomp.utils.Frame) -> None:
        """Note that the broker refuses something."""
        self._receipts.put("")

    def on_disconnected(self) -> None:
        """Note that no more receipts will come."""
        self._receipts.put("")

    def publish(self, body: bytes | str, to: str = JOBS, **headers: str) -> None:
        """Publish a persistent message, and wait until it is on the broker's disk.

        Raises:
            ConnectionError: nobody knows whether it is.
        """
        self.publish_with(body, {name.replace("_", "-"): value for name, value in headers.items()}, to)

    def publish_with(self, body: bytes | str, headers: Mapping[str, str], to: str = JOBS) -> None:
        """Publish with headers of any name; else as `publish`.

        Raises:
            ConnectionError: nobody knows whether the broker has it.
        """
        receipt = uuid.uuid4().hex
        try:
            self.connection.send(to, body, headers={**headers, "persistent": "true", "receipt": receipt})
        except (stomp.exception.StompException, OSError) as error:
            raise ConnectionError(str(error)) from error
        while (got := self._receipts.get(timeout=60)) != receipt:
            if not got:
                raise ConnectionError("the broker refuses the message, or is gone")

    def subscribe(self, to: str) -> None:
        """Consume a queue."""
        self.connection.subscribe(to, id=uuid.uuid4().hex, ack="auto")

    def get(self, seconds: float = 20.0) -> Message:
        """Wait for the next message."""
        return self.messages.get(timeout=seconds)

    def close(self) -> None:
        """Disconnect, once the broker has taken everything."""
        with contextlib.suppress(stomp.exception.StompException, OSError):
            self.connection.disconnect(receipt=uuid.uuid4().hex)


@contextlib.contextmanager
def running_activemq(
    folder: Path, user: tuple[str, str] | None = None, keystore: Keystore | None = None
) -> Iterator[ActiveMQ]:
    """Run a broker for the time of a `with` block."""
    require()
    broker = ActiveMQ(folder, user, keystore)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def require() -> None:
    """Skip where there is no ActiveMQ, but fail where CI runs."""
    import pytest  # here, because the demo starts a broker where no tests are installed

    absent = missing()
    if absent and os.environ.get("CI") == "true":
        pytest.fail(f"{absent} is missing, and CI must have it")
    if absent:
        pytest.skip(f"{absent} is not installed (Debian, Ubuntu: apt install activemq)")


def missing() -> str:
    """Say what is not installed that an ActiveMQ of our own needs; nothing where all is there."""
    absent = [] if shutil.which("java") else ["java"]
    return ", ".join(absent + ([] if (HOME / "bin" / "activemq.jar").exists() else [str(HOME)]))


def eventually(condition: Callable[[], T | None], what: str, seconds: float = 30.0) -> T:
    """Wait until a condition gives something, and give that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(_LOOK_EVERY)
    return found


def _free_ports(count: int) -> list[int]:
    """Give ports that no outgoing connection takes while their broker is dead: those below Linux's own range."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            port = random.SystemRandom().randrange(10_000, 32_000)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
        return ports


def main(folder: Path) -> None:
    """Run a broker until SIGTERM; once it answers, its address is in the file `url`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    broker = ActiveMQ(folder)
    try:
        broker.start()
        (folder / "url.new").write_text(broker.url)
        (folder / "url.new").rename(folder / "url")
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    finally:
        broker.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
