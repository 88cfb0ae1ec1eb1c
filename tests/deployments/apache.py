"""Apache with a shipped file, as one tests it: Debian's modules, its own main file around it, all in one folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.deployments.front import NAME, Place, free_port, program, shipped
from tests.deployments.programs import Program

_MODULES = Path("/etc/apache2/mods-available")
_ENABLED = ("mpm_event", "authz_core", "alias", "mime", "setenvif", "socache_shmcb")  # what Debian has enabled already
_MAIN = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ServerName localhost
Listen 127.0.0.1:{port}
LogLevel warn
ErrorLog {folder}/apache.log
{modules}
TypesConfig /etc/mime.types
<Directory />
    AllowOverride None
    Require all denied
</Directory>
Include {folder}/remoterun.conf
"""


class Apache:
    """An Apache on a free port, as the ordinary user that it has to be.

    Parameters:
        place: where the front stands.
        path: the shipped file, below deploy/; its `a2enmod` line names the modules that are loaded.
        replacements: those of this front alone, by what stands in the file.
    """

    def __init__(self, place: Place, path: str, replacements: Mapping[str, str]) -> None:
        self.port = free_port()
        folder = place.folder
        own = {
            "*:443": f"*:{self.port}",
            "*:80": f"*:{free_port()}",
            f"ServerName {NAME}\n": f"ServerName {NAME}\n    ServerAlias localhost\n",
            "/etc/remoterun/tls/fullchain.pem": str(place.certificate),
            "/etc/remoterun/tls/privkey.pem": str(place.key),
            "/var/log/apache2/remoterun.access.log": f"{folder}/access.log",
            "/var/log/apache2/remoterun.error.log": f"{folder}/error.log",
        }
        text = shipped(path, {**own, **replacements})
        (folder / "remoterun.conf").write_text(text)
        (folder / "apache.conf").write_text(
            _MAIN.format(folder=folder, port=self.port, modules="\n".join(map(_loading, [*_ENABLED, *_asked(text)])))
        )
        self._folder = folder
        self._command = [*_ordinary_user(), program("apache2"), "-f", str(folder / "apache.conf")]

    def start(self) -> Program:
        """Check the file, and start it.

        Raises:
            AssertionError: Apache does not take the file.
        """
        done = subprocess.run([*self._command, "-t"], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "Syntax OK\n"), done.stderr
        return Program([*self._command, "-DFOREGROUND"], self._folder / "apache.output.log")


def _asked(text: str) -> list[str]:
    found = re.search(r"^# a2enmod (.*)$", text, re.MULTILINE)
    assert found is not None, "the file does not say which modules it needs"
    return found[1].split()


def _loading(module: str) -> str:
    return f"Include {_MODULES}/{module}.load"


def _ordinary_user() -> list[str]:
    """Give what a command is put after, so that Apache sees an ordinary user: it refuses to work as root.

    In a user namespace of its own root has another number; for the node outside, it is the node's user.
    """
    if os.getuid() != 0:
        return []
    unshare = shutil.which("unshare")
    assert unshare is not None, "unshare (util-linux) is not installed"
    return [unshare, "--user", "--map-user=1000", "--map-group=1000"]


WINCH = signal.SIGWINCH  # ends after the requests under way; SIGTERM cuts them off
