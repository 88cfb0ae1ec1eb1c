"""`remoterun run` and `remoterun submit`: from words to a job request, and the job's output as it comes."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace

from remoterun.cli.commands import UsageError
from remoterun.cli.exits import INTERRUPTED, exit_code
from remoterun.cli.follow import Display, follow
from remoterun.cli.session import node_session, wants_json
from remoterun.cli.stdin import read_stdin
from remoterun.cli.words import request_fields, settled
from remoterun.errors import Invalid, ServiceError, Unavailable
from remoterun.messages import Job, JobRequest, encode, stdin_fields
from remoterun.quantities import Duration
from remoterun.service import Session


def run_options(parser: ArgumentParser) -> None:
    """Add the options of `run`."""
    parser.usage = f"{parser.prog} NAME [key=value | key:=json | key@file]… [options] [-- argv…]"
    parser.add_argument("words", nargs="*", metavar="NAME key=value", help="the script's name and its parameters")
    parser.add_argument("--timeout", metavar="TIME", help="stop it after this time: 30s, 5m; may only shorten its own")
    parser.add_argument("--key", help="the same key within 24 hours gives the same job")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--stdin", action="store_true", default=None, help="wait for all of standard input")
    choice.add_argument(
        "--no-stdin", dest="stdin", action="store_false", default=None, help="do not read standard input"
    )
    parser.set_defaults(takes_argv=True)


submit_options = run_options


def submit(options: Namespace) -> int:
    """Submit a script and print the job's id."""
    request = request_of(options)
    with node_session(options) as session:
        job = session.submit(settled(request, session))
    print(encode(job).decode() if wants_json(options) else job.id)
    return 0


def run(options: Namespace) -> int:
    """Run a script: stream its output, give its exit code."""
    request = request_of(options)
    display = Display(quiet=wants_json(options))
    job: Job | None = None
    try:
        with node_session(options) as session:
            job = session.submit(settled(request, session))
            ended = _to_the_end(session, job, display)
    except KeyboardInterrupt:
        display.close()
        if job is not None:
            _cancel(options, job, display)
        return INTERRUPTED
    display.finish(ended)
    if wants_json(options):
        print(encode(ended).decode())
    return exit_code(ended)


def request_of(options: Namespace) -> JobRequest:
    """Make the job request that the options of `run` and `submit` are.

    Raises:
        UsageError: no script is named.
        Invalid: a parameter or the timeout cannot be read.
        TooLarge: there is too much on standard input.
    """
    if not options.words:
        raise UsageError("name the script to run; `remoterun ls` shows them all")
    name, *params = options.words
    return JobRequest(
        script=name,
        timeout=_seconds(options.timeout),
        key=options.key,
        trace=os.environ.get("TRACEPARENT"),
        **request_fields(params, options.argv),
        **stdin_fields(read_stdin(options.stdin)),
    )


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise Invalid(f"--timeout: {error}") from error


def _to_the_end(session: Session, job: Job, display: Display) -> Job:
    try:
        follow(session, job.id, display)
        return session.get_job(job.id)
    except Unavailable as error:
        raise Unavailable(
            f"{error.message}; job {job.id} was accepted and goes on: `remoterun logs -f {job.id}`"
        ) from error


def _cancel(options: Namespace, job: Job, display: Display) -> None:
    """Cancel over a connection of its own: the first one stopped in the middle of an answer."""
    print(f"\nremoterun: cancelling job {job.id}; Ctrl-C again leaves it", file=sys.stderr)
    try:
        with node_session(options) as session:
            ended = session.cancel(job.id)
            follow(session, job.id, display)
    except KeyboardInterrupt:
        return
    except ServiceError as error:
        raise type(error)(f"job {job.id} was not cancelled: {error.message}") from error
    display.close()
    if wants_json(options):
        print(encode(ended).decode())
