"""Signing in with a browser: a token typed in, or a one-time address, becomes a cookie of this site alone.

The cookie is a secret of its own and not the token. The data folder keeps its hash, and the token encrypted with it:
a sign-in outlives a restart of the node, counts in each of its processes, ends when its token is revoked, and the file
alone opens nothing. The code of a one-time address is such a secret, too, for a shorter time.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from remoterun.access import write_private
from remoterun.errors import ConfigError, Forbidden, ServiceError, Unavailable
from remoterun.local import TOKEN_NAME, read_token
from remoterun.service import Origin, Token
from remoterun.transport import ServerContext
from remoterun_http.answers import Header
from remoterun_http.headers import own_origin

LIFETIME = 7 * 86_400.0  # seconds of a sign-in, unless the browser is closed before
CODE_LIFETIME = 600.0  # seconds in which a one-time address works
_MOST = 1000  # sign-ins kept; the oldest make room
_OPENED = 256  # whose tokens are kept decrypted
_SAFE = frozenset({"GET", "HEAD"})


class _Entry(msgspec.Struct, frozen=True):
    sha256: str  # of the secret: the cookie, or a code
    sealed: bytes  # the token, encrypted with the secret
    until: float  # seconds since the epoch
    is_code: bool = False


class SignIns:
    """The browsers that are signed in, in the file `signins.json` of a data folder.

    Where there is no such folder, as with a gateway on another machine, they are in memory and end with the process.

    Parameters:
        data: the data folder.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / "signins.json"
        self._lock = data / "signins.lock"
        self._mark: tuple[int, int] | None = None
        self._entries: dict[str, _Entry] = {}
        self._opened: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def new_code(self, token: str) -> str:
        """Make a code that signs in once, and soon, as the bearer of a token.

        Raises:
            Unavailable: the data folder takes no file.
        """
        code = secrets.token_urlsafe(24)
        self._add(_entry(code, token, CODE_LIFETIME, is_code=True))
        return code

    def redeem(self, code: str) -> str | None:
        """Give the token that a code stands for, once; None for one that is wrong, used or too old.

        Raises:
            Unavailable: the data folder takes no file.
        """
        with self._changing() as entries:
            entry = entries.get(_digest(code))
            if entry is None or not entry.is_code:
                return None
            del entries[entry.sha256]
        return _unsealed(code, entry) if time.time() < entry.until else None

    def open(self, token: str, headers: dict[bytes, bytes], scheme: str) -> Header:
        """Sign a browser in, and give the header that says so.

        Raises:
            Unavailable: the data folder takes no file.
        """
        secret = secrets.token_urlsafe(32)
        self._add(_entry(secret, token, LIFETIME))
        return _cookie(f"{_name(headers, scheme).decode()}={secret}", _is_secure(headers, scheme))

    def close(self, headers: dict[bytes, bytes], scheme: str) -> Header:
        """Sign a browser out, and give the header that says so."""
        secret = _secret(headers, scheme)
        if secret is not None:
            with self._changing() as entries:
                entries.pop(_digest(secret), None)
        return _cookie(f"{_name(headers, scheme).decode()}=; Max-Age=0", _is_secure(headers, scheme))

    def token(self, headers: dict[bytes, bytes], method: str, scheme: str) -> str | None:
        """Give the token of a browser that is signed in, or None.

        Raises:
            Forbidden: the request comes from a page of another site, or of another port of this host.
        """
        secret = _secret(headers, scheme)
        if secret is None:
            return None
        if not comes_from_own_page(headers, method):
            raise Forbidden("a sign-in counts for this node's own page only; other programs show a token")
        self._refresh()
        digest = _digest(secret)
        opened = self._opened.get(digest) or self._unseal(secret, digest)
        return opened[0] if opened is not None and time.time() < opened[1] else None

    def _unseal(self, secret: str, digest: str) -> tuple[str, float] | None:
        entry = self._entries.get(digest)
        token = None if entry is None or entry.is_code else _unsealed(secret, entry)
        if entry is None or token is None:
            return None
        self._opened[digest] = token, entry.until
        if len(self._opened) > _OPENED:
            self._opened.popitem(last=False)
        return token, entry.until

    def _refresh(self) -> None:
        """Read the file where it changed: another process of this node signs browsers in and out, too."""
        try:
            status = self._path.stat()
        except OSError:
            return
        mark = status.st_ino, status.st_mtime_ns
        if mark == self._mark:
            return
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=list[_Entry])
        except (OSError, msgspec.MsgspecError):  # it cannot be used: people sign in again
            kept = []
        self._entries = {entry.sha256: entry for entry in kept}
        self._opened.clear()
        self._mark = mark

    def _add(self, entry: _Entry) -> None:
        with self._changing() as entries:
            entries[entry.sha256] = entry

    @contextmanager
    def _changing(self) -> Iterator[dict[str, _Entry]]:
        """Change the entries, and with them the file; those that are over go, and the oldest of too many."""
        if not self._path.parent.is_dir():
            yield self._entries
            self._opened.clear()
            return
        try:
            with self._lock.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._refresh()
                yield self._entries
                moment = time.time()
                kept = [entry for entry in self._entries.values() if entry.until > moment]
                kept.sort(key=lambda entry: entry.until)
                write_private(self._path, msgspec.json.encode(kept[-_MOST:]))
                self._mark = None
                self._refresh()
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror or error}") from error


async def invitation(context: ServerContext, signins: SignIns, url: str) -> str:
    """Give the page's address, with a code for whoever started the node, where its first token is there still."""
    try:
        token = read_token(context.data / TOKEN_NAME)
        await context.service.authenticate(Token(token), Origin("http"))
        return f"{url}/login?code={signins.new_code(token)}"
    except (ConfigError, ServiceError):
        return url


def comes_from_own_page(headers: dict[bytes, bytes], method: str) -> bool:
    """Tell whether a request comes from this site's own page, or from the person at the browser.

    `SameSite` alone would let in pages of other ports of this host. Browsers that do not say `Sec-Fetch-Site`, or not
    without TLS, still say `Origin` with all that may change something.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin" or (site == b"none" and method in _SAFE)
    origin = headers.get(b"origin")
    return method in _SAFE if origin is None else own_origin(origin.lower(), headers.get(b"host", b"").lower())


def _name(headers: dict[bytes, bytes], scheme: str) -> bytes:
    """Give the cookie's name; without TLS it holds the port: browsers give cookies to every port of a host."""
    if _is_secure(headers, scheme):
        return b"__Host-remoterun"
    port = headers.get(b"host", b"").rpartition(b":")[2]
    return b"remoterun-" + (port if port.isdigit() else b"80")


def _is_secure(headers: dict[bytes, bytes], scheme: str) -> bool:
    """Tell whether the browser speaks TLS, to us or to what stands before us."""
    return scheme == "https" or headers.get(b"origin", b"").startswith(b"https:")


def _secret(headers: dict[bytes, bytes], scheme: str) -> str | None:
    cookies = headers.get(b"cookie")
    if cookies is None:
        return None
    names = {_name(headers, scheme), b"__Host-remoterun"}
    for part in cookies.split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name in names and value:
            return value.decode("latin-1")
    return None


def _cookie(value: str, is_secure: bool) -> Header:
    secure = "; Secure" if is_secure else ""
    return b"set-cookie", f"{value}; Path=/; HttpOnly; SameSite=Strict{secure}".encode("latin-1")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _entry(secret: str, token: str, lifetime: float, is_code: bool = False) -> _Entry:
    return _Entry(_digest(secret), _fernet(secret).encrypt(token.encode()), time.time() + lifetime, is_code)


def _unsealed(secret: str, entry: _Entry) -> str | None:
    from cryptography.fernet import InvalidToken

    try:
        token: str = _fernet(secret).decrypt(entry.sealed).decode()
    except InvalidToken:
        return None
    return token


def _fernet(secret: str):  # type: ignore[no-untyped-def]
    from cryptography.fernet import Fernet  # here: 10 ms that only a sign-in pays

    key = hashlib.sha256(b"remoterun sign-in\0" + secret.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
