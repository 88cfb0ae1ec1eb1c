"""Bare sockets of pyzmq, and bare bytes of ZMTP: callers of ZeroMQ that use none of our code."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq

from remoterun.testing import RunningNode

PATIENCE = 30_000  # ms that an answer may take on a busy machine
NULL_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER\x08Identity" + struct.pack(">I", 0)


def endpoint(node: RunningNode) -> str:
    """Give the address of a node's ROUTER as ZeroMQ writes it."""
    return node.urls["zmq"].replace("zmq://", "tcp://")


def pull_endpoint(node: RunningNode) -> str:
    """Give the address of a node's PULL as ZeroMQ writes it."""
    address: str = json.loads(node.ready_file.read_bytes())["pull"][0]
    return address.replace("zmq://", "tcp://")


@contextmanager
def opened(kind: int, address: str, **options: Any) -> Iterator[zmq.Socket[bytes]]:
    """Open a socket that is connected; `options` are its, by their names in pyzmq."""
    with zmq.Context() as context, context.socket(kind) as opened_socket:
        opened_socket.linger = 0
        opened_socket.rcvtimeo = opened_socket.sndtimeo = PATIENCE
        for name, value in options.items():
            setattr(opened_socket, name, value)
        opened_socket.connect(address)
        yield opened_socket


def ask(asking: zmq.Socket[bytes], **message: Any) -> Any:
    """Send a message and give the answer."""
    asking.send_json(message)
    return answer(asking)


def answer(asking: zmq.Socket[bytes]) -> Any:
    """Give the next answer: the JSON of its last frame."""
    return json.loads(asking.recv_multipart()[-1])


@contextmanager
def bare(address: str, *, greeted: bool = True) -> Iterator[socket.socket]:
    """Open a connection that speaks ZMTP by hand, up to the end of the handshake."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE / 1000) as line:
        if greeted:
            shake_hands(line)
        yield line


def shake_hands(line: socket.socket) -> None:
    """Do the handshake, step by step: libzmq closes on who sends ahead."""
    line.sendall(NULL_GREETING)
    receive(line, len(NULL_GREETING))
    line.sendall(frame(READY, command=True))
    _, size = receive(line, 2)
    receive(line, size)


def receive(line: socket.socket, size: int) -> bytes:
    """Receive so many bytes."""
    data = b""
    while len(data) < size:
        piece = line.recv(size - len(data))
        assert piece, "the other side has closed"
        data += piece
    return data


def frame(data: bytes, *, more: bool = False, command: bool = False, size: int | None = None) -> bytes:
    """Write a frame of ZMTP; `size` is what it claims to hold."""
    length = len(data) if size is None else size
    flags = more | command << 2
    if length < 256:
        return bytes([flags, length]) + data
    return bytes([flags | 2]) + struct.pack(">Q", length) + data


def is_closed(line: socket.socket) -> bool:
    """Read to the end; whether the other side closes within the time that an answer may take."""
    try:
        while line.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True
