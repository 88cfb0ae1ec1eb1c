"""What of ours a script's environment has without it being installed there.

`remoterun.script`, found after all that is installed; and, apart, what converts parameters to a script's types
(pydantic), which only scripts get that need it and do not have it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path

import remoterun

TYPED_MODULES = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection")
_IMPORTABLE = ("__init__.py", "script.py")  # standard library only
_PATH_FILE = "remoterun.pth"


def equip(home: Path, typed: Path) -> None:
    """Put into an environment what of ours belongs there, as this version has it.

    Parameters:
        home: the environment.
        typed: the folder of what converts parameters; links to our own are made where that is the same Python.

    Raises:
        OSError: it cannot be written.
    """
    package = home / "share" / "remoterun" / "path" / "remoterun"
    package.mkdir(parents=True, exist_ok=True)
    ours = Path(remoterun.__file__).parent
    for name in _IMPORTABLE:
        _write(package / name, (ours / name).read_bytes())
    for site in home.glob("lib/python*/site-packages"):
        # Relative: the environment moves once, when it is whole.
        _write(site / _PATH_FILE, b"../../../share/remoterun/path\n")
    if is_our_python(home):
        _link_typed(typed)


def is_our_python(home: Path) -> bool:
    """Whether an environment's Python loads the same compiled modules as ours."""
    return (home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}").is_dir()


def _link_typed(typed: Path) -> None:
    typed.mkdir(parents=True, exist_ok=True)
    for name in TYPED_MODULES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            continue
        origin = Path(found.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        link = typed / source.name
        if not link.is_symlink() or os.readlink(link) != str(source):  # noqa: PTH115 - a text is compared, no path made
            draft = typed / f".{source.name}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            draft.symlink_to(source)
            draft.replace(link)


def _write(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except OSError:
        pass
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)
