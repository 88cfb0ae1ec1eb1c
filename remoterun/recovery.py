"""What a new node does with the jobs that an earlier one left unfinished."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from remoterun.admission import timeout_of
from remoterun.errors import NotFound, ServiceError
from remoterun.live import LiveJob
from remoterun.messages import Job, JobError, StateEvent, now
from remoterun.states import State
from remoterun.store.interface import Extra, Record

if TYPE_CHECKING:
    from remoterun.catalog import Checked, Script
    from remoterun.dispatcher import Dispatcher


async def recover(dispatcher: Dispatcher) -> None:
    """Take up every unfinished job: queued ones wait again, running ones are lost, or retried where they may be."""
    for record in await dispatcher.store.unfinished():
        job = await _revive(dispatcher, record)
        if job is not None:
            dispatcher.take_up(job, record)


async def _revive(dispatcher: Dispatcher, record: Record) -> LiveJob | None:
    """Make a live job of a record; one whose script is gone ends here."""
    old, extra = record.job, record.extra or Extra()
    never_started = old.state is State.QUEUED and old.attempt == 0
    last = 1 if never_started else await dispatcher.store.last_event(old.id)
    try:
        script = await dispatcher.catalog.get_version(old.script, old.version)
        if script.program is None:
            raise NotFound(script.info.broken or "it cannot be run")
        checked = _checked_again(dispatcher, script, old, extra)
    except ServiceError as error:
        _end_unrunnable(dispatcher, record, last, error)
        return None
    job = LiveJob(
        dispatcher,
        script,
        id=old.id,
        params=checked.params if checked else None,
        masked=checked.masked if checked else None,
        args=old.args if isinstance(old.args, tuple) else (),
        stdin=extra.stdin_base64,
        timeout=timeout_of(script, extra.timeout),
        principal=old.principal,
        transport=old.transport,
        peer=old.peer,
        node=dispatcher.name,
        created=old.created,
        extra=record.extra,
        trace=extra.trace,
        key=old.key,
        rerun_of=old.rerun_of,
        last_event=last,
        attempt=old.attempt,
    )
    job.state = old.state
    job.started = old.started
    job.is_stored = True
    return job


def _checked_again(dispatcher: Dispatcher, script: Script, old: Job, extra: Extra) -> Checked | None:
    """Check a record's parameters as they were given, secrets included."""
    if script.parameters is None:
        return None
    if extra.sealed is not None:
        return script.parameters.check(msgspec.json.decode(dispatcher.seal.open(extra.sealed)))
    return script.parameters.check(old.params or {})


def _end_unrunnable(dispatcher: Dispatcher, record: Record, last: int, reason: ServiceError) -> None:
    old = record.job
    state = State.FAILED if old.state is State.QUEUED else State.LOST
    error = JobError(type="ScriptGone", message=reason.message)
    event = StateEvent(job=old.id, n=last + 1, time=now(), state=state, attempt=old.attempt, final=True)
    dispatcher.store.write(msgspec.structs.replace(old, state=state, ended=now(), error=error), record.extra, [event])
