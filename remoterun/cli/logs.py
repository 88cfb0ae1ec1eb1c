"""`remoterun logs`: what a job wrote, so far or to its end."""

from __future__ import annotations

import queue
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from remoterun.cli.follow import Display
from remoterun.cli.outs import write_all
from remoterun.cli.session import node_session, wants_json
from remoterun.messages import Event, encode
from remoterun.service import Session

_SILENCE = 0.5  # seconds without an event after which a running job has said all that it has so far


def logs_options(parser: ArgumentParser) -> None:
    """Add the options of `logs`."""
    parser.add_argument("id", help="the job's id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    parser.add_argument("--after", metavar="N", type=int, default=0, help="only events with numbers above N")


def logs(options: Namespace) -> int:
    """Print a job's output; with `--json` its events, one a line."""
    display = Display()
    with node_session(options) as session:
        for event in _events(session, options):
            if wants_json(options):
                write_all(1, encode(event) + b"\n")
            else:
                display.show(event)
    display.close()
    return 0


def _events(session: Session, options: Namespace) -> Iterator[Event]:
    job = session.get_job(options.id)
    events = session.events(job.id, options.after)
    return events if options.follow or job.has_ended else _so_far(events)


def _so_far(events: Iterator[Event]) -> Iterator[Event]:
    """Give the events that are there: a log has no mark of its present end, so silence is taken for it."""
    arrived: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for event in events:
                arrived.put(event)
            arrived.put(None)
        except BaseException as error:  # handed to the reader of the queue
            arrived.put(error)

    threading.Thread(target=read, daemon=True, name="remoterun-logs").start()
    while True:
        try:
            item = arrived.get(timeout=_SILENCE)
        except queue.Empty:
            return
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item
