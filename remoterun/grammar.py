"""The grammar of parameters, one for the CLI and the raw socket.

`key=value` is a text, converted by the declared type; `key:=json` is JSON; what follows `--` is argv.
A key that is given twice makes a list. `key@path` is the CLI's alone: it reads files, and this does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from remoterun.errors import Invalid
from remoterun.messages import FieldError


class Arguments(Struct, frozen=True):
    """What a command line said: named parameters, or argv (None where there was no `--`)."""

    params: dict[str, Any]
    args: tuple[str, ...] | None

    def request_fields(self) -> dict[str, Any]:
        """Give the fields of a job request that these arguments are.

        Raises:
            Invalid: both named parameters and argv were given.
        """
        if self.args is None:
            return {"params": self.params}
        if self.params:
            raise Invalid("give named parameters, or argv after --, not both")
        return {"args": self.args}


def parse(words: Iterable[str]) -> Arguments:
    """Parse words into parameters.

    Raises:
        Invalid: a word is no parameter, or its JSON is none; `fields` names each.
    """
    params: dict[str, Any] = {}
    seen_twice: set[str] = set()
    errors: list[FieldError] = []
    iterator = iter(words)
    args: tuple[str, ...] | None = None
    for word in iterator:
        if word == "--":
            args = tuple(iterator)
            break
        try:
            key, value = parse_word(word)
        except ValueError as error:
            errors.append(FieldError(word.partition("=")[0].rstrip(":") or word, str(error)))
            continue
        add(params, seen_twice, key, value)
    if errors:
        raise Invalid("; ".join(f"{e.field}: {e.message}" for e in errors), fields=errors)
    return Arguments(params, args)


def parse_word(word: str) -> tuple[str, Any]:
    """Parse one word, `key=value` or `key:=json`.

    Raises:
        ValueError: it is neither; the text says what a parameter looks like.
    """
    key, equals, value = word.partition("=")
    if not equals or not key.rstrip(":"):
        raise ValueError("a parameter is key=value or key:=json; argv goes after --")
    if not key.endswith(":"):
        return key, value
    try:
        return key[:-1], json.loads(value, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"no JSON after ':=': {error}") from None


def add(params: dict[str, Any], seen_twice: set[str], key: str, value: Any) -> None:
    """Add a parameter; a key that comes again turns its value into a list."""
    if key not in params:
        params[key] = value
    elif key in seen_twice:
        params[key].append(value)
    else:
        seen_twice.add(key)
        params[key] = [params[key], value]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
