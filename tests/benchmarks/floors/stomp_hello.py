"""A bare STOMP consumer that answers calls: `stomp_hello.py HOST PORT QUEUE`.

100 messages at once; an answer is persistent, and a message acknowledged once the answer's receipt is there.
"""

import json
import signal
import sys

import stomp


def hello(name: str) -> dict[str, str]:
    return {"hello": name}


class Consumer(stomp.ConnectionListener):  # type: ignore[misc] # stomp.py has no types
    def __init__(self, connection: stomp.Connection12) -> None:
        self._connection = connection

    def on_message(self, frame: stomp.utils.Frame) -> None:
        answer = {"result": hello(**json.loads(frame.body)["params"])}
        headers = {"persistent": "true", "receipt": frame.headers["ack"]}
        headers["correlation-id"] = frame.headers["correlation-id"]
        self._connection.send(frame.headers["reply-to"], json.dumps(answer), headers=headers)

    def on_receipt(self, frame: stomp.utils.Frame) -> None:
        self._connection.ack(frame.headers["receipt-id"])


if __name__ == "__main__":
    connection = stomp.Connection12([(sys.argv[1], int(sys.argv[2]))])
    connection.set_listener("", Consumer(connection))
    connection.connect(wait=True)
    connection.subscribe(sys.argv[3], id="1", ack="client-individual", headers={"activemq.prefetchSize": "100"})
    signal.pause()
