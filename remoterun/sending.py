"""Files that a caller sends along, on the caller's side: from paths and open files to a request, and to its bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from remoterun.errors import Invalid, TooLarge
from remoterun.messages import FileOnDisk, JobRequest, UploadedFile

LARGEST: Final = 64 * 2**20
"""Bytes that a client holds in memory; the node's own limits are the ones that matter."""

_TOO_LARGE = f"the file is larger than {LARGEST // 2**20} MiB, and only HTTP sends such a one piece by piece"


def open_path(path: str | os.PathLike[str]) -> UploadedFile:
    """Give the file at a path, to be read when it is sent; a pipe is read now.

    Raises:
        OSError: it cannot be read.
        TooLarge: a pipe gives more than can be held.
    """
    name = Path(path).name
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            return FileOnDisk(name=name, path=str(Path(path).absolute()), size=status.st_size)
        return UploadedFile(name=name, data=_bounded(file.read(LARGEST + 1)))


def read_open(file: Any, name: str) -> UploadedFile:
    """Read an open file from where it stands to its end.

    Parameters:
        name: what it is called where it does not say so itself.

    Raises:
        TooLarge: there is more than can be held.
    """
    data = file.read(LARGEST + 1)
    own = getattr(file, "name", None)
    called = Path(own).name if isinstance(own, str) else ""
    return UploadedFile(name=called or name, data=_bounded(data.encode() if isinstance(data, str) else bytes(data)))


def read(file: UploadedFile) -> bytes:
    """Give a file's bytes.

    Raises:
        Invalid: it cannot be read.
        TooLarge: there is more than can be held.
    """
    if not isinstance(file, FileOnDisk):
        return file.data
    try:
        with open(file.path, "rb") as source:
            return _bounded(source.read(LARGEST + 1))
    except OSError as error:
        raise Invalid(f"{file.path} cannot be read: {error.strerror}") from error


def with_bytes(request: JobRequest) -> JobRequest:
    """Give a request that holds the bytes of its files, for a wire that carries requests whole.

    Raises:
        Invalid: a file cannot be read.
        TooLarge: there is more than can be held.
    """
    if not request.files:
        return request
    files = {path: UploadedFile(name=file.name, data=read(file)) for path, file in request.files.items()}
    return msgspec.structs.replace(request, files=files)


def split(
    params: Mapping[str, Any],
    is_file: Callable[[Any], bool],
    takes_files: Callable[[str], bool],
    as_file: Callable[[str, Any], UploadedFile],
    as_value: Callable[[Any], Any],
) -> dict[str, Any]:
    """Part parameters into values and files, and give the fields `params` and `files` of a request.

    Parameters:
        params: values by name, some of which may be files, or lists of files.
        is_file: whether a value may be one.
        takes_files: whether a parameter is a file, or a list of them.
        as_file: makes one of a parameter's name and value.
        as_value: makes of such a value what a parameter takes that is no file.
    """
    values: dict[str, Any] = {}
    files: dict[str, UploadedFile] = {}
    for name, value in params.items():
        items = value if isinstance(value, (list, tuple)) else [value]
        if not any(map(is_file, items)):
            values[name] = value
        elif not takes_files(name):
            settled = [as_value(item) if is_file(item) else item for item in items]
            values[name] = settled if items is value else settled[0]
        elif items is value:
            files |= {f"{name}.{index}": as_file(name, item) for index, item in enumerate(items) if is_file(item)}
            if not all(map(is_file, items)):
                values[name] = ["" if is_file(item) else item for item in items]
        else:
            files[name] = as_file(name, value)
    return {"params": values, **({"files": files} if files else {})}


def _bounded(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise TooLarge(_TOO_LARGE)
    return data
