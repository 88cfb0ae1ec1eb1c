"""A bare FastAPI echo in one uvicorn process: `fastapi_echo.py DESCRIPTOR`, a listening socket."""

import socket
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Greeting(BaseModel):
    name: str


@app.post("/run/hello")
async def hello(greeting: Greeting) -> dict[str, str]:
    return {"hello": greeting.name}


if __name__ == "__main__":
    # Given as a socket: of a bare descriptor uvicorn does not know that it is TCP, and sets no TCP_NODELAY.
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="error")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
