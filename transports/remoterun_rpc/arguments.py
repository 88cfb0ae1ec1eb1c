"""The arguments of a call, as its caller's Python wrote them, and the fields of the operation that they are; pure.

What a caller has by reference (a list, a dictionary, an object) is refused with a hint, and never asked for anything.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from msgspec import Struct

from remoterun.errors import Invalid
from remoterun.messages import FieldError, JobRequest, encode
from remoterun.operations import parse_fields
from remoterun.plain import plain_params
from remoterun_rpc.protocol import Reference, Unboxed, references

S = TypeVar("S", bound=Struct)

_HINT: Final = 'give text, numbers, bool, None, bytes or tuples of these, or JSON text: conn.root.call("run", text)'
_TOO_BIG: Final = "a number of more than 64 bits; give it as text"

Positional = tuple[Unboxed, ...]
Named = tuple[tuple[str, Unboxed], ...]


def bind(kind: type[S], args: Positional, kwargs: Named) -> S:
    """Give an operation's fields: positional arguments in the fields' order, others by name.

    Raises:
        Invalid: they are not of that shape.
    """
    names = kind.__struct_fields__
    if len(args) > len(names):
        raise Invalid(f"{len(args)} arguments, where there are {len(names)}: {', '.join(names)}")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs:
        if name in given:
            raise Invalid(f"{name} is given twice")
        given[name] = value
    return _fields(kind, given)


def job_request(args: Positional, kwargs: Named) -> JobRequest:
    """Give the request of `run(script, *argv, **params)`.

    Raises:
        Invalid: they are not of that shape.
    """
    if not args or not isinstance(args[0], str):
        raise Invalid('the first argument is the name of a script: conn.root.run("hello", name="Ada")')
    script, *argv = args
    if argv and kwargs:
        raise Invalid("give named parameters, or argv, not both")
    fields: dict[str, Any] = {"script": script}
    if argv:
        fields["args"] = tuple(argv)
    if kwargs:
        fields["params"] = _plain(dict(kwargs))
    return _fields(JobRequest, fields)


def callback_of(args: Positional, kwargs: Named, place: int) -> tuple[Reference, Positional, Named]:
    """Give the callback among the arguments of a stream, and the arguments without it.

    Raises:
        Invalid: there is none.
    """
    found = args[place] if len(args) > place else dict(kwargs).get("callback")
    if not isinstance(found, Reference) or found.is_ours:
        raise Invalid(f"argument {place + 1}, the callback, is a function of yours: it is called with each piece")
    rest = tuple([pair for pair in kwargs if pair[0] != "callback"])
    return found, (*args[:place], *args[place + 1 :]), rest


def _fields(kind: type[S], given: dict[str, Any]) -> S:
    """Have the fields pass the same way as those that came as JSON."""
    return parse_fields(kind, encode(_plain(given)))


def _plain(given: dict[str, Unboxed]) -> dict[str, Any]:
    """Give values as JSON knows them.

    Raises:
        Invalid: one is none; `fields` names each.
    """
    errors = [
        FieldError(name, f"{held[0]} came by reference, which is not looked at: {_HINT}")
        for name, value in given.items()
        if (held := references(value) or _ours(value))
    ]
    errors += [
        FieldError(name, "a number of more than 64 bits; give it as text")
        for name, value in given.items()
        if _is_big(value)
    ]
    if errors:
        raise Invalid("; ".join(f"{error.field}: {error.message}" for error in errors), fields=errors)
    return plain_params(given)


def _ours(value: Unboxed) -> list[Reference]:
    if isinstance(value, Reference):
        return [value]
    return [found for item in value for found in _ours(item)] if isinstance(value, tuple) else []


def _is_big(value: Unboxed) -> bool:
    if isinstance(value, tuple):
        return any(_is_big(item) for item in value)
    return isinstance(value, int) and not -(2**63) <= value < 2**64
