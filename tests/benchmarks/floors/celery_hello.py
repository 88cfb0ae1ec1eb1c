"""The same greeting as a task of Celery's, its answer over the broker too.

`celery_hello.py URL plain|safe worker` works; `… rate COUNT` prints the answers a second, `… ms COUNT` the time of one.
`plain` is Celery as it comes. `safe` gives what the others give: a quorum queue, confirmed publishing, late
acknowledgement, persistent answers.
"""

import statistics
import sys
import time

from celery import Celery, Task

_PATIENCE = 60  # seconds
_WARM = 20
_SAFE = {
    "task_default_queue_type": "quorum",
    "broker_transport_options": {"confirm_publish": True},
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "result_persistent": True,
    "broker_native_delayed_delivery_queue_type": "classic",  # 28 queues that nothing here uses
}
_WORKER = ["--concurrency=2", "--loglevel=ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]


def hello(name: str) -> dict[str, str]:
    return {"hello": name}


def application(url: str, kind: str) -> Celery:
    app = Celery("hello", broker=url, backend="rpc://")
    app.conf.update(task_default_queue=f"celery.{kind}", worker_prefetch_multiplier=50)  # 100 messages at once
    if kind == "safe":
        app.conf.update(_SAFE)
    return app


def seconds_for(task: Task, count: int) -> float:
    began = time.perf_counter()
    answers = [task.delay(name="Ada") for _ in range(count)]
    for answer in answers:
        assert answer.get(timeout=_PATIENCE) == {"hello": "Ada"}
    return time.perf_counter() - began


def main(url: str, kind: str, what: str, count: str = "1") -> None:
    app = application(url, kind)
    task = app.task(name="hello")(hello)
    if what == "worker":
        app.worker_main(["worker", f"--hostname={kind}@localhost", *_WORKER])  # two of one name disturb each other
        return
    seconds_for(task, _WARM)
    if what == "rate":
        print(int(count) / seconds_for(task, int(count)))
    else:
        print(statistics.median(seconds_for(task, 1) for _ in range(int(count))) * 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
