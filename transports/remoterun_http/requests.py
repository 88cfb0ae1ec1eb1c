"""One admitted request, and the caller behind it."""

from __future__ import annotations

from typing import Any

from remoterun.errors import TooLarge, Unauthenticated
from remoterun.service import AsyncSession
from remoterun.session_cache import Key, SessionCache
from remoterun_http.answers import Receive, Scope
from remoterun_http.console.signin import SignIns
from remoterun_http.sessions import session_key

PROVED = "remoterun.proved"  # in the scope: what to call once the caller has proved who it is
UPLOADING = "remoterun.uploading"  # in the scope: what to call before a body that may take longer than others
CALL = "remoterun.call"  # in the scope: the `Call`


class Disconnected(Exception):
    """The caller went away before its request was whole; nobody is there to be answered."""


class Call:
    """A request whose Host and Origin are in order.

    Parameters:
        scope: its ASGI scope.
        headers: its headers, by name.
        sessions: where its caller's session is found.
        signins: whose browsers are signed in.
    """

    __slots__ = ("_key", "_sessions", "answered", "headers", "scope", "signins")

    def __init__(self, scope: Scope, headers: dict[bytes, bytes], sessions: SessionCache, signins: SignIns) -> None:
        self.scope = scope
        self.headers = headers
        self.answered = False  # the answer has begun: an error can no longer become one
        self._sessions = sessions
        self.signins = signins
        self._key: Key | None = None

    async def session(self) -> AsyncSession:
        """Give the session of the caller.

        Raises:
            Unauthenticated: no token, or one that is wrong, expired or revoked.
        """
        return await self.session_of(session_key(self.headers, self.scope, self.signins))

    async def session_of(self, key: Key) -> AsyncSession:
        """Give the session of a token and a peer.

        Raises:
            Unauthenticated: the token is wrong, expired or revoked.
        """
        self._key = key
        session = self._sessions.cached(key) or await self._sessions.open(key)
        proved: Any = self.scope.get(PROVED)
        if proved is not None:
            proved()
        return session

    def forget(self, error: Exception) -> None:
        """Drop the kept session where it says that its token is no longer valid."""
        if isinstance(error, Unauthenticated) and self._key is not None:
            self._sessions.drop(self._key)

    def expect_files(self) -> None:
        """Have the body arrive at its own pace, as long as it keeps arriving."""
        uploading: Any = self.scope.get(UPLOADING)
        if uploading is not None:
            uploading()

    async def body(self, receive: Receive, limit: int) -> bytes:
        """Read the whole body; to be called only once the caller has proved who it is.

        Raises:
            TooLarge: it is larger than `limit` bytes.
            Disconnected: the caller went away.
        """
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            raise TooLarge(_too_large(limit))
        message = await receive()
        if not message.get("more_body") and message["type"] == "http.request":
            first: bytes = message.get("body", b"")
            if len(first) > limit:
                raise TooLarge(_too_large(limit))
            return first
        body = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            if len(body) > limit:
                raise TooLarge(_too_large(limit))
            if not message.get("more_body"):
                return bytes(body)
            message = await receive()


def _too_large(limit: int) -> str:
    return f"the request is larger than the {limit} bytes that this node takes"
