"""The Pythons that fronts run with: this one's environment, and one for servers that carry Debian's Python in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VENV = Path(sys.prefix)  # where /opt/remoterun is in the shipped files

DEBIANS = Path("/usr/bin/python3")  # the Python of Debian's uWSGI and mod_wsgi


def debian_venv(folder: Path) -> Path:
    """Make an environment of Debian's Python that has what this one has, and give its folder.

    Where both are of one minor version, what is installed here is taken from here; else it is installed there.
    """
    venv = folder / "venv"
    subprocess.run([str(DEBIANS), "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    version = _version(DEBIANS)
    if version == _version(Path(sys.executable)):
        packages = venv / "lib" / f"python{version}" / "site-packages"
        own = next(path for path in sys.path if path.endswith("site-packages"))
        (packages / "here.pth").write_text(f"import site; site.addsitedir({own!r})\n")
    else:
        _install(venv)
    return venv


def _version(python: Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _install(venv: Path) -> None:
    root = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "-c", f"{root}/constraints.txt", f"{root}[http,wsgi]"], check=True, timeout=600)
