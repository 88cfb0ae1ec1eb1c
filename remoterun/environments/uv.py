"""How uv is found and what it sees of the node's environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from remoterun.errors import RemoterunError

_PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/cert.pem",  # macOS, BSD
)
# They would have another environment built than the one that is wanted.
_KEPT_BACK = frozenset(
    {
        "UV_BREAK_SYSTEM_PACKAGES",
        "UV_FROZEN",
        "UV_LOCKED",
        "UV_NO_SYNC",
        "UV_PROJECT",
        "UV_PROJECT_ENVIRONMENT",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_VENV_CLEAR",
        "UV_VENV_SEED",
        "UV_WORKING_DIRECTORY",
    }
)


class NoUv(RemoterunError):
    """uv is not installed; the text says how to install it."""


def find_uv() -> str:
    """Give the path of uv: the wheel's in our own environment, else the one in PATH.

    Raises:
        NoUv: there is none.
    """
    if importlib.util.find_spec("uv") is not None:
        import uv

        try:
            return uv.find_uv_bin()
        except FileNotFoundError:  # the module without its program
            pass
    found = shutil.which("uv")
    if found is None:
        raise NoUv(
            "its dependencies are installed by uv, which is not there; type: pip install 'remoterun[environments]'"
        )
    return found


def uv_environment(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Give the variables that uv runs with: its own settings, and how to reach an index.

    Packages that are built from source run code of theirs, which is to see no more than a script does.

    Parameters:
        env: the node's.
        folder: where uv may keep its cache if there is no home folder.
    """
    chosen = {name: value for name, value in env.items() if _is_passed_on(name)}
    chosen["UV_PYTHON_DOWNLOADS"] = "never"
    chosen["UV_NO_PROGRESS"] = chosen["NO_COLOR"] = "1"
    if not {"HOME", "UV_CACHE_DIR", "XDG_CACHE_HOME"} & chosen.keys():
        chosen["UV_CACHE_DIR"] = str(folder / "cache")
    chosen.setdefault("PATH", os.defpath)
    if any(os.path.exists(bundle) for bundle in _CERTIFICATES):  # noqa: PTH110 - three looks
        chosen.setdefault("UV_SYSTEM_CERTS", "1")  # as pip does: a company's own authority is known to the system only
    return chosen


def _is_passed_on(name: str) -> bool:
    if name in _KEPT_BACK:
        return False
    return name in _PASSED_ON or name.startswith(("UV_", "XDG_")) or name.lower() in _PROXIES
