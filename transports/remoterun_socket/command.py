"""One command of the table, and how its words are read; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from remoterun.errors import Invalid
from remoterun.messages import FieldError
from remoterun.quantities import Duration
from remoterun_socket.answers import Answer, Caller


@dataclass(frozen=True, slots=True)
class Command:
    """A command: how it is written, what it does, and who does it.

    `least` and `most` count its words, the name included; `most` None: any number. A `public` command needs no
    session. An `alone` command starts once every earlier one was answered, and later ones wait for it. After a
    command that `closes`, the connection closes.
    """

    syntax: str
    summary: str
    handler: Callable[[Caller, list[bytes]], Answer]
    least: int = 1
    most: int | None = None
    public: bool = False
    alone: bool = False
    closes: bool = False

    @property
    def name(self) -> str:
        """The command's first word."""
        return self.syntax.partition(" ")[0]

    @property
    def arity(self) -> int:
        """The number of words as Redis tells it: negative where it is a minimum."""
        return self.least if self.least == self.most else -self.least

    def takes(self, count: int) -> bool:
        """Tell whether so many words can be a call of this command."""
        return self.least <= count and (self.most is None or count <= self.most)


def text(word: bytes) -> str:
    """Decode a word.

    Raises:
        Invalid: it is no UTF-8.
    """
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{word[:40]!r} is no UTF-8; only STDIN and FILE take any bytes") from error


def number(name: str, word: bytes, least: int = 0) -> int:
    """Read a whole number.

    Raises:
        Invalid: it is none, or below `least`.
    """
    if not word.isdigit() or len(word) > 18 or int(word) < least:
        raise _bad(name, f"a whole number from {least} on, not {text(word)!r}")
    return int(word)


def seconds(name: str, word: bytes) -> float:
    """Read a duration: `30`, `1.5`, `5m`.

    Raises:
        Invalid: it is none.
    """
    try:
        return float(Duration.parse(text(word)))
    except ValueError as error:
        raise _bad(name, str(error)) from error


def options(words: Iterable[bytes], known: Iterable[bytes]) -> dict[bytes, bytes]:
    """Read `NAME value` pairs, with names in any case.

    Raises:
        Invalid: a name is not known, came before, or has no value.
    """
    found: dict[bytes, bytes] = {}
    names = tuple(known)
    rest = iter(words)
    for word in rest:
        name = word.upper()
        if name not in names or name in found:
            raise Invalid(f"unexpected {text(word)!r}; the options are {b', '.join(names).decode()}, once each")
        value = next(rest, None)
        if value is None:
            raise Invalid(f"{name.decode()} needs a value after it")
        found[name] = value
    return found


def _bad(name: str, message: str) -> Invalid:
    return Invalid(f"{name} is {message}", fields=(FieldError(name.lower(), message),))
