"""The fronts: one module each, and all of them in FRONTS."""

from __future__ import annotations

from tests.deployments.front import Front
from tests.deployments.fronts.apache_mod_wsgi import ApacheModWsgi
from tests.deployments.fronts.apache_proxy import ApacheProxy
from tests.deployments.fronts.gunicorn_gevent import GunicornGevent
from tests.deployments.fronts.nginx_fastcgi import NginxFastcgi
from tests.deployments.fronts.nginx_uvicorn import NginxUvicorn
from tests.deployments.fronts.nginx_uwsgi import NginxUwsgi
from tests.deployments.fronts.supervisor_nginx import SupervisorNginx

FRONTS: tuple[type[Front], ...] = (
    NginxUvicorn,
    SupervisorNginx,
    NginxUwsgi,
    NginxFastcgi,
    ApacheModWsgi,
    ApacheProxy,
    GunicornGevent,
)
