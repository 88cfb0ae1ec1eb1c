"""Read a file's `main` from its syntax tree, without running any of it.

Parameters come by name. One that `main` takes by position only, and `*args`, have no name to come by:
such a `main` is refused, with what to write instead. `**kwargs` takes any further names.
"""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from remoterun.catalog.defect import Defect

NO_DEFAULT: Any = object()  # the parameter must be given
UNKNOWN: Any = object()  # it has a default that only running the file can tell

# Warning filters belong to the process: two threads that set them aside at once would mix them up.
_quiet = threading.Lock()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of `main`, as it is written."""

    name: str
    annotation: ast.expr | None
    default: Any  # a literal's value, NO_DEFAULT or UNKNOWN
    line: int
    default_call: str | None = None  # the name of what is called to make the default, as in `= Field(3)`


@dataclass(frozen=True, slots=True)
class Signature:
    """`main`, as it is written."""

    parameters: tuple[Parameter, ...]
    extra: Parameter | None  # **kwargs
    decorated: bool  # its real signature may be another
    line: int
    doc: str


def parse(data: bytes) -> ast.Module:
    """Parse a file.

    Raises:
        Defect: it is no Python, with the line.
    """
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" and the like: the author's affair, not the node's log
            return ast.parse(data)
    except SyntaxError as error:
        raise Defect(f"it is no Python: {error.msg}", line=error.lineno) from error
    except ValueError as error:  # a NUL byte
        raise Defect(f"it is no Python: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise Defect("it is nested too deeply to be parsed") from error


def module_doc(tree: ast.Module) -> str:
    """Give the file's docstring, or an empty text."""
    return ast.get_docstring(tree) or ""


def find_main(tree: ast.Module) -> Signature | None:
    """Read the signature of the top-level `main`, or None where there is none.

    Raises:
        Defect: it takes parameters that cannot come by name.
    """
    definition = None
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "main":
            definition = node  # the last one counts, as it does when the file runs
    if definition is None:
        return None
    arguments = definition.args
    if arguments.posonlyargs:
        name = arguments.posonlyargs[0].arg
        raise Defect(
            f"main takes {name} by position only; parameters come by name: remove the /", line=definition.lineno
        )
    if arguments.vararg is not None:
        name = arguments.vararg.arg
        raise Defect(
            f"main takes *{name}; parameters come by name: write {name}: list[str] instead", line=definition.lineno
        )
    extra = arguments.kwarg
    return Signature(
        parameters=tuple(_parameters(arguments)),
        extra=None if extra is None else Parameter(extra.arg, extra.annotation, NO_DEFAULT, extra.lineno),
        decorated=bool(definition.decorator_list),
        line=definition.lineno,
        doc=ast.get_docstring(definition) or "",
    )


def _parameters(arguments: ast.arguments) -> Iterator[Parameter]:
    first_default = len(arguments.args) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [None] * first_default + list(arguments.defaults)
    pairs = [
        *zip(arguments.args, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        yield Parameter(argument.arg, argument.annotation, _value(default), argument.lineno, _called(default))


def _value(default: ast.expr | None) -> Any:
    if default is None:
        return NO_DEFAULT
    try:
        return ast.literal_eval(default)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNKNOWN


def _called(default: ast.expr | None) -> str | None:
    if not isinstance(default, ast.Call):
        return None
    function = default.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
