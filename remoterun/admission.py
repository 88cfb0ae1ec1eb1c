"""What a request must be before a job is made of it; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from remoterun.catalog import Checked, Script
from remoterun.catalog.parameters import refuse
from remoterun.errors import Invalid, TooLarge, Unavailable
from remoterun.incoming import checked_name
from remoterun.messages import FieldError, FileOnDisk, JobRequest, UploadedFile
from remoterun.places import Place, find_place, put_names, unsent
from remoterun.quantities import format_size
from remoterun.store.interface import Extra

_LONGEST_KEY = 255  # characters
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C; another form is ignored


class Call(Struct, frozen=True, gc=False):
    """A request that fits its script."""

    checked: Checked | None  # None: a plain script
    args: tuple[str, ...]
    stdin: bytes | None
    timeout: float  # seconds; 0: no limit
    trace: str | None
    size: int  # bytes that it holds while it waits
    extra: Extra | None  # what the record needs beside the job's public value
    files: Mapping[Place, UploadedFile]  # by the places of their parameters


def check(script: Script, request: JobRequest, largest: int, fingerprint: str | None) -> Call:
    """Check a request against its script.

    Parameters:
        largest: bytes that a request may hold.
        fingerprint: of the request, where it has a key.

    Raises:
        Unavailable: the script is broken.
        Invalid: the request does not fit; `fields` names every bad parameter.
        TooLarge: it holds too much.
    """
    if script.info.broken is not None:
        raise Unavailable(f"{script.name} cannot be called: {script.info.broken}")
    if request.timeout is not None and not 0 < request.timeout < float("inf"):
        raise Invalid("a timeout is a positive number of seconds")
    if request.key is not None and not 0 < len(request.key) <= _LONGEST_KEY:
        raise Invalid(f"a key is 1 to {_LONGEST_KEY} characters long")
    files = _find_places(script, request.files) if request.files else {}
    checked = _check_parameters(script, request, files)
    args = request.args or ()
    stdin = request.stdin_bytes()
    size = (0 if checked is None else len(checked.params)) + (0 if stdin is None else len(stdin)) + sum(map(len, args))
    in_memory = sum(len(file.data) for file in files.values())  # on disk before the job waits
    if size + in_memory > largest:
        raise TooLarge(f"the request holds {size + in_memory} bytes; limits.request is {largest}")
    trace = well_formed_trace(request.trace)
    extra = None
    secret = checked is not None and checked.has_secrets
    if secret or not (stdin is None and request.timeout is None and trace is None and fingerprint is None):
        extra = Extra(stdin_base64=stdin, timeout=request.timeout, trace=trace, fingerprint=fingerprint, secret=secret)
    return Call(checked, args, stdin, timeout_of(script, request.timeout), trace, size, extra, files)


def well_formed_trace(trace: str | None) -> str | None:
    """Give a traceparent, or None where it is of another form."""
    return trace if trace and _TRACEPARENT.fullmatch(trace) else None


def _find_places(script: Script, files: Mapping[str, UploadedFile]) -> Mapping[Place, UploadedFile]:
    if script.parameters is None:
        raise Invalid(f"{script.name} is a plain script: it takes no files; send one as its input (stdin)")
    schema = script.info.parameters or {}
    found: dict[Place, UploadedFile] = {}
    for path, file in files.items():
        place = find_place(path, schema)
        if place in found:
            refuse([FieldError(path, "it is given twice")], from_=None)
        if isinstance(file, FileOnDisk) and 0 < script.settings.file_size < file.size:
            raise TooLarge(f"{path}: the file is larger than file_size = {format_size(script.settings.file_size)}")
        found[place] = file
    return found


def _check_parameters(script: Script, request: JobRequest, files: Mapping[Place, UploadedFile]) -> Checked | None:
    if script.parameters is None:
        if request.params:
            raise Invalid(f"{script.name} is a plain script: it takes argv (after --), not named parameters")
        return None
    if request.args and _takes_parameters(script):
        raise Invalid(f"{script.name} takes named parameters, not argv")
    params = request.params or {}
    if files:
        params = put_names(params, {place: checked_name(file.name) for place, file in files.items()})
    checked = script.parameters.check(params)
    if script.parameters.has_uploads:
        _check_sent(script, checked, frozenset(files))
    return checked


def _check_sent(script: Script, checked: Checked, sent: frozenset[Place]) -> None:
    """Refuse a name where a file should be: nobody but the node says which file a script opens."""
    errors = unsent(msgspec.json.decode(checked.params), script.info.parameters or {}, sent)
    if errors:
        refuse(errors, from_=None)


def _takes_parameters(script: Script) -> bool:
    """Tell whether a function script's `main` takes anything; one that does not may read argv instead."""
    schema = script.info.parameters or {}
    return bool(schema.get("properties") or schema.get("additionalProperties"))


def timeout_of(script: Script, asked: float | None) -> float:
    """Give how many seconds a job may run: a caller may only shorten the script's own timeout; 0: no limit."""
    own = script.info.timeout
    if asked is None:
        return own
    return min(own, asked) if own else asked
