"""A TCP echo on asyncio: `tcp_echo.py DESCRIPTOR`, a listening socket."""

import asyncio
import socket
import sys
from typing import cast

import uvloop


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(listening: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(socket.socket(fileno=int(sys.argv[1]))))
