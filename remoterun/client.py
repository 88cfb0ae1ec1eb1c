"""`connect(url) → Node`: call scripts from Python, over any transport.

Blocking: most callers are scripts, cron jobs, notebooks and web handlers. A node is for one thread at a
time; open one for each thread that calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from remoterun.errors import Forbidden, Invalid, JobFailed, ServiceError
from remoterun.local import data_folder, find_credential, local_url, read_token
from remoterun.messages import (
    Event,
    FieldError,
    Job,
    JobQuery,
    JobRequest,
    NodeInfo,
    OutputEvent,
    ScriptInfo,
    UploadedFile,
    stdin_fields,
)
from remoterun.places import takes_files as takes
from remoterun.plain import plain_params
from remoterun.sending import open_path, read_open, split
from remoterun.service import Artifact, Credential, Service, Session
from remoterun.states import State
from remoterun.transport import Target, for_url


def connect(
    url: str | None = None,
    token: str | None = None,
    *,
    token_file: str | os.PathLike[str] | None = None,
    timeout: float = 10.0,
    ca_file: str | os.PathLike[str] | None = None,
) -> Node:
    """Connect to a node and prove who is calling.

    Parameters:
        url: where the node is, `tcp://host:7460`; by default REMOTERUN_URL, else the Unix socket of the
            node whose data folder is here.
        token: by default the content of `token_file`, else REMOTERUN_TOKEN, else for an address on this
            machine the token in the data folder. The owner of a Unix socket needs none.
        token_file: a file that holds the token.
        timeout: seconds for connecting, and for each answer that does not wait for a job.
        ca_file: PEM file of the authority to trust instead of the system's.

    Raises:
        Unauthenticated: the token is wrong, expired or revoked, or there is none.
        Unavailable: nothing answers there.
        Invalid: no transport speaks this URL.
        ConfigError: the token file cannot be read.
    """
    data = data_folder(os.environ)
    where = url or os.environ.get("REMOTERUN_URL") or local_url(data)
    if token is None and token_file is not None:
        token = read_token(Path(token_file))
    credential = find_credential(where, token, os.environ, data)
    target = Target(where, timeout=timeout, ca_file=None if ca_file is None else os.fspath(ca_file))
    return Node(*open_session(target, credential))


def open_session(target: Target, credential: Credential) -> tuple[Service, Session]:
    """Connect and authenticate; the service is closed again where that fails."""
    service = for_url(target.url).connect(target)
    try:
        return service, service.authenticate(credential)
    except BaseException:
        service.close()
        raise


class Node:
    """A node that one can call; a context manager."""

    def __init__(self, service: Service, session: Session) -> None:
        self._service = service
        self.session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; jobs go on."""
        self.session.close()
        self._service.close()

    def run(self, script: str, /, **params: Any) -> Any:
        """Run a script and give its result: what `main` returned, or the stdout of a plain script as text.

        Parameters:
            script: its name.
            params: its parameters; dates, paths, decimals, UUIDs and dataclasses may be among their values. For one
                that is a file, a path or an open file.

        Raises:
            JobFailed: the job ended otherwise than succeeded; the text holds the remote traceback.
            ServiceError: the call was refused.
        """
        return self.script(script).run(**params)

    def submit(self, script: str, /, **params: Any) -> JobHandle:
        """Submit a script and give its job as soon as that is durable.

        Raises:
            ServiceError: the call was refused.
        """
        return self.script(script).submit(**params)

    def script(
        self,
        name: str,
        *,
        timeout: float | None = None,
        key: str | None = None,
        stdin: bytes | str | None = None,
        args: Sequence[str] | None = None,
        trace: str | None = None,
    ) -> BoundScript:
        """Bind a script to options of the call, apart from its own parameters.

        Parameters:
            timeout: seconds; may only shorten the script's own.
            key: the same key within 24 hours gives the same job.
            stdin: what the script reads from its standard input.
            args: the argv of a plain script.
            trace: a W3C traceparent.
        """
        data = stdin.encode() if isinstance(stdin, str) else stdin
        argv = None if args is None else tuple(args)
        request = JobRequest(script=name, args=argv, timeout=timeout, key=key, trace=trace, **stdin_fields(data))
        return BoundScript(self.session, request)

    def scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        """List the scripts whose names match a glob."""
        return self.session.list_scripts(pattern)

    def describe(self, name: str) -> ScriptInfo:
        """Describe one script, with its parameter schema."""
        return self.session.get_script(name)

    def jobs(self, *, script: str | None = None, state: State | str | None = None) -> Iterator[Job]:
        """Iterate over jobs, newest first, page after page."""
        before: str | None = None
        while True:
            wanted = None if state is None else State(state)
            page = self.session.list_jobs(JobQuery(script=script, state=wanted, before=before))
            yield from page.jobs
            if page.next is None:
                return
            before = page.next

    def job(self, job_id: str) -> JobHandle:
        """Give a handle on a job by its id."""
        return JobHandle(self.session, self.session.get_job(job_id))

    def info(self) -> NodeInfo:
        """Describe the node: version, transports, load."""
        return self.session.info()


class BoundScript:
    """A script with the options of a call, ready to be called with its parameters."""

    def __init__(self, session: Session, request: JobRequest) -> None:
        self._session = session
        self._request = request

    def run(self, /, **params: Any) -> Any:
        """Run it and give its result; see `Node.run`."""
        return value_of(self._session, self._session.run(self._with(params)))

    def submit(self, /, **params: Any) -> JobHandle:
        """Submit it; see `Node.submit`."""
        return JobHandle(self._session, self._session.submit(self._with(params)))

    def _with(self, params: Mapping[str, Any]) -> JobRequest:
        if not params:
            return self._request
        if self._request.args is not None:
            raise Invalid("give named parameters or args, not both")
        fields = self._parted(params)
        return msgspec.structs.replace(self._request, **{**fields, "params": plain_params(fields["params"])})

    def _parted(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Part the parameters into values and files; what is a file, the script's description says."""
        described: list[ScriptInfo | None] = []

        def takes_files(name: str) -> bool:
            if not described:
                described.append(self._described())
            info = described[0]
            return info is not None and takes(name, info.parameters or {})

        return split(params, _may_be_file, takes_files, _as_file, lambda value: value)

    def _described(self) -> ScriptInfo | None:
        try:
            return self._session.get_script(self._request.script)
        except Forbidden:  # one may run what one may not look at; then a path is a text
            return None


class JobHandle:
    """A job, as it stood when last asked for, and what can be done with it."""

    def __init__(self, session: Session, job: Job) -> None:
        self._session = session
        self.job = job

    def __repr__(self) -> str:
        return f"<JobHandle {self.job.id} {self.job.script} {self.job.state}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def state(self) -> State:
        """The job's state when last asked for."""
        return self.job.state

    def refresh(self) -> Job:
        """Ask for the job again and give it as it stands."""
        self.job = self._session.get_job(self.id)
        return self.job

    def wait(self, timeout: float | None = None) -> Job:
        """Give the job once it ended, however it ended, or as it stands after `timeout` seconds."""
        self.job = self._session.wait(self.id, timeout)
        return self.job

    def result(self) -> Any:
        """Wait for the end and give the result, as `Node.run` does.

        Raises:
            JobFailed: it ended otherwise than succeeded.
        """
        return value_of(self._session, self.wait())

    def events(self, after: int = 0) -> Iterator[Event]:
        """Iterate over the events with numbers above `after`, then live ones, to the final one."""
        return self._session.events(self.id, after)

    def output(self) -> bytes:
        """Give what the job wrote to stdout, waiting for its end."""
        return _stdout(self._session, self.id)

    def artifact(self, name: str) -> Artifact:
        """Open a file that the job left; `.read()` gives its bytes."""
        return self._session.open_artifact(self.id, name)

    def cancel(self) -> Job:
        """Stop the job and its whole process tree; give it once it ended."""
        self.job = self._session.cancel(self.id)
        return self.job

    def rerun(self, *, newest: bool = False) -> JobHandle:
        """Submit the same call again, with the same version of the script or its newest."""
        return JobHandle(self._session, self._session.rerun(self.id, newest))


def _may_be_file(value: Any) -> bool:
    return isinstance(value, os.PathLike) or hasattr(value, "read")


def _as_file(name: str, value: Any) -> UploadedFile:
    if not isinstance(value, os.PathLike):
        return read_open(value, name)
    try:
        return open_path(value)
    except OSError as error:
        message = f"{os.fspath(value)} cannot be read: {error.strerror}"
        raise Invalid(f"{name}: {message}", fields=[FieldError(name, message)]) from error


def value_of(session: Session, job: Job) -> Any:
    """Give an ended job's result; for a plain script that left none, its stdout as text.

    Raises:
        JobFailed: it ended otherwise than succeeded.
    """
    if job.state != State.SUCCEEDED:
        raise JobFailed(job)
    result = job.result
    if result is not None or not is_plain(job):
        return result
    return _stdout(session, job.id).decode(errors="replace") if job.output.bytes else ""


def is_plain(job: Job) -> bool:
    """Whether the job runs a plain script: one that has argv and no named parameters."""
    return isinstance(job.params_json, msgspec.UnsetType)


def _stdout(session: Session, job_id: str) -> bytes:
    return b"".join(
        event.raw() for event in session.events(job_id) if isinstance(event, OutputEvent) and event.stream == "stdout"
    )


__all__ = ["BoundScript", "JobFailed", "JobHandle", "Node", "ServiceError", "connect"]
