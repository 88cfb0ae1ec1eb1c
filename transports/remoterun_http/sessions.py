"""Who calls: the token of a request, or of the browser's sign-in, under which its session is kept."""

from __future__ import annotations

from remoterun.errors import Unauthenticated
from remoterun.session_cache import Key
from remoterun_http.answers import Scope
from remoterun_http.console.signin import SignIns
from remoterun_http.headers import bearer


def session_key(headers: dict[bytes, bytes], scope: Scope, signins: SignIns) -> Key:
    """Give what a session is kept under.

    Raises:
        Unauthenticated: the request shows no bearer token, and comes from no browser that is signed in.
        Forbidden: it does, and not from the node's own page.
    """
    token = bearer(headers)
    if token is None and b"authorization" not in headers:
        token = signins.token(headers, scope["method"], scope["scheme"])
    if token is None:
        raise Unauthenticated("show a token: Authorization: Bearer rr_…")
    client = scope.get("client")
    return token, client[0] if client else ""
