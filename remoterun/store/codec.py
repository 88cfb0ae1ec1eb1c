"""A job as bytes in the database, and back; pure.

JSON of a script's own may hold what msgspec copies and then refuses to read: `json.dumps` writes NaN, and
a file's name that is no UTF-8 as an unpaired surrogate. A job with such JSON is kept in a sealed form,
so that it can be read, and so that every page of jobs that it is on can be.
"""

from __future__ import annotations

from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType, structs

from remoterun.messages import NULL, Job, decode, encode


class _Sealed(Struct, frozen=True, array_like=True):
    """A job without its undecoded JSON, and that JSON as bytes."""

    job: Job
    params: bytes | None
    result: bytes


def encode_job(job: Job) -> bytes:
    """Encode a job.

    Raises:
        UnicodeEncodeError, TypeError, ValueError: a value cannot be written as JSON.
    """
    params = None if isinstance(job.params_json, UnsetType) else job.params_json
    if (params is None or _is_readable(params)) and _is_readable(job.result_json):
        return encode(job)
    bare = structs.replace(job, params_json=UNSET, result_json=NULL)
    return encode(_Sealed(bare, None if params is None else bytes(params), bytes(job.result_json)))


def decode_job(body: bytes) -> Job:
    """Decode what `encode_job` gave."""
    if not body.startswith(b"["):
        return decode(body, Job)
    sealed: _Sealed = decode(body, _Sealed)
    params = UNSET if sealed.params is None else Raw(sealed.params)
    return structs.replace(sealed.job, params_json=params, result_json=Raw(sealed.result))


def _is_readable(text: Raw) -> bool:
    try:
        decode(text, Raw)  # checks it and builds nothing: 0.2 us for a small result
    except DecodeError:
        return False
    return True
