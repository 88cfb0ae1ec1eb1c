"""The table of all commands, and the commands that show it."""

from __future__ import annotations

from typing import Any, Final

from remoterun_socket import commands, redis_commands
from remoterun_socket.answers import Answer, Caller
from remoterun_socket.command import Command
from remoterun_socket.protocol import Simple, encode, error


def _help(caller: Caller, words: list[bytes]) -> Answer:
    width = 46
    lines = [f"{command.syntax:{width}} {command.summary}" for command in TABLE.values()]
    return encode([Simple(line) for line in lines], caller.resp3)


def _command(caller: Caller, words: list[bytes]) -> Answer:
    match [word.upper() for word in words[1:]]:
        case []:
            return encode([_row(command) for command in TABLE.values()], caller.resp3)
        case [b"COUNT"]:
            return encode(len(TABLE), caller.resp3)
        case [b"LIST"]:
            return encode([name.lower() for name in TABLE], caller.resp3)
        case [b"INFO", *names]:
            known = names or list(TABLE)
            return encode([_row(TABLE[name]) if name in TABLE else None for name in known], caller.resp3)
        case [b"DOCS", *names]:
            chosen = [TABLE[name] for name in names or TABLE if name in TABLE]
            return encode({command.name.lower(): _docs(command) for command in chosen}, caller.resp3)
    return error("ERR", "unknown COMMAND subcommand; there are COUNT, LIST, INFO, DOCS")


def _row(command: Command) -> list[Any]:
    """Describe a command as Redis does; no word of ours is a key."""
    return [command.name.lower(), command.arity, [], 0, 0, 0, [], [], [], []]


def _docs(command: Command) -> dict[str, Any]:
    return {"summary": command.summary, "since": "0.1.0", "group": "generic", "complexity": "O(1)"}


TABLE: Final[dict[bytes, Command]] = {
    command.name.encode(): command
    for command in (
        *commands.COMMANDS,
        *redis_commands.COMMANDS,
        Command("HELP", "Show this", _help, 1, 1),
        Command("COMMAND [COUNT | LIST | INFO name … | DOCS name …]", "Describe the commands", _command),
    )
}


def find(name: bytes) -> Command | None:
    """Give a command by its name, in any case."""
    return TABLE.get(name) or TABLE.get(name.upper())
