"""The load generators: wrk for HTTP, redis-benchmark for the socket, loops of our own for the rest; all bounded."""

from __future__ import annotations

import json
import re
import socket
import statistics
import time
from collections.abc import Mapping, Sequence

from measure import MeasureError
from place import Place, RunningNode, output_of, tool

_SECONDS = 2  # that wrk runs


class HttpLoad:
    """POST one body again and again.

    Parameters:
        token: a bearer token, or None.
    """

    def __init__(self, place: Place, port: int, path: str, body: object, token: str | None = None) -> None:
        self._url = f"http://127.0.0.1:{port}{path}"
        lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(json.dumps(body))}"]
        lines.append('wrk.headers["Content-Type"] = "application/json"')
        if token is not None:
            lines.append(f'wrk.headers["Authorization"] = "Bearer {token}"')
        self._script = place.folder / f"load-{port}-{path.strip('/').replace('/', '-')}.lua"
        self._script.touch(0o600)
        self._script.write_text("\n".join(lines) + "\n")

    def rate(self, connections: int) -> float:
        """Give the answers a second.

        Raises:
            MeasureError: there is no wrk, or some answers were no success.
        """
        command = [tool("wrk"), "-t1", f"-c{connections}", f"-d{_SECONDS}s", "-s", str(self._script), self._url]
        said = output_of(command)
        if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
            raise MeasureError(f"{bad[1]} answers of {self._url} were no success")
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        if rate is None or float(rate[1]) == 0:
            raise MeasureError(f"wrk got no answer of {self._url}")
        return float(rate[1])

    def milliseconds(self) -> float:
        """Give the time of one call, one at a time."""
        return 1000 / self.rate(1)


def run_load(place: Place, node: RunningNode, script: str) -> HttpLoad:
    """Give the load that calls a script by HTTP.

    Raises:
        MeasureError: the node has no HTTP.
    """
    if node.http is None:
        raise MeasureError("the node has no transport http")
    return HttpLoad(place, node.http, f"/run/{script}", {"name": "Ada"}, node.token)


def redis_rate(
    port: int, command: Sequence[str], *, connections: int, calls: int, pipeline: int = 1, token: str | None = None
) -> float:
    """Give the answers a second that redis-benchmark counts.

    Raises:
        MeasureError: there is no redis-benchmark, or it was refused.
    """
    line = [tool("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), "-c", str(connections), "-n", str(calls)]
    line += ["-P", str(pipeline), "--csv", *(["-a", token] if token else []), *command]
    found = re.findall(r'^".*?","([\d.]+)"', output_of(line), re.MULTILINE)
    if not found:
        raise MeasureError("redis-benchmark printed no figure")
    return float(found[-1])


def connect_resp(node: RunningNode) -> socket.socket:
    """Give an authenticated connection to a node's socket.

    Raises:
        MeasureError: it has none, or refuses.
    """
    if node.socket is None:
        raise MeasureError("the node has no transport socket")
    connection = connect(node.socket)
    connection.sendall(resp("AUTH", node.token))
    answer = connection.recv(1000)
    if not answer.startswith(b"+OK"):
        raise MeasureError(f"the socket refused the token: {answer!r}")
    return connection


def connect(port: int) -> socket.socket:
    """Give a connection on which what is small is sent at once."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def resp(*words: str) -> bytes:
    """Encode a command of the Redis protocol."""
    parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()


def round_trip(connection: socket.socket, message: bytes, count: int = 2000) -> float:
    """Give the milliseconds from sending a message to its answer, which fits one segment; the median of `count`."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        connection.sendall(message)
        answer = connection.recv(65536)
        times.append(time.perf_counter() - began)
        if not answer or answer.startswith(b"-"):
            raise MeasureError(f"the answer was {answer!r}")
    return statistics.median(times) * 1000


def command_time(command: Sequence[str], *, env: Mapping[str, str] | None = None, count: int = 5) -> float:
    """Give the milliseconds that a command takes; the median of `count` runs."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        output_of(command, env=env)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
