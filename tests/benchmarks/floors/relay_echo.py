"""A TCP echo whose bytes go through a second process, as a call's do: `relay_echo.py DESCRIPTOR`; one connection."""

import os
import socket
import sys


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def relay(connection: socket.socket, worker: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(65536):
        worker.sendall(data)
        connection.sendall(worker.recv(65536))


if __name__ == "__main__":
    listening = socket.socket(fileno=int(sys.argv[1]))
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        listening.close()
        echo(theirs)
    else:
        theirs.close()
        while True:
            relay(listening.accept()[0], ours)
