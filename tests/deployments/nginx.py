"""nginx with a shipped file, as one tests it: its own main file around it, everything in one folder."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping

from tests.deployments.front import NAME, Place, free_port, program, shipped
from tests.deployments.programs import Program

_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
worker_processes 2;
{user}
events {{ worker_connections 2048; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/remoterun.conf;
}}
"""


class Nginx:
    """An nginx on a free port.

    Parameters:
        place: where the front stands.
        path: the shipped file, below deploy/.
        replacements: those of this front alone, by what stands in the file.
    """

    def __init__(self, place: Place, path: str, replacements: Mapping[str, str]) -> None:
        self.port = free_port()
        folder = place.folder
        own = {
            "listen 443 ssl http2 default_server;": f"listen 127.0.0.1:{self.port} ssl http2 default_server;",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            f"server_name {NAME};": f"server_name {NAME} localhost;",
            "/etc/remoterun/tls/fullchain.pem": str(place.certificate),
            "/etc/remoterun/tls/privkey.pem": str(place.key),
            "/var/log/nginx/remoterun.access.log": f"{folder}/access.log",
            "/var/log/nginx/remoterun.error.log": f"{folder}/error.log",
        }
        (folder / "remoterun.conf").write_text(shipped(path, {**own, **replacements}))
        user = "user root;" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))
        self._folder = folder
        self._command = [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]

    def start(self) -> Program:
        """Check the file, and start it.

        Raises:
            AssertionError: nginx does not take the file.
        """
        done = subprocess.run([*self._command, "-t", "-q"], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert "[warn]" not in done.stderr, done.stderr
        return Program(self._command, self._folder / "nginx.output.log")


QUIT = signal.SIGQUIT  # ends after the requests under way; SIGTERM cuts them off
