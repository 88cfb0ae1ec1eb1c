"""The commands that Redis clients expect of a server: greeting, authentication, and what they ask by the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from remoterun import __version__
from remoterun.errors import Unauthenticated
from remoterun.service import Origin, Token
from remoterun_socket.answers import Answer, Caller
from remoterun_socket.command import Command
from remoterun_socket.protocol import OK, bulk, encode, error

NOAUTH: Final = error("NOAUTH", "Authentication required. Send AUTH token, or HELLO 3 AUTH default token")
_SYNTAX: Final = error("ERR", "syntax error; HELP shows how it is written")
_CONFIG: Final = {b"save": b"", b"appendonly": b"no"}  # what redis-benchmark asks for, to show it


async def _auth(caller: Caller, words: list[bytes]) -> bytes:
    return await _prove(caller, words[-1]) or OK


async def _prove(caller: Caller, token: bytes) -> bytes | None:
    """Open the session of a token; give the error reply where there is none.

    A wrong token also ends the session that was open.
    """
    caller.session = None
    try:
        caller.session = await caller.service.authenticate(Token(token.decode(errors="replace")), caller.origin)
    except Unauthenticated as failure:
        return error("WRONGPASS", failure.message)
    return None


async def _hello(caller: Caller, words: list[bytes]) -> bytes:
    rest = iter(words[1:])
    version = next(rest, None)
    if version not in (None, b"2", b"3"):
        return error("NOPROTO", "unsupported protocol version; there are 2 and 3")
    for word in rest:
        match word.upper():
            case b"AUTH" if next(rest, None) is not None and (token := next(rest, None)) is not None:
                if (refused := await _prove(caller, token)) is not None:
                    return refused
            case b"SETNAME" if (name := next(rest, None)) is not None:
                caller.client_name = name[:256]
            case _:
                return _SYNTAX
    if caller.session is None:
        return error("NOAUTH", "HELLO must be called with AUTH: HELLO 3 AUTH default token")
    if version is not None:
        caller.resp3 = version == b"3"
    return encode(_greeting(caller), caller.resp3)


def _greeting(caller: Caller) -> Mapping[str, Any]:
    return {
        "server": "remoterun",
        "version": __version__,
        "proto": 3 if caller.resp3 else 2,
        "id": caller.number,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }


def _ping(_: Caller, words: list[bytes]) -> Answer:
    return bulk(words[1]) if len(words) == 2 else b"+PONG\r\n"


def _echo(_: Caller, words: list[bytes]) -> Answer:
    return bulk(words[1])


def _quit(_: Caller, words: list[bytes]) -> Answer:
    return OK


def _select(_: Caller, words: list[bytes]) -> Answer:
    return OK if words[1] == b"0" else error("ERR", "DB index is out of range; there is only 0")


def _acl(caller: Caller, words: list[bytes]) -> Answer:
    if words[1].upper() != b"WHOAMI":
        return error("ERR", "only ACL WHOAMI is known; who may do what is set by tokens")
    return bulk(caller.proved().principal.encode())


def _client(caller: Caller, words: list[bytes]) -> Answer:
    match words[1].upper(), words[2:]:
        case (b"SETINFO", [_, _]) | ((b"NO-EVICT" | b"NO-TOUCH"), [_]):
            return OK
        case b"SETNAME", [name]:
            caller.client_name = name[:256]
            return OK
        case b"ORIGIN", [transport, peer]:
            return _speak_for(caller, transport, peer)
        case b"GETNAME", []:
            return encode(caller.client_name or None, caller.resp3)
        case b"ID", []:
            return encode(caller.number, caller.resp3)
        case b"INFO", []:
            shown = caller.client_name.decode(errors="replace")
            return encode(f"id={caller.number} addr={caller.origin.peer} name={shown}\n", caller.resp3)
    return error("ERR", "unknown CLIENT subcommand; there are SETINFO, SETNAME, GETNAME, ID, INFO, ORIGIN")


def _speak_for(caller: Caller, transport: bytes, peer: bytes) -> bytes:
    """Take the origin that a gateway names for the sessions that it opens from now on."""
    if not caller.is_trusted:
        return error("ERR", "only a process of the node's own user, on its Unix socket, says for whom it calls")
    name = transport.decode(errors="replace")[:32]
    caller.origin = Origin(name, peer.decode(errors="replace")[:200])
    return OK


def _config(caller: Caller, words: list[bytes]) -> Answer:
    if words[1].upper() != b"GET":
        return error("ERR", "settings are in remoterun.toml; none is changed here")
    return encode({name: _CONFIG[name] for name in words[2:] if name in _CONFIG}, caller.resp3)


COMMANDS: Final = (
    Command(
        "AUTH [user] token", "Authenticate; the user's name is not looked at", _auth, 2, 3, public=True, alone=True
    ),
    Command(
        "HELLO [2|3] [AUTH user token] [SETNAME name]",
        "Choose the protocol's version, and authenticate",
        _hello,
        public=True,
        alone=True,
    ),
    Command("PING [message]", "Answer PONG, or the message", _ping, 1, 2),
    Command("ECHO message", "Answer the message", _echo, 2, 2),
    Command("QUIT", "Close the connection", _quit, public=True, closes=True),
    Command("SELECT 0", "Do nothing: there is one database", _select, 2, 2),
    Command("ACL WHOAMI", "Name the principal of this connection", _acl, 2, 2),
    Command("CLIENT subcommand …", "Name this connection, or show it", _client, 2),
    Command("CONFIG GET name …", "Answer what redis-benchmark asks", _config, 2),
)
