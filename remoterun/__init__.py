"""remoterun: drop a Python file into a folder, call it by name from anywhere.

Standard library only at import, and lazy: a running script imports `remoterun.script` through here,
in an environment that holds nothing else of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remoterun.client import Node, connect
    from remoterun.errors import JobFailed, RemoterunError, ServiceError

__all__ = ["JobFailed", "Node", "RemoterunError", "ServiceError", "__version__", "connect"]

__version__ = "0.1.0"

_HOMES = {
    "Node": "remoterun.client",
    "connect": "remoterun.client",
    "JobFailed": "remoterun.errors",
    "RemoterunError": "remoterun.errors",
    "ServiceError": "remoterun.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
