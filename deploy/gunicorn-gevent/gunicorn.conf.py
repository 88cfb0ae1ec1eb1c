"""/etc/remoterun/gunicorn.conf.py: gunicorn with gevent workers, which answer HTTPS before the node."""

wsgi_app = "remoterun_http.wsgi:application"
bind = ["0.0.0.0:443", "[::]:443"]
certfile = "/etc/remoterun/tls/fullchain.pem"
keyfile = "/etc/remoterun/tls/privkey.pem"

worker_class = "gevent"
workers = 2
worker_connections = 1000  # of one worker; each caller that follows a job is one

# A worker that does not move for as long is replaced. What waits for a job moves.
timeout = 60
# What a worker that is replaced has under way; then it is cut off, and who followed a job resumes.
graceful_timeout = 10
keepalive = 5  # seconds of an idle connection

# Callers reach it directly: what they say of themselves in X-Forwarded-Proto is not believed.
forwarded_allow_ips = ""
control_socket_disable = True

# Without queries and referers: the one-time address of a sign-in carries its code there.
accesslog = "-"
access_log_format = '%(h)s "%(m)s %(U)s %(H)s" %(s)s %(B)s %(M)sms "%(a)s"'
