"""What a caller's RPyC sees of this side: one object and its methods, none of which is a Python object; pure.

`conn.root` is `ROOT`, `conn.root.run` a reference to the method of that name. A reference is a name and two numbers
that stand for it. So there is nothing to walk along: an object has its text, its methods and their descriptions, and
every other question is answered with an error. Nothing is counted, and nothing is let go of when a proxy dies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from remoterun_rpc import failures
from remoterun_rpc.brine import Plain
from remoterun_rpc.protocol import Handler, IdPack, Reference, Unboxed

# No module has this name, so that no RPyC takes the object for one of a class that it knows.
ROOT: Final = Reference(("remoterun-node.Root", 1, 1), is_ours=True)
_METHOD: Final = "builtins.method"  # RPyC knows this class, and does not ask what it has


class Answer(Struct, frozen=True):
    """The value that a request is answered with."""

    value: Unboxed


class Refused(Struct, frozen=True):
    """The exception that a request is answered with."""

    exception: Plain


class Invoke(Struct, frozen=True):
    """A method is called."""

    method: str
    args: tuple[Unboxed, ...]
    kwargs: tuple[tuple[str, Unboxed], ...]


class Close(Struct, frozen=True):
    """The caller goes."""


Outcome = Answer | Refused | Invoke | Close


class Objects:
    """The root and its methods.

    Parameters:
        methods: their descriptions, by name.
    """

    def __init__(self, methods: Mapping[str, str]) -> None:
        self._methods = methods
        self._references = {
            name: Reference((_METHOD, 2, number), is_ours=True) for number, name in enumerate(methods, 1)
        }
        self._names = {reference.id_pack: name for name, reference in self._references.items()}

    def ask(self, handler: Plain, arguments: tuple[Unboxed, ...]) -> Outcome:
        """Say what a request asks for, or the answer."""
        match handler, arguments:
            case Handler.PING, (data,) if not isinstance(data, Reference):
                return Answer(data)
            case Handler.CLOSE, ():
                return Close()
            case Handler.GETROOT, ():
                return Answer(ROOT)
            case Handler.INSPECT, ((str(), int(), int()) as id_pack,):
                return self._inspect(id_pack)
            case Handler.DEL, (Reference(), *_):
                return Answer(None)
            case int(), (Reference(is_ours=True) as target, *rest):
                return self._ask(handler, target, tuple(rest))
        return Refused(failures.not_possible("there is nothing here but methods to call; see dir(conn.root)"))

    def _ask(self, handler: int, target: Reference, rest: tuple[Unboxed, ...]) -> Outcome:
        name = self._names.get(target.id_pack)
        if name is None and target != ROOT:
            return Refused(failures.not_possible("there is no such object"))
        match handler, rest:
            case Handler.CALL, (args,) if name is not None:
                return _invoke(name, args, ())
            case Handler.CALL, (args, kwargs) if name is not None:
                return _invoke(name, args, kwargs)
            case Handler.CALLATTR, (str(method), args) if name is None and method in self._methods:
                return _invoke(method, args, ())
            case Handler.CALLATTR, (str(method), args, kwargs) if name is None and method in self._methods:
                return _invoke(method, args, kwargs)
            case Handler.GETATTR, (str() | bytes() as wanted,):
                return self._attribute(name, wanted if isinstance(wanted, str) else wanted.decode(errors="replace"))
            case Handler.STR | Handler.REPR, ():
                return Answer(self._text(name))
            case Handler.DIR, ():
                return Answer(tuple(self._methods) if name is None else ("__doc__", "__name__"))
            case Handler.HASH, ():
                return Answer(target.id_pack[2])
            case Handler.CMP, (other, "__eq__"):
                return Answer(other == target)
            case Handler.CMP, (other, "__ne__"):
                return Answer(other != target)
            case Handler.SETATTR | Handler.DELATTR, _:
                return Refused(failures.no_attribute("nothing here can be changed"))
            case Handler.CALLATTR, _:
                return Refused(failures.no_attribute(self._missing(name)))
        return Refused(failures.not_possible("a method can be called, and nothing else"))

    def _inspect(self, id_pack: IdPack) -> Outcome:
        if id_pack == ROOT.id_pack:
            return Answer(tuple(self._methods.items()))
        if id_pack in self._names:
            return Answer((("__call__", self._methods[self._names[id_pack]]),))
        return Refused(failures.not_possible("there is no such object"))

    def _attribute(self, name: str | None, wanted: str) -> Outcome:
        if name is None and wanted in self._references:
            return Answer(self._references[wanted])
        if wanted == "__doc__":
            return Answer(self._text(name))
        if wanted == "__name__" and name is not None:
            return Answer(name)
        return Refused(failures.no_attribute(self._missing(name)))

    def _missing(self, name: str | None) -> str:
        if name is not None:
            return f"{name} is a method to call, and nothing else"
        return f"there is nothing of that name; there are {', '.join(self._methods)}"

    def _text(self, name: str | None) -> str:
        if name is not None:
            return self._methods[name]
        return "a node of remoterun: login(token), then " + ", ".join(key for key in self._methods if key != "login")


def _invoke(method: str, args: Unboxed, kwargs: Unboxed) -> Outcome:
    if isinstance(args, tuple) and isinstance(kwargs, tuple):
        pairs = tuple([pair for pair in kwargs if isinstance(pair, tuple) and len(pair) == 2])
        if len(pairs) == len(kwargs) and all(isinstance(name, str) for name, _ in pairs):
            return Invoke(method, args, pairs)
    return Refused(failures.not_possible("a call has a tuple of values, and one of names and values"))
