"""A TCP echo with blocking calls, a thread for each connection: `blocking_echo.py DESCRIPTOR`."""

import socket
import sys
import threading


def echo(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(65536):
        connection.sendall(data)


if __name__ == "__main__":
    listening = socket.socket(fileno=int(sys.argv[1]))
    while True:
        threading.Thread(target=echo, args=(listening.accept()[0],), daemon=True).start()
