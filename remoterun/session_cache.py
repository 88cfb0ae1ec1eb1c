"""Sessions of callers that show their token with each message: opened once, kept for the messages that follow."""

from __future__ import annotations

from collections import OrderedDict

from remoterun.service import AsyncService, AsyncSession, Origin, Token

_SESSIONS = 1024  # one is small; more callers than this at once authenticate again now and then

Key = tuple[str, str]  # token, peer


class SessionCache:
    """Sessions by token and peer, the least recently used given up first.

    A session itself notices that its token was revoked; `drop` then forgets it.

    Parameters:
        service: opens the sessions.
        transport: the name of the transport that asks.
    """

    def __init__(self, service: AsyncService, transport: str) -> None:
        self._service = service
        self._transport = transport
        self._sessions: OrderedDict[Key, AsyncSession] = OrderedDict()

    def cached(self, key: Key) -> AsyncSession | None:
        """Give the session that a former message opened, or None."""
        session = self._sessions.get(key)
        if session is not None:
            self._sessions.move_to_end(key)
        return session

    async def open(self, key: Key) -> AsyncSession:
        """Authenticate and keep the session.

        Raises:
            Unauthenticated: the token is wrong, expired or revoked.
        """
        token, peer = key
        session = await self._service.authenticate(Token(token), Origin(self._transport, peer))
        self._sessions[key] = session
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def drop(self, key: Key) -> None:
        """Forget a session whose token is no longer valid."""
        self._sessions.pop(key, None)
