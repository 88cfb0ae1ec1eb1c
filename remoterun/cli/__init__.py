"""The command line: `remoterun COMMAND …`.

Starting fast is a feature here: `run` stands where people type `ssh host python3 job.py`. Each command is a
module of its own, imported when it is named, and nothing on the way of `run` imports asyncio, pydantic, rich
or an HTTP client.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remoterun.errors import RemoterunError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    gc.disable()  # imports make no garbage, and looking for it costs a tenth of the whole start
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    finally:
        gc.freeze()  # nor is there any to look for at exit
        gc.enable()


def _run(argv: list[str]) -> int:
    _import_msgspec()
    from remoterun.cli.commands import dispatch
    from remoterun.cli.exits import INTERRUPTED, OURS, SIGPIPE
    from remoterun.errors import RemoterunError

    try:
        code = dispatch(argv)
        sys.stdout.flush()
    except RemoterunError as error:
        _report(error)
        return OURS
    except BrokenPipeError:
        _silence_stdout()
        return SIGPIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _import_msgspec() -> None:
    """Import msgspec without what it takes from typing_extensions where that is there.

    It makes do with `typing`, which has all of it since Python 3.11. With `inspect`, which comes along, it would be
    a sixth of the time that `run` takes.
    """
    known = sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type] # None: it cannot be imported
    import msgspec  # noqa: F401 - it is there for whoever imports it from now on

    if known is None:
        del sys.modules["typing_extensions"]


def _report(error: RemoterunError) -> None:
    from remoterun.cli.terminal import safe_line
    from remoterun.errors import ServiceError

    message = str(error)
    fields = error.fields if isinstance(error, ServiceError) else ()
    if fields:  # each gets a line of its own
        listed = "; ".join(f"{field.field}: {field.message}" for field in fields)
        message = message.removesuffix(listed).rstrip(": ") or "bad parameters"
    lines = [f"remoterun: {safe_line(message)}"]
    lines += [f"  {safe_line(field.field)}: {safe_line(field.message)}" for field in fields]
    print("\n".join(lines), file=sys.stderr)


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's flush at exit does not complain of the pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
