"""`remoterun token`: who may call the local node, and with what."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from remoterun.cli.session import local_data, wants_json
from remoterun.cli.tables import local_time, print_table
from remoterun.errors import Invalid
from remoterun.messages import encode
from remoterun.quantities import Duration


def token_options(parser: ArgumentParser) -> None:
    """Add the options of `token`."""
    parser.usage = (
        f"{parser.prog} new --name NAME --scope SCOPE… [--expires 30d]\n"
        f"       {parser.prog} rotate NAME [--overlap 1h] [--expires 30d]\n"
        f"       {parser.prog} list\n"
        f"       {parser.prog} revoke NAME"
    )
    parser.add_argument("action", choices=("new", "rotate", "list", "revoke"))
    parser.add_argument("named", metavar="NAME", nargs="?", help="the token to revoke, or to make another in place of")
    parser.add_argument("--name", help="the name of the new token, and of its principal")
    parser.add_argument(
        "--scope",
        action="append",
        nargs="+",
        metavar="SCOPE",
        help="what it may do: read, read:all, run:GLOB, cancel:all",
    )
    parser.add_argument("--expires", metavar="TIME", help="how long it is valid: 30d, 12h; for ever where absent")
    parser.add_argument(
        "--overlap", metavar="TIME", default="1h", help="how long the old token stays valid beside the new one; 1h"
    )


def token(options: Namespace) -> int:
    """Make, rotate, list or revoke tokens in the data folder."""
    from remoterun.access import Tokens

    tokens = Tokens(local_data(options))
    if options.action == "new":
        scopes = [scope for given in options.scope or () for scope in given]
        if not options.name or not scopes:
            raise Invalid("token new needs --name NAME and --scope SCOPE…")
        _show(options, options.name, tokens.new(options.name, scopes, _seconds("--expires", options.expires)))
    elif options.action == "rotate":
        overlap, expires = _duration("--overlap", options.overlap), _seconds("--expires", options.expires)
        _show(options, options.named, tokens.rotate(_named(options), overlap, expires))
    elif options.action == "revoke":
        tokens.revoke(_named(options))
    elif wants_json(options):
        print(encode(tokens.list()).decode())
    else:
        print_table(
            ("NAME", "SCOPES", "CREATED", "EXPIRES"),
            [
                (one.name, " ".join(one.scopes), local_time(one.created), local_time(one.expires) or "never")
                for one in tokens.list()
            ],
        )
    return 0


def _named(options: Namespace) -> str:
    if not options.named:
        raise Invalid(f"token {options.action} needs the NAME of the token; `remoterun token list` shows them")
    name: str = options.named
    return name


def _show(options: Namespace, name: str, made: str) -> None:
    print(encode({"name": name, "token": made}).decode() if wants_json(options) else made)


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    seconds = _duration(option, text)
    if seconds == 0:
        raise Invalid(f"{option}: a token that is valid for no time is of no use; write it like 30d or 12h")
    return seconds


def _duration(option: str, text: str) -> float:
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise Invalid(f"{option}: {error}") from error
