"""The fronts: one module each, and all of them in FRONTS."""

from __future__ import annotations

from tests.deployments.front import Front
from tests.deployments.fronts.apache_mod_wsgi import ApacheModWsgi
from tests.deployments.fronts.apache_proxy import ApacheProxy
from tests.deployments.fronts.gunicorn_gevent import GunicornGevent
from tests.deployments.fronts.nginx_fastcgi import NginxFastcgi
from tests.deployments.fronts.nginx_uvicorn import NginxUvicorn

FRONTS: tuple[type[Front], ...] = (NginxUvicorn, NginxFastcgi, ApacheModWsgi, ApacheProxy, GunicornGevent)
