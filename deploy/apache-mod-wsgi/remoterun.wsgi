"""/etc/remoterun/remoterun.wsgi: what mod_wsgi's processes load."""

import os

os.environ["REMOTERUN_CONFIG"] = "/etc/remoterun/http.toml"  # SetEnv reaches no application before its first request

from remoterun_http.wsgi import application  # noqa: E402, F401
