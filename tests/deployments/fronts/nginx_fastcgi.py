"""nginx before uWSGI, which speaks FastCGI: `deploy/nginx-fastcgi`."""

from __future__ import annotations

from typing import ClassVar

from tests.deployments.fronts.nginx_uwsgi import NginxUwsgi


class NginxFastcgi(NginxUwsgi):
    """nginx, TLS, and `remoterun_http.wsgi:application` under uWSGI, behind FastCGI."""

    name: ClassVar[str] = "nginx + FastCGI"
    folder: ClassVar[str] = "nginx-fastcgi"
    protocol: ClassVar[str] = "fastcgi"
