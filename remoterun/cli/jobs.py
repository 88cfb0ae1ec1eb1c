"""`remoterun jobs`, `job`, `wait`, `cancel` and `rerun`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime, timedelta

from remoterun.cli.exits import TIMEOUT, exit_code
from remoterun.cli.session import node_session, wants_json
from remoterun.cli.tables import local_time, print_facts, print_table, seconds_between
from remoterun.client import is_plain
from remoterun.errors import Invalid
from remoterun.messages import Job, JobPage, JobQuery, encode
from remoterun.quantities import Duration, format_size
from remoterun.states import State


def jobs_options(parser: ArgumentParser) -> None:
    """Add the options of `jobs`."""
    parser.add_argument("--script", metavar="NAME", help="only of this script")
    parser.add_argument("--state", choices=[state.value for state in State], help="only in this state")
    parser.add_argument("--principal", metavar="NAME", help="only of this caller")
    parser.add_argument("--text", metavar="TEXT", help="only those that mention it: in parameters, result, error …")
    parser.add_argument("--since", metavar="TIME", help="only created since then: 2h, 2026-11-01, 2026-11-01T08:30")
    parser.add_argument("--until", metavar="TIME", help="only created until then")
    parser.add_argument("--before", metavar="ID", help="only created before this job: the next page")
    parser.add_argument("--limit", metavar="N", type=int, default=50, help="at most so many (50)")


def jobs(options: Namespace) -> int:
    """List jobs, newest first."""
    query = JobQuery(
        script=options.script,
        state=None if options.state is None else State(options.state),
        principal=options.principal,
        text=options.text,
        since=moment(options.since, "--since"),
        until=moment(options.until, "--until"),
        before=options.before,
        limit=options.limit,
    )
    with node_session(options) as session:
        page = session.list_jobs(query)
    if wants_json(options):
        print(encode(page).decode())
    else:
        _print_page(page)
    return 0


def job_options(parser: ArgumentParser) -> None:
    """Add the options of `job`."""
    parser.add_argument("id", help="the job's id")


def job(options: Namespace) -> int:
    """Show one job."""
    with node_session(options) as session:
        print_job(session.get_job(options.id), options)
    return 0


def wait_options(parser: ArgumentParser) -> None:
    """Add the options of `wait`."""
    parser.add_argument("id", help="the job's id")
    parser.add_argument("--timeout", metavar="TIME", help="stop waiting after this time, with exit code 124")


def wait(options: Namespace) -> int:
    """Wait for a job's end and exit as it did."""
    timeout = None if options.timeout is None else _duration(options.timeout, "--timeout")
    with node_session(options) as session:
        ended = session.wait(options.id, timeout)
    print_job(ended, options)
    return exit_code(ended) if ended.has_ended else TIMEOUT


def cancel_options(parser: ArgumentParser) -> None:
    """Add the options of `cancel`."""
    parser.add_argument("id", help="the job's id")


def cancel(options: Namespace) -> int:
    """Stop a job, and show it as it ended."""
    with node_session(options) as session:
        print_job(session.cancel(options.id), options)
    return 0


def rerun_options(parser: ArgumentParser) -> None:
    """Add the options of `rerun`."""
    parser.add_argument("id", help="the ended job's id")
    parser.add_argument("--newest", action="store_true", help="run the script's newest version, not the job's")


def rerun(options: Namespace) -> int:
    """Submit the same call again and print the new job's id."""
    with node_session(options) as session:
        again = session.rerun(options.id, options.newest)
    print(encode(again).decode() if wants_json(options) else again.id)
    return 0


def print_job(job: Job, options: Namespace) -> None:
    """Print one job, as JSON where that was asked for."""
    if wants_json(options):
        print(encode(job).decode())
        return
    error = job.error
    print_facts(
        [
            ("id", job.id),
            ("script", job.script),
            ("version", job.version[:12]),
            ("state", job.state),
            ("attempt", str(job.attempt)),
            ("params", None if is_plain(job) else encode(job.params_json).decode()),
            ("args", encode(job.args).decode() if is_plain(job) else None),
            ("result", None if job.result is None else bytes(job.result_json).decode()),
            ("error", None if error is None else f"{error.type}: {error.message}"),
            ("exit code", None if job.exit_code is None else str(job.exit_code)),
            ("created", local_time(job.created)),
            ("started", local_time(job.started) or None),
            ("ended", local_time(job.ended) or None),
            ("took", seconds_between(job.started, job.ended) or None),
            ("by", f"{job.principal} over {job.transport}{job.peer and ' from ' + job.peer} on {job.node}"),
            ("output", format_size(job.output.bytes) + (", cut" if job.output.cut else "")),
            ("artifacts", ", ".join(artifact.name for artifact in job.artifacts) or None),
            ("key", job.key),
            ("rerun of", job.rerun_of),
        ]
    )


def moment(text: str | None, option: str) -> datetime | None:
    """Read a time: an ISO date or time in this machine's zone, or how long ago.

    Raises:
        Invalid: it is neither.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        ago = _duration(text, option)
    try:
        return datetime.now(UTC) - timedelta(seconds=ago)
    except OverflowError as error:
        raise Invalid(f"{option}: {text} ago is before all time") from error


def _duration(text: str, option: str) -> float:
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise Invalid(f"{option}: {error}") from error


def _print_page(page: JobPage) -> None:
    print_table(
        ("ID", "SCRIPT", "STATE", "CREATED", "TOOK", "BY"),
        [
            (job.id, job.script, str(job.state), local_time(job.created), seconds_between(job.started, job.ended),
             job.principal)
            for job in page.jobs
        ],
    )  # fmt: skip
    if page.next is not None:
        print(f"more: --before {page.next}")
