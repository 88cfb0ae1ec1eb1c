"""Who may do what: tokens, principals, scopes. The only place that decides.

Scopes: `read` (scripts, own jobs), `read:all` (every job, refused calls), `run:<glob of script names>` (`run` is
`run:*`; it also cancels and reruns own jobs), `cancel:all`, and `admin`, which is all of them.

Tokens are 256 random bits behind the prefix `rr_`, with a checksum that tells a mistyped token from a wrong one.
The file holds their SHA-256 only: nothing that is guessable is hashed, so a slow hash would add nothing.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import hmac
import os
import pwd
import re
import secrets
import time
import zlib
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from remoterun.config import PrincipalSettings
from remoterun.errors import ConfigError, Forbidden, Invalid, NotFound, Unauthenticated
from remoterun.messages import TokenInfo, now
from remoterun.service import Credential, Mapped, Peer, Token

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(r"rr_[0-9A-Za-z]{43}[0-9A-Za-z]{6}")
_SCOPE = re.compile(r"read|read:all|run|run:[^\s,]+|cancel:all|admin")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Principal:
    """A proved caller. It is asked at every operation, so that revoking works on open connections."""

    __slots__ = ("_may_run", "_run_globs", "expires", "is_revoked", "name", "scopes")

    def __init__(self, name: str, scopes: tuple[str, ...], expires: float | None = None) -> None:
        self.name = name
        self.scopes = frozenset(scopes)
        self.expires = expires  # seconds since the epoch
        self.is_revoked = False
        self._run_globs = tuple(
            "*" if scope == "run" else scope[4:] for scope in scopes if scope == "run" or scope.startswith("run:")
        )
        self._may_run: dict[str, bool] = {}

    def check_valid(self) -> None:
        """Raise Unauthenticated once the credential is revoked or expired."""
        if self.is_revoked:
            raise Unauthenticated("this token was revoked")
        if self.expires is not None and time.time() > self.expires:
            raise Unauthenticated("this token has expired")

    def _has(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def may_run(self, script: str) -> bool:
        """Tell whether the scopes cover running this script."""
        known = self._may_run.get(script)
        if known is None:
            known = "admin" in self.scopes or any(fnmatch.fnmatchcase(script, glob) for glob in self._run_globs)
            if len(self._may_run) < 10_000:  # names come from callers
                self._may_run[script] = known
        return known

    def check_run(self, script: str) -> None:
        """Raise Forbidden unless the scopes cover running this script."""
        if not self.may_run(script):
            raise Forbidden(f"{self.name} may not run {script[:200]}; that needs the scope run:{script[:200]}")

    @property
    def may_read(self) -> bool:
        """Whether it may look at scripts and at its own jobs."""
        return self._has("read") or self._has("read:all")

    def check_read(self) -> None:
        """Raise Forbidden unless the principal may look at scripts and at its own jobs."""
        if not self.may_read:
            raise Forbidden(f"{self.name} may not read; that needs the scope read")

    @property
    def may_read_all(self) -> bool:
        """Whether it may look at everyone's jobs."""
        return self._has("read:all")

    def check_read_all(self) -> None:
        """Raise Forbidden unless the principal may look at everything."""
        if not self.may_read_all:
            raise Forbidden(f"{self.name} may not read this; that needs the scope read:all")

    def check_admin(self) -> None:
        """Raise Forbidden unless the principal may do everything."""
        if "admin" not in self.scopes:
            raise Forbidden(f"{self.name} may not see or change tokens; that needs the scope admin")

    def check_read_job(self, owner: str) -> None:
        """Raise Forbidden unless the principal may look at a job of this owner."""
        self.check_read()
        if owner != self.name and not self.may_read_all:
            raise Forbidden("this job belongs to someone else; that needs the scope read:all")

    def check_cancel(self, owner: str, script: str) -> None:
        """Raise Forbidden unless the principal may stop a job of this owner."""
        if self._has("cancel:all") or (owner == self.name and self.may_run(script)):
            return
        if owner == self.name:
            self.check_run(script)
        raise Forbidden("this job belongs to someone else; that needs the scope cancel:all")


class _TokenEntry(msgspec.Struct, frozen=True):
    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: datetime
    expires: datetime | None = None


def new_token() -> str:
    """Make a token: `rr_`, 256 random bits, a checksum; all letters and digits."""
    body = _base62(int.from_bytes(secrets.token_bytes(32), "big"), 43)
    return f"rr_{body}{_checksum(body)}"


def is_well_formed(token: str) -> bool:
    """Tell whether a text is a token that someone made, by its checksum."""
    return _TOKEN.fullmatch(token) is not None and hmac.compare_digest(_checksum(token[3:46]), token[46:])


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The tokens of a data folder, in the file `tokens.json`; usable with and without a running node.

    Parameters:
        data: the data folder.

    Raises (from every method):
        ConfigError: the file is broken, or may not be read or written.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._path = data / "tokens.json"

    def new(self, name: str, scopes: Sequence[str], expires: float | None = None) -> str:
        """Make a token and give it; it is shown once and kept as a hash.

        Parameters:
            name: the principal's name; one token each.
            scopes: what it may do.
            expires: seconds from now, or None for never.

        Raises:
            Invalid: a name or scope that cannot be, or a name that is taken.
        """
        if not _NAME.fullmatch(name):
            raise Invalid(f"a token's name is letters, digits and ._@-, up to 64: {name!r} is not")
        for scope in scopes:
            check_scope(scope)
        if not scopes:
            raise Invalid("a token needs a scope: read, read:all, run:<glob>, cancel:all or admin")
        token = new_token()
        with self._changing() as entries:
            if any(entry.name == name for entry in entries):
                raise Invalid(f"there is a token named {name}; revoke it first, or choose another name")
            until = None if expires is None else now() + timedelta(seconds=expires)
            entries.append(
                _TokenEntry(name=name, sha256=_digest(token), scopes=tuple(scopes), created=now(), expires=until)
            )
        return token

    def rotate(self, name: str, overlap: float, expires: float | None = None) -> str:
        """Make a token for a principal that has one, with the same scopes, and give it.

        Parameters:
            overlap: seconds for which those that there were stay valid.
            expires: seconds from now, or None for never.

        Raises:
            NotFound: no token has this name.
        """
        token = new_token()
        with self._changing() as entries:
            old = [entry for entry in entries if entry.name == name]
            if not old:
                raise NotFound(f"there is no token named {name}; `remoterun token list` shows them")
            moment = now()
            last = moment + timedelta(seconds=overlap)
            for entry in old:
                entries.remove(entry)
                if entry.expires is None or entry.expires > moment:
                    entries.append(msgspec.structs.replace(entry, expires=min(entry.expires or last, last)))
            until = None if expires is None else moment + timedelta(seconds=expires)
            entries.append(msgspec.structs.replace(old[-1], sha256=_digest(token), created=moment, expires=until))
        return token

    def list(self) -> Sequence[TokenInfo]:
        """List the tokens by name."""
        return [
            TokenInfo(name=entry.name, scopes=entry.scopes, created=entry.created, expires=entry.expires)
            for entry in sorted(self.read(), key=lambda entry: (entry.name, entry.created))
        ]

    def revoke(self, name: str) -> None:
        """Make the tokens of a name worthless, on open connections too, within a second.

        Raises:
            NotFound: no token has this name.
        """
        with self._changing() as entries:
            kept = [entry for entry in entries if entry.name != name]
            if len(kept) == len(entries):
                raise NotFound(f"there is no token named {name}; `remoterun token list` shows them")
            entries[:] = kept

    def read(self) -> Sequence[_TokenEntry]:
        """Read the file; no file, no tokens."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[_TokenEntry])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"{self._path} cannot be read: {error}") from error

    def mark(self) -> tuple[int, int, int] | None:
        """Give something that differs once the file was changed."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    @contextmanager
    def _changing(self) -> Iterator[MutableSequence[_TokenEntry]]:
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._data / "tokens.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                entries = [*self.read()]
                yield entries
                write_private(self._path, msgspec.json.format(msgspec.json.encode(entries)))
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be written: {error}") from error


def check_scope(scope: str) -> None:
    """Raise Invalid unless a scope is one of those that exist."""
    if not _SCOPE.fullmatch(scope):
        raise Invalid(f"{scope!r} is no scope; there are read, read:all, run:<glob>, cancel:all and admin")


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Access:
    """Proves credentials for a node.

    Parameters:
        tokens: the data folder's tokens.
        mapped: principals that the configuration names.
    """

    def __init__(self, tokens: Tokens, mapped: Mapping[str, PrincipalSettings]) -> None:
        for name, settings in mapped.items():
            for scope in settings.scopes:
                try:
                    check_scope(scope)
                except Invalid as error:
                    raise ConfigError(f"principals.{name}: {error}") from error
        self.tokens = tokens
        self._mapped = {name: Principal(name, settings.scopes) for name, settings in mapped.items()}
        self._by_hash: dict[str, Principal] = {}
        self._mark: tuple[int, int, int] | None = None
        self.reload()

    def reload(self) -> None:
        """Read the tokens again; principals whose token is gone are revoked.

        Raises:
            ConfigError: the file is broken; the tokens known before stay in force.
        """
        mark = self.tokens.mark()
        entries = {entry.sha256: entry for entry in self.tokens.read()}
        for digest in set(self._by_hash) - set(entries):
            self._by_hash.pop(digest).is_revoked = True
        for digest, entry in entries.items():
            until = None if entry.expires is None else entry.expires.astimezone(UTC).timestamp()
            if digest in self._by_hash:
                self._by_hash[digest].expires = until  # which changes when another takes its place
            else:
                self._by_hash[digest] = Principal(entry.name, entry.scopes, until)
        self._mark = mark

    def poll(self) -> None:
        """Reload when the file has changed; called about twice a second."""
        if self.tokens.mark() != self._mark:
            self.reload()

    def authenticate(self, credential: Credential) -> Principal:
        """Prove a credential.

        Raises:
            Unauthenticated: it is wrong, expired or revoked.
        """
        if isinstance(credential, Token):
            return self._by_token(credential.value)
        if isinstance(credential, Peer):
            return _by_peer(credential)
        return self._by_name(credential)

    def _by_token(self, token: str) -> Principal:
        if not is_well_formed(token):
            raise Unauthenticated("that is no token of remoterun, or it was cut or mistyped")
        digest = _digest(token)
        principal = self._by_hash.get(digest)
        if principal is None:
            with suppress(ConfigError):
                self.poll()  # made a moment ago; one look at the file's time, so guessing costs us little
            principal = self._by_hash.get(digest)
        if principal is None:
            raise Unauthenticated("this token is not known here, or was revoked")
        principal.check_valid()
        return principal

    def _by_name(self, credential: Mapped) -> Principal:
        principal = self._mapped.get(credential.principal)
        if principal is None:
            raise Unauthenticated(f"no [principals.{credential.principal}] in the configuration")
        return principal


def _by_peer(peer: Peer) -> Principal:
    """Trust the user that the node runs as, and root; no one else."""
    if peer.uid not in (os.geteuid(), 0):
        raise Unauthenticated(f"the user with the number {peer.uid} needs a token here")
    try:
        name = pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        name = str(peer.uid)
    return Principal(f"unix:{name}", ("admin",))
