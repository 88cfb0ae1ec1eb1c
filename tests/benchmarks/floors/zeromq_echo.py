"""A ROUTER that sends back what it gets: `zeromq_echo.py PORT`."""

import sys

import zmq

if __name__ == "__main__":
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    router.bind(f"tcp://127.0.0.1:{sys.argv[1]}")
    while True:
        router.send_multipart(router.recv_multipart())
