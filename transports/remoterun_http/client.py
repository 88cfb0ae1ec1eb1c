"""The client half: the operations over HTTP, in their blocking shape, on httpx2."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote

import httpx2
import msgspec

from remoterun.errors import Internal, Invalid, ServiceError, Unauthenticated, Unavailable, from_body
from remoterun.incoming import safe_name
from remoterun.messages import (
    ArtifactInfo,
    Backup,
    ErrorBody,
    Event,
    FileOnDisk,
    Job,
    JobPage,
    JobQuery,
    JobRequest,
    MadeToken,
    NewToken,
    NodeInfo,
    Refusal,
    ScriptInfo,
    StateEvent,
    TokenInfo,
    decode,
    encode,
)
from remoterun.service import Artifact, Credential, Service, Session, Token
from remoterun.transport import Target

T = TypeVar("T")

REQUEST_TYPE = "application/vnd.remoterun.job-request+json"
JOB_TYPE = "application/vnd.remoterun.job+json"
_WAIT = 3000.0  # seconds of one wait at the server; a longer one is asked for again
_PAUSES = (0.0, 0.1, 0.3, 1.0, 2.0)  # seconds before a broken stream is resumed; a node restarts within two
_SILENCE = 60.0  # seconds; the node sends a comment every 15
# A `run` may be silent for hours: let the kernel notice that the other end is gone.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]
_LARGEST_EVENT = 64 * 2**20  # bytes


class _Scripts(msgspec.Struct):
    scripts: list[ScriptInfo]


class _Refusals(msgspec.Struct):
    refusals: list[Refusal]


class _Tokens(msgspec.Struct):
    tokens: list[TokenInfo]


class HttpService(Service):
    """A node that is reached over HTTP."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._url = target.url.rstrip("/")
        verify: ssl.SSLContext | bool = True
        if target.ca_file is not None:
            try:
                verify = ssl.create_default_context(cafile=target.ca_file)
            except OSError as error:  # SSLError is one
                raise Unavailable(f"the CA file {target.ca_file} cannot be used: {error}") from error
        try:
            # No proxy, netrc or certificate of the environment's decides where a token goes.
            self._client = httpx2.Client(
                base_url=self._url,
                timeout=target.timeout,
                transport=httpx2.HTTPTransport(verify=verify, trust_env=False, socket_options=_KEEPALIVE),
                trust_env=False,
            )
        except httpx2.InvalidURL as error:
            raise Unavailable(f"{target.url} is no address: {error}") from error
        try:
            self._ask("GET", "/livez")
        except BaseException:
            self._client.close()
            raise

    def authenticate(self, credential: Credential) -> Session:
        if not isinstance(credential, Token):
            raise Unauthenticated(f"{self._url} takes a token; give one")
        if not (credential.value.isascii() and credential.value.isprintable()):
            raise Unauthenticated("the token has characters that no token has")
        session = HttpSession(self, credential)
        session.info()
        return session

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        with self.translated():
            response = self._client.request(method, path, **options)
        check(response)
        return response

    def ask(self, method: str, path: str, *, waits: float | None = 0.0, **options: Any) -> httpx2.Response:
        """Send a request and give its answer, which is no refusal.

        Parameters:
            waits: seconds that the answer may take longer because it waits for a job; None: any time.

        Raises:
            ServiceError: the node refuses, or cannot be reached.
        """
        read = None if waits is None else self._target.timeout + waits
        return self._ask(method, path, timeout=httpx2.Timeout(self._target.timeout, read=read), **options)

    def stream(self, path: str, headers: Mapping[str, str]) -> httpx2.Response:
        """Send a request and give its answer with the body still to be read; close it."""
        timeout = httpx2.Timeout(self._target.timeout, read=_SILENCE)
        request = self._client.build_request("GET", path, headers=headers, timeout=timeout)
        with self.translated():
            response = self._client.send(request, stream=True)
            if response.is_error:
                response.read()
        check(response)
        return response

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate what the driver raises."""
        try:
            yield
        except httpx2.TimeoutException as error:
            raise Unavailable(f"{self._url} did not answer within {self._target.timeout:g} s") from error
        except httpx2.ConnectError as error:
            raise Unavailable(f"nothing answers at {self._url}: {error}") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable(f"the connection to {self._url} broke: {error or type(error).__name__}") from error


class HttpSession(Session):
    """The operations, for the principal of one token."""

    def __init__(self, service: HttpService, token: Token) -> None:
        self._service = service
        # Without a token the node's own refusal is the answer: an empty header would not get that far.
        self._headers = {"Authorization": f"Bearer {token.value}"} if token.value else {}
        self._principal = ""

    @property
    def principal(self) -> str:
        return self._principal

    def info(self, metrics: bool = False) -> NodeInfo:
        response = self._ask("GET", "/info", params={"metrics": "true"} if metrics else None)
        self._principal = unquote(response.headers.get("remoterun-principal", ""))
        return _decoded(response, NodeInfo)

    def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        return _decoded(self._ask("GET", "/scripts", params={"pattern": pattern}), _Scripts).scripts

    def get_script(self, name: str) -> ScriptInfo:
        return _decoded(self._ask("GET", f"/scripts/{quote(name, safe='')}"), ScriptInfo)

    def run(self, request: JobRequest) -> Job:
        return self._call(f"/run/{quote(request.script, safe='')}", request, waits=None)

    def submit(self, request: JobRequest) -> Job:
        return self._call("/jobs", request, waits=0.0)

    def _call(self, path: str, request: JobRequest, waits: float | None) -> Job:
        """Send a job request, its files piece by piece; one with a key once more where the line broke."""
        send = self._call_once if request.key is None else self._call_twice
        return _decoded(send(path, request, waits), Job)

    def _call_once(self, path: str, request: JobRequest, waits: float | None) -> httpx2.Response:
        accept = {"Accept": JOB_TYPE}
        if not request.files:
            headers = {**accept, "Content-Type": REQUEST_TYPE}
            return self._ask("POST", path, content=encode(request), headers=headers, waits=waits)
        with ExitStack() as stack:
            parts = list(_parts(request, stack))
            return self._ask("POST", path, files=parts, headers=accept, waits=waits)

    def get_job(self, job_id: str) -> Job:
        return _decoded(self._ask("GET", _job(job_id)), Job)

    def list_jobs(self, query: JobQuery) -> JobPage:
        params = {name: value for name, value in msgspec.to_builtins(query).items() if value is not None}
        return _decoded(self._ask("GET", "/jobs", params=params), JobPage)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        left = timeout
        while True:
            step = _WAIT if left is None else max(0.0, min(left, _WAIT))
            job = _decoded(self._ask("GET", _job(job_id), params={"wait": f"{step:.3f}"}, waits=step), Job)
            left = None if left is None else left - step
            if job.has_ended or (left is not None and left <= 0):
                return job

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        breaks = 0
        while True:
            try:
                response = self._open_events(job_id, after)
                if response.status_code == 204:
                    return
                for event in self._read_events(response):
                    breaks, after = 0, event.n
                    yield event
                    if isinstance(event, StateEvent) and event.final:
                        return
                broken = Unavailable(f"the events of {job_id} ended before the final one; resume after {after}")
            except Unavailable as error:
                broken = error
            if breaks == len(_PAUSES):
                raise broken
            time.sleep(_PAUSES[breaks])
            breaks += 1

    def cancel(self, job_id: str) -> Job:
        return _decoded(self._ask("POST", f"{_job(job_id)}/cancel", waits=None), Job)

    def rerun(self, job_id: str, newest: bool = False) -> Job:
        params = {"newest": "true" if newest else "false"}
        return _decoded(self._ask("POST", f"{_job(job_id)}/rerun", params=params), Job)

    def open_artifact(self, job_id: str, name: str) -> Artifact:
        infos = {info.name: info for info in self.get_job(job_id).artifacts}
        path = f"{_job(job_id)}/artifacts/{quote(name, safe='')}"
        response = self._service.stream(path, self._headers)
        kind = response.headers.get("content-type", "application/octet-stream")
        size = int(response.headers.get("content-length", "0"))
        info = infos.get(name) or ArtifactInfo(name=name, size=size, media_type=kind)
        return Artifact(info, self._chunks(response))

    def list_refusals(self, limit: int = 50) -> list[Refusal]:
        return _decoded(self._ask("GET", "/refusals", params={"limit": limit}), _Refusals).refusals

    def list_tokens(self) -> list[TokenInfo]:
        return _decoded(self._ask("GET", "/tokens"), _Tokens).tokens

    def new_token(self, wanted: NewToken) -> MadeToken:
        headers = {"Content-Type": "application/json"}
        return _decoded(self._ask("POST", "/tokens", content=encode(wanted), headers=headers), MadeToken)

    def revoke_token(self, name: str) -> None:
        self._ask("DELETE", f"/tokens/{quote(name, safe='')}")

    def backup(self) -> Backup:
        return _decoded(self._ask("POST", "/backups", waits=None), Backup)

    def _ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        return self._service.ask(method, path, headers={**self._headers, **(headers or {})}, **options)

    def _call_twice(self, path: str, request: JobRequest, waits: float | None) -> httpx2.Response:
        """Send a call that has a key: after a broken line once more, as the same job answers."""
        try:
            return self._call_once(path, request, waits)
        except Unavailable as error:
            if not isinstance(error.__cause__, httpx2.TransportError):
                raise
            return self._call_once(path, request, waits)

    def _open_events(self, job_id: str, after: int) -> httpx2.Response:
        headers = {**self._headers, "Accept": "text/event-stream"}
        if after:
            headers["Last-Event-ID"] = str(after)
        return self._service.stream(f"{_job(job_id)}/events", headers)

    def _read_events(self, response: httpx2.Response) -> Iterator[Event]:
        try:
            with self._service.translated():
                for message in httpx2.EventSource(response, max_event_size=_LARGEST_EVENT):
                    if message.event == "problem":
                        raise from_body(_value(message.data, ErrorBody))
                    yield _value(message.data, Event)
        finally:
            response.close()

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        try:
            with self._service.translated():
                yield from response.iter_bytes()
        finally:
            response.close()


def _parts(request: JobRequest, stack: ExitStack) -> Iterator[tuple[str, tuple[str | None, Any, str]]]:
    """Give a request as the parts of a form: its files, after what it is without them."""
    yield "request", (None, encode(msgspec.structs.replace(request, files=None)), REQUEST_TYPE)
    for path, file in (request.files or {}).items():
        content = stack.enter_context(_opened(file)) if isinstance(file, FileOnDisk) else file.data
        yield path, (safe_name(file.name), content, "application/octet-stream")


def _opened(file: FileOnDisk) -> BinaryIO:
    try:
        return open(file.path, "rb")
    except OSError as error:
        raise Invalid(f"{file.path} cannot be read: {error.strerror}") from error


def check(response: httpx2.Response) -> None:
    """Raise the error that a response stands for, if it is one.

    Raises:
        ServiceError: the node refused the request.
        Internal: what answered is no remoterun.
    """
    if response.is_success:
        return
    raise _error(response)


def _error(response: httpx2.Response) -> ServiceError:
    try:
        return from_body(decode(response.content, ErrorBody))
    except msgspec.MsgspecError:
        return Internal(f"{response.url.host} answered {response.status_code}, and not as remoterun does")


def _decoded(response: httpx2.Response, kind: type[T]) -> T:
    value: T = _value(response.content, kind)
    return value


def _value(data: bytes | str, kind: Any) -> Any:
    try:
        return decode(data, kind)
    except msgspec.MsgspecError as error:
        raise Internal(f"the node's answer is not what it should be: {error}") from error


def _job(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"
