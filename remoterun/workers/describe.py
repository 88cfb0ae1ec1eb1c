"""Describe a function script whose types only running the file can tell; run as a plain file in the script's Python.

    python -P describe.py PATH SOURCE NAME DESCRIPTOR [FOLDER]

imports the file as a module (not `__main__`) and writes one JSON object to the descriptor: `schema`, the JSON Schema
of the parameters, and `imports`, the author's own modules that it imported with their SHA-256; or `error` and `line`.
The folder has pydantic, for an environment in which none is installed.
Standard library and pydantic only.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import traceback
import types
import typing
from pathlib import Path
from typing import Any

MODULE = "_remoterun_script"


class Refused(Exception):
    """`main` cannot be called with named parameters; the text says why."""


def reveal_secrets() -> None:
    """Make pydantic's Secret[T] say in its schema that it is one, as SecretStr does: records are masked by it."""
    import pydantic

    def mark(cls: Any, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {"allOf": [handler(core_schema)], "writeOnly": True}

    pydantic.Secret.__get_pydantic_json_schema__ = classmethod(mark)  # type: ignore[attr-defined]


def load(path: str, source: str) -> types.ModuleType:
    """Import a script as a module.

    Parameters:
        path: where the author keeps it; tracebacks show this.
        source: the copy whose text is executed.
    """
    with open(source, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    module = types.ModuleType(MODULE)
    module.__file__ = path
    sys.modules[MODULE] = module  # pydantic and dataclasses look their classes' module up
    sys.path.insert(0, str(Path(path).parent))
    sys.argv = [path]
    exec(code, module.__dict__)
    return module


def adapters(main: Any) -> tuple[Any, Any]:
    """Give pydantic's TypeAdapter of the object of `main`'s parameters, and one of each further one, or None.

    Raises:
        Refused: `main` takes parameters that cannot come by name.
    """
    import pydantic
    from typing_extensions import TypedDict

    signature = inspect.signature(main)
    hints = typing.get_type_hints(main, include_extras=True)
    fields: dict[str, Any] = {}
    extra = None
    for name, parameter in signature.parameters.items():
        hint = hints.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = hint
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise Refused(f"main takes {name} by position only; parameters come by name")
        else:
            fields[name] = hint if parameter.default is parameter.empty else typing.NotRequired[hint]
    parameters = TypedDict("parameters", fields)  # type: ignore[misc] # known only now
    config = pydantic.ConfigDict(extra="forbid" if extra is None else "allow", allow_inf_nan=False)
    known = pydantic.TypeAdapter(pydantic.with_config(config)(parameters))
    return known, None if extra is None else pydantic.TypeAdapter(extra)


def json_schema(main: Any) -> dict[str, Any]:
    """Give the JSON Schema of the object of `main`'s parameters."""
    known, extra = adapters(main)
    schema: dict[str, Any] = known.json_schema()
    if extra is not None:
        rest = extra.json_schema()
        schema["$defs"] = {**schema.get("$defs", {}), **rest.pop("$defs", {})}
        schema["additionalProperties"] = rest or True
    return schema


def imported(folder: str) -> dict[str, str]:
    """Give the modules that came from below a folder: path → SHA-256."""
    found = {}
    for name, module in list(sys.modules.items()):
        path = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
        if isinstance(path, str) and path.startswith(folder + os.sep) and name != MODULE:
            try:
                with open(path, "rb") as file:
                    found[path] = hashlib.sha256(file.read()).hexdigest()
            except OSError:
                continue
    return found


def describe(path: str, source: str, name: str) -> dict[str, Any]:
    """Describe the script, or say why that cannot be done."""
    try:
        reveal_secrets()
        module = load(path, source)
    except BaseException as error:  # SystemExit too: the file is the author's, and its end is to be told
        return {"error": f"importing it failed: {summary(error)}", "line": line_in(error, path)}
    main = getattr(module, name, None)
    if not callable(main):
        return {"error": f"{name} is no function once the file was imported"}
    try:
        return {"schema": json_schema(main), "imports": imported(str(Path(path).parent))}
    except Refused as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"the parameters of {name} cannot be described: {summary(error)}"}


def summary(error: BaseException) -> str:
    """Give the last line of a traceback, no longer than a line should be."""
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    # A SyntaxError's last line is its message; those of pydantic begin with what matters.
    text = lines[-1] if isinstance(error, SyntaxError) else lines[0]
    return text[:500]


def line_in(error: BaseException, path: str) -> int | None:
    """Give the line of the script that an error came through last."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else None


def run(path: str, source: str, name: str, descriptor: int) -> None:
    """Describe the script and write what was found to the descriptor."""
    data = json.dumps(describe(path, source, name)).encode()
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
    os._exit(0)  # threads that the import left behind must not hold us up


if __name__ == "__main__":
    sys.path += sys.argv[5:]
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
