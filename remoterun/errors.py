"""The errors of remoterun: one base, one class for each code that crosses a wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from remoterun.messages import ErrorBody, FieldError

if TYPE_CHECKING:
    from remoterun.messages import Job


class RemoterunError(Exception):
    """Base of every error that remoterun raises on purpose."""


class ServiceError(RemoterunError):
    """Refuse a call; the same code on every wire.

    Parameters:
        message: what is wrong and what to do about it, one line.
        fields: the bad fields of the request, for `invalid`.
        retry_after: seconds after which trying again makes sense.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        fields: Sequence[FieldError] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = tuple(fields)
        self.retry_after = retry_after

    def body(self) -> ErrorBody:
        """Give the error as the value that crosses a wire."""
        return ErrorBody(
            code=self.code,
            message=self.message,
            fields=self.fields,
            retry_after=self.retry_after,
        )


class Unauthenticated(ServiceError):
    """No valid credential was shown."""

    code = "unauthenticated"


class Forbidden(ServiceError):
    """The principal is known and lacks the scope."""

    code = "forbidden"


class NotFound(ServiceError):
    """There is no such script, job or artifact."""

    code = "not_found"


class Invalid(ServiceError):
    """The request itself is wrong; `fields` names each bad field."""

    code = "invalid"


class Conflict(ServiceError):
    """An idempotency key was used before, with another request."""

    code = "conflict"


class Busy(ServiceError):
    """The queue is full; `retry_after` says when to come back."""

    code = "busy"


class TooLarge(ServiceError):
    """The request is larger than this node takes."""

    code = "too_large"


class Unavailable(ServiceError):
    """The node cannot do this now, or this wire cannot do it at all."""

    code = "unavailable"


class Internal(ServiceError):
    """A defect of remoterun itself."""

    code = "internal"


BY_CODE: dict[str, type[ServiceError]] = {
    cls.code: cls
    for cls in (
        Unauthenticated,
        Forbidden,
        NotFound,
        Invalid,
        Conflict,
        Busy,
        TooLarge,
        Unavailable,
        Internal,
    )
}


def from_body(body: ErrorBody) -> ServiceError:
    """Give the exception that a received error body stands for."""
    return BY_CODE.get(body.code, Internal)(body.message, fields=body.fields, retry_after=body.retry_after)


class JobFailed(RemoterunError):
    """Tell a caller of `run` that the job ended otherwise than `succeeded`.

    Parameters:
        job: the finished job, with its error, exit code and traceback.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(job.failure())

    def __str__(self) -> str:
        text = self.job.failure()
        if self.job.error is not None and self.job.error.traceback:
            return f"{text}\n{self.job.error.traceback}"
        return text


class StoreError(RemoterunError):
    """The store cannot be opened; the text says why and what to do."""


class ConfigError(RemoterunError):
    """The configuration is broken; the text names file, line and setting."""
