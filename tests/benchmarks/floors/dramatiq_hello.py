"""The same greeting as an actor of Dramatiq's, its answer in Redis: Dramatiq has none over RabbitMQ.

`dramatiq_hello.py URL REDIS_PORT plain|confirms worker` works; `… rate COUNT` prints the answers a second, `… ms COUNT`
the time of one. `plain` is Dramatiq as it comes; with `confirms` publishing is confirmed. Its queues are classic ones.
"""

import os
import statistics
import sys
import time

import dramatiq
from dramatiq import cli
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

_PATIENCE = 60_000  # milliseconds
_WARM = 20
_SETTINGS = "DRAMATIQ_HELLO"


def hello(name: str) -> dict[str, str]:
    return {"hello": name}


def actor(url: str, redis: str, kind: str) -> dramatiq.Actor:
    broker = RabbitmqBroker(url=url, confirm_delivery=kind == "confirms")
    broker.add_middleware(Results(backend=RedisBackend(host="127.0.0.1", port=int(redis))))
    dramatiq.set_broker(broker)
    return dramatiq.actor(hello, queue_name=f"dramatiq.{kind}", store_results=True)


def seconds_for(task: dramatiq.Actor, count: int) -> float:
    began = time.perf_counter()
    messages = [task.send(name="Ada") for _ in range(count)]
    for message in messages:
        assert message.get_result(block=True, timeout=_PATIENCE) == {"hello": "Ada"}
    return time.perf_counter() - began


def main(url: str, redis: str, kind: str, what: str, count: str = "1") -> None:
    if what == "worker":
        os.environ[_SETTINGS] = f"{url} {redis} {kind}"
        cli.main(cli.make_argument_parser().parse_args(["dramatiq_hello", "--processes", "2"]))
        return
    task = actor(url, redis, kind)
    seconds_for(task, _WARM)
    if what == "rate":
        print(int(count) / seconds_for(task, int(count)))
    else:
        print(statistics.median(seconds_for(task, 1) for _ in range(int(count))) * 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
elif _SETTINGS in os.environ:  # a worker process of Dramatiq's imports this
    actor(*os.environ[_SETTINGS].split())
