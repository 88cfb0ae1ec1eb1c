"""Completion of commands, options, script names and parameters.

`remoterun completion bash` prints what the shell evaluates; the shell then asks `remoterun _complete WORDS…`,
whose last word is the one being typed, and takes the lines of the answer.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence

from remoterun.cli.commands import COMMANDS, Parser, command_parser, top_parser
from remoterun.cli.session import node_session
from remoterun.errors import RemoterunError
from remoterun.messages import JobQuery, ScriptInfo
from remoterun.service import Session

_SCRIPTS = {"run", "submit", "show"}  # their first word is a script's name
_JOBS = {"job", "wait", "logs", "cancel", "rerun", "artifacts"}  # theirs is a job's id
_CHOICES = {"completion": ("bash", "zsh", "fish"), "token": ("new", "rotate", "list", "revoke")}

_SHELLS = {
    "bash": """\
_remoterun() {
    local IFS=$'\\n'
    COMPREPLY=($(remoterun _complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:]}
complete -o default -F _remoterun remoterun
""",
    "zsh": """\
#compdef remoterun
_remoterun() {
    local -a found
    found=("${(@f)$(remoterun _complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -Q -S '' -- ${(M)found:#*=}
    compadd -Q -- ${found:#*=}
}
compdef _remoterun remoterun
""",
    "fish": """\
complete -c remoterun -f -a '(remoterun _complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def completion_options(parser: ArgumentParser) -> None:
    """Add the options of `completion`."""
    parser.add_argument("shell", choices=tuple(_SHELLS), help="put its output into the shell's start file")


def completion(options: Namespace) -> int:
    """Print what a shell evaluates to complete our words."""
    print(_SHELLS[options.shell], end="")
    return 0


def complete(words: Sequence[str]) -> int:
    """Print what the last word may become; nothing where no node answers."""
    *before, typed = words or [""]
    for candidate in sorted(set(_candidates(before, typed))):
        if candidate.startswith(typed):
            print(candidate)
    return 0


def _candidates(before: Sequence[str], typed: str) -> Iterable[str]:
    name = next((word for word in before if word in COMMANDS), None)
    if name is None:
        return [*COMMANDS, *(_option_names(top_parser()) if typed.startswith("-") else ())]
    parser = command_parser(name, importlib.import_module(f"remoterun.cli.{COMMANDS[name].module}"))
    if typed.startswith("-"):
        return _option_names(parser)
    if name in _CHOICES:
        return _CHOICES[name]
    if name not in _SCRIPTS | _JOBS or "--" in before:
        return ()
    return _from_node(parser, name, before, typed)


def _from_node(parser: Parser, name: str, before: Sequence[str], typed: str) -> Iterable[str]:
    options = _parsed(parser, before)
    named = [word for word in before[before.index(name) + 1 :] if not word.startswith("-") and "=" not in word]
    try:
        with node_session(options) as session:
            if name in _JOBS:
                return [job.id for job in session.list_jobs(JobQuery(limit=50)).jobs]
            scripts = {script.name: script for script in session.list_scripts()}
            called = next((scripts[word] for word in named if word in scripts), None)
            if called is None:
                return scripts
            return _parameters(session, called, before, typed) if name != "show" else ()
    except RemoterunError:
        return ()


def _parameters(session: Session, script: ScriptInfo, before: Sequence[str], typed: str) -> Iterable[str]:
    described = script if script.parameters is not None else session.get_script(script.name)
    properties = (described.parameters or {}).get("properties", {})
    given = {word.partition("=")[0].rstrip(":") for word in before if "=" in word}
    key, equals, _ = typed.partition("=")
    if equals and key in properties:
        return [f"{key}={value}" for value in properties[key].get("enum", ())]
    return [f"{parameter}=" for parameter in properties if parameter not in given]


def _parsed(parser: Parser, before: Sequence[str]) -> Namespace:
    """Give the node's options from an unfinished command line."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for action in parser._actions:
        if action.dest in ("on", "token_file", "ca_file", "data", "config"):
            options.add_argument(*action.option_strings, dest=action.dest, default=argparse.SUPPRESS)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        return options.parse_known_args(list(before))[0]
    return Namespace()


def _option_names(parser: ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
