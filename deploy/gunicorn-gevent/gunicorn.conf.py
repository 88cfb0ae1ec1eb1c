"""/etc/remoterun/gunicorn.conf.py: gunicorn with gevent workers, between nginx and the node."""

wsgi_app = "remoterun_http.wsgi:application"
# No TLS here: a connection that is being secured when its worker goes is lost by gevent.
bind = "127.0.0.1:8001"

worker_class = "gevent"
workers = 2
worker_connections = 1000  # of one worker; each caller that follows a job is one

# A worker that does not move for as long is replaced. What waits for a job moves.
timeout = 60
# What a worker that is replaced has under way; then it is cut off, and who followed a job resumes.
graceful_timeout = 10
keepalive = 5  # seconds of an idle connection: nginx gives it up before

# Who is believed about the caller, `proxies` in http.toml says.
forwarded_allow_ips = ""
control_socket_disable = True
