"""CURVE keys in files, in the form that pyzmq and CZMQ write: `NAME.key` is public, `NAME.key_secret` has both.

python -c "import zmq.auth; zmq.auth.create_certificates('.', 'ada')"; chmod 600 ada.key_secret
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq.auth

from remoterun.errors import Unavailable

logger = logging.getLogger(__name__)

_Z85 = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")
_MAKE = "make a pair with: python -c \"import zmq.auth; zmq.auth.create_certificates('.', 'NAME')\""

_Mark = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret, both in Z85; `repr` shows the public one alone."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r}, …)"


def read_pair(path: str) -> KeyPair:
    """Read a pair from a file that its owner alone can read.

    Raises:
        Unavailable: it cannot be used; the text names it, and what to do.
    """
    public, secret = _read(Path(path))
    if secret is None:
        raise Unavailable(f"{path} holds no secret key; name the file NAME.key_secret, or {_MAKE}")
    if stat.S_IMODE(Path(path).stat().st_mode) & 0o077:
        raise Unavailable(f"{path} can be read by others than its owner; chmod 600 {path}")
    return KeyPair(public, secret)


def read_public(path: str) -> bytes:
    """Read a public key.

    Raises:
        Unavailable: it cannot be used; the text names it, and what to do.
    """
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        reason = "there is no such file" if not path.exists() else str(error)
        raise Unavailable(f"the key file {path} cannot be used: {reason}; {_MAKE}") from error
    if not all(_is_key(key) for key in (public, secret) if key is not None):
        raise Unavailable(f"the key file {path} cannot be used: a key is 40 characters of Z85; {_MAKE}")
    return public, secret


def _is_key(key: bytes) -> bool:
    return len(key) == 40 and _Z85.issuperset(key)


class Clients:
    """The public keys of a folder, by which clients are known; each is named as its file is, without `.key`.

    Raises:
        Unavailable: the folder cannot be read.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._mark: _Mark = ()
        self._names: Mapping[bytes, str] = {}
        self.version = 0  # it grows with each change
        if not self._folder.is_dir():
            raise Unavailable(f"[zeromq] curve_clients: there is no folder {folder}; put each client's NAME.key there")
        self.poll()

    def name(self, public: bytes) -> str | None:
        """Give the name of who has a key, or None."""
        return self._names.get(public)

    def poll(self) -> None:
        """Read the folder again where it has changed."""
        mark = self._look()
        if mark != self._mark:
            self._mark = mark
            self._names = dict(self._read_all())
            self.version += 1

    def _look(self) -> _Mark:
        found = []
        for path in sorted(self._folder.glob("*.key")):
            try:
                status = path.stat()
            except OSError:
                continue  # removed this moment
            found.append((path.name, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _read_all(self) -> list[tuple[bytes, str]]:
        found = []
        for name, _, _ in self._mark:
            try:
                found.append((read_public(str(self._folder / name)), name.removesuffix(".key")))
            except Unavailable as error:
                logger.warning("%s", error.message)
        return found
