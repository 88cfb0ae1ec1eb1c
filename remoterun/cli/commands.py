"""Every command with its one line of help, and the way from a command line to its module."""

from __future__ import annotations

import argparse
import gc
import importlib
from typing import NamedTuple, NoReturn

from remoterun import __version__
from remoterun.errors import RemoterunError


class UsageError(RemoterunError):
    """The command line itself is wrong; the text says what to type."""


class Command(NamedTuple):
    """A command: its module, whose `NAME_options(parser)` and `NAME(options) -> int` it is, and its help."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "serve": Command("serve", "start a node"),
    "gateway": Command("gateway", "serve HTTP in front of a node elsewhere"),
    "run": Command("run", "run a script: stream its output, exit with its exit code"),
    "submit": Command("run", "submit a script and print the job's id once it is durable"),
    "wait": Command("jobs", "wait for a job's end, exit with its exit code"),
    "logs": Command("logs", "print a job's output; -f goes on until it ends"),
    "cancel": Command("jobs", "stop a job and its whole process tree"),
    "jobs": Command("jobs", "list jobs, newest first"),
    "job": Command("jobs", "show one job"),
    "rerun": Command("jobs", "make the same call again"),
    "artifacts": Command("artifacts", "list the files that a job left; -o copies them into a folder"),
    "ls": Command("scripts", "list scripts"),
    "show": Command("scripts", "show a script's parameters and settings"),
    "info": Command("scripts", "show a node's version, addresses and load"),
    "new": Command("authoring", "make a script to start from"),
    "check": Command("authoring", "check scripts without running them"),
    "token": Command("token", "make, rotate, list and revoke tokens of the local node"),
    "backup": Command("backup", "have the node make a copy of its data, without stopping"),
    "doctor": Command("doctor", "say what works on this machine and what to do about the rest"),
    "completion": Command("completion", "print the completion of a shell: bash, zsh or fish"),
}

_WIDTH = 100  # columns of help texts

COMPLETE = "_complete"  # what a shell's completion calls; no command for people


class Parser(argparse.ArgumentParser):
    """argparse, with its errors as ours: one line, no usage dump, exit code 125."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, without its import of shutil: it makes a formatter for each option, to check its metavar."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=_WIDTH)


def dispatch(argv: list[str]) -> int:
    """Run the command that a command line names.

    Raises:
        UsageError: it names none, or its options are wrong.
        RemoterunError: what the command raises.
    """
    top = top_parser()
    words, tail = split_tail(argv)
    options = top.parse_args(words)
    name = options.command
    if name is None:
        top.print_help()
        return 0
    rest = options.rest
    del options.command, options.rest
    if name == COMPLETE:  # its words are another command line
        from remoterun.cli.completion import complete

        return complete(argv[argv.index(COMPLETE) + 1 :])
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}{_suggestion(name)} (see remoterun --help)")
    module = importlib.import_module(f"remoterun.cli.{COMMANDS[name].module}")
    namespace = command_parser(name, module).parse_intermixed_args(rest, options)
    if tail is not None and not getattr(namespace, "takes_argv", False):
        raise UsageError(f"{name} takes nothing after --")
    namespace.argv = tail
    gc.enable()
    return int(getattr(module, name)(namespace))


def top_parser() -> Parser:
    """Make the parser of what stands before the command."""
    top = Parser(
        prog="remoterun",
        usage="remoterun [--on URL] COMMAND …",
        description="Drop a Python file into a folder, call it by name from anywhere.",
        epilog=_overview(),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"remoterun {__version__}")
    add_common(top)
    top.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    top.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return top


def command_parser(name: str, module: object) -> Parser:
    """Make the parser of one command."""
    parser = Parser(
        prog=f"remoterun {name}",
        description=COMMANDS[name].help,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    getattr(module, f"{name}_options", lambda parser: None)(parser)
    add_common(parser)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes, before its name or after."""
    absent = argparse.SUPPRESS
    group = parser.add_argument_group("node")
    group.add_argument("--on", metavar="URL", default=absent, help="the node and its transport (REMOTERUN_URL)")
    group.add_argument("--token-file", metavar="FILE", default=absent, help="file with the token (REMOTERUN_TOKEN)")
    group.add_argument("--ca-file", metavar="FILE", default=absent, help="authority to trust instead of the system's")
    group.add_argument("--data", metavar="DIR", default=absent, help="data folder of the local node (REMOTERUN_DATA)")
    group.add_argument("--config", metavar="FILE", default=absent, help="configuration (REMOTERUN_CONFIG)")
    group.add_argument("--json", action="store_true", default=absent, help="print JSON, as on the wire")


def split_tail(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """Split a command line at its first `--`, which argparse would swallow; None where there is none."""
    if "--" not in argv:
        return argv, None
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _overview() -> str:
    width = max(map(len, COMMANDS))
    return "commands:\n" + "\n".join(f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items())


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, 1)
    return f"; did you mean {near[0]}?" if near else ""
