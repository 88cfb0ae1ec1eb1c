"""`remoterun ls`, `show` and `info`: what a node has and is."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from remoterun.cli.session import node_session, wants_json
from remoterun.cli.tables import local_time, print_facts, print_table
from remoterun.cli.terminal import safe_text
from remoterun.messages import NodeInfo, ScriptInfo, encode


def ls_options(parser: ArgumentParser) -> None:
    """Add the options of `ls`."""
    parser.add_argument("pattern", nargs="?", default="*", help="a glob of names: 'reports/*'")


def ls(options: Namespace) -> int:
    """List scripts, by name."""
    with node_session(options) as session:
        scripts = session.list_scripts(options.pattern)
    if wants_json(options):
        print(encode(scripts).decode())
    else:
        print_table(("NAME", "PARAMETERS", "DESCRIPTION"), [_row(script) for script in scripts])
    return 0


def show_options(parser: ArgumentParser) -> None:
    """Add the options of `show`."""
    parser.add_argument("name", help="the script's name")


def show(options: Namespace) -> int:
    """Show a script's parameters and settings."""
    with node_session(options) as session:
        script = session.get_script(options.name)
    if wants_json(options):
        print(encode(script).decode())
    else:
        _print_script(script)
    return 0


def info(options: Namespace) -> int:
    """Show a node's version, addresses and load."""
    with node_session(options) as session:
        node = session.info()
    if wants_json(options):
        print(encode(node).decode())
    else:
        _print_node(node)
    return 0


def describe_type(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a JSON Schema takes."""
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " | ".join(describe_type(choice) for choice in choices)
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = schema.get("type", "any")
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"list of {describe_type(schema['items'])}"
    return str(schema.get("format", kind))


def signature(script: ScriptInfo) -> str:
    """Give a script's parameters in one line: `name [times=1]`, `-- argv` for a plain one."""
    if script.parameters is None:
        return "-- argv"
    required = script.parameters.get("required", ())
    words = []
    for name, schema in script.parameters.get("properties", {}).items():
        if name in required:
            words.append(name)
        else:
            words.append(f"[{name}={json.dumps(schema['default'])}]" if "default" in schema else f"[{name}]")
    return " ".join(words)


def _row(script: ScriptInfo) -> tuple[str, str, str]:
    if script.broken is not None:
        return script.name, "", f"broken: {script.broken}"
    return script.name, signature(script), script.description


def _print_script(script: ScriptInfo) -> None:
    print_facts(
        [
            ("name", script.name),
            ("kind", script.kind),
            ("broken", script.broken),
            ("description", script.description or None),
            ("version", script.version[:12]),
            ("isolation", script.isolation),
            ("timeout", f"{script.timeout:g}s" if script.timeout else "none"),
            ("concurrency", str(script.concurrency) if script.concurrency else "as many as the node has workers"),
            ("retries", str(script.retries)),
        ]
    )
    if script.parameters is not None:
        print()
        required = script.parameters.get("required", ())
        rows = [
            (
                name,
                describe_type(schema),
                "required" if name in required else json.dumps(schema.get("default")),
                str(schema.get("description", "")),
            )
            for name, schema in script.parameters.get("properties", {}).items()
        ]
        print_table(("PARAMETER", "TYPE", "DEFAULT", "MEANING"), rows)
    if script.doc:
        print("\n" + safe_text(script.doc.rstrip()))


def _print_node(node: NodeInfo) -> None:
    load = node.load
    print_facts(
        [
            ("node", node.node),
            ("version", f"remoterun {node.version}, Python {node.python}"),
            ("started", local_time(node.started)),
            ("scripts", str(node.scripts)),
            ("load", f"{load.running} of {load.workers} running, {load.queued} of {load.queue} waiting"),
            *((name, ", ".join(addresses)) for name, addresses in node.transports.items()),
            *((f"broker of {name}", state) for name, state in node.brokers.items()),
            *((f"limit {name}", means) for name, means in node.enforced.items()),
            *((f"count {name}", str(count)) for name, count in node.counters.items()),
        ]
    )
