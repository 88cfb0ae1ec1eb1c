"""The grammar of parameters as the command line has it: the common one, and `key@file`.

A parameter that is a file is sent along; any other gets the file's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from remoterun import grammar
from remoterun.errors import Invalid
from remoterun.messages import FieldError, JobRequest, UploadedFile
from remoterun.places import takes_files
from remoterun.sending import open_path, read, split
from remoterun.service import Session


def request_fields(words: Sequence[str], argv: Sequence[str] | None) -> dict[str, Any]:
    """Give the fields of a job request that words and argv are.

    Raises:
        Invalid: a word is no parameter, or its file cannot be read; `fields` names each.
    """
    params: dict[str, Any] = {}
    seen_twice: set[str] = set()
    errors: list[FieldError] = []
    for word in words:
        try:
            key, value = _parse_word(word)
            _check_text(key)
            _check_text(value)
        except ValueError as error:
            errors.append(FieldError(_key(word), str(error)))
        else:
            grammar.add(params, seen_twice, key, value)
    if errors:
        raise Invalid("; ".join(f"{error.field}: {error.message}" for error in errors), fields=errors)
    if argv is None:
        return {"params": params} if params else {}  # files among them: `settled` parts them
    for argument in argv:
        _check_argument(argument)
    return grammar.Arguments(params, tuple(argv)).request_fields()


def _parse_word(word: str) -> tuple[str, Any]:
    key, at, path = word.partition("@")
    if at and key and path and "=" not in key:
        return key, _file_at(path)
    return grammar.parse_word(word)


def _key(word: str) -> str:
    """Give what names a bad word: what stands before its `=`, `:=` or `@`."""
    key, equals, _ = word.partition("=")
    return (key.rstrip(":") if equals else key.partition("@")[0]) or word


def _file_at(path: str) -> UploadedFile:
    try:
        return open_path(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def settled(request: JobRequest, session: Session) -> JobRequest:
    """Part a request's parameters into values and files: what is a file, the script's description says.

    For a parameter that is none, a file is its text.

    Raises:
        Invalid: a file that is to be a text is none.
        ServiceError: the script cannot be described.
    """
    params = request.params or {}
    if not any(_is_file(item) for value in params.values() for item in (value if type(value) is list else [value])):
        return request
    schema = session.get_script(request.script).parameters or {}
    fields = split(params, _is_file, lambda name: takes_files(name, schema), lambda _, file: file, _text_of)
    return msgspec.structs.replace(request, **fields)


def _is_file(value: Any) -> bool:
    return isinstance(value, UploadedFile)


def _text_of(file: UploadedFile) -> str:
    try:
        return read(file).decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{file.name} is no UTF-8 text, and its parameter takes no file") from error


def _check_text(value: Any) -> None:
    if isinstance(value, str):  # the shell's bytes that are no UTF-8 arrive here as lone surrogates
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError("it is no UTF-8 text; JSON cannot carry it") from error


def _check_argument(argument: str) -> None:
    try:
        _check_text(argument)
    except ValueError as error:
        raise Invalid(f"the argument {argument!r} after --: {error}") from error
