"""Pick values out of a JSON document that comes in on stdin.

    curl -s https://example.org/orders.json | remoterun run json_query query='orders.*.items.0.price'

Args:
    query: keys and positions, separated by dots; * stands for all of them, -1 for the last. Empty: the whole document.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# isolation = "warm"
# timeout = "30s"
# description = "Pick values out of a JSON document on stdin"
# ///

import json
import sys
from typing import Any


def main(query: str = "") -> Any:
    try:
        document = json.loads(sys.stdin.buffer.read(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"stdin holds no JSON: {error}") from error
    steps = query.split(".") if query else []
    found = find(document, steps)
    return found if "*" in steps else found[0]


def find(document: Any, steps: list[str]) -> list[Any]:
    values = [document]
    for depth, step in enumerate(steps):
        where = ".".join(steps[:depth]) or "the document"
        values = [child for value in values for child in children(value, step, where)]
    return values


def children(value: Any, step: str, where: str) -> list[Any]:
    if step == "*":
        if isinstance(value, dict | list):
            return list(value.values() if isinstance(value, dict) else value)
        raise ValueError(f"{where} is {describe(value)}: it has no members")
    try:
        if isinstance(value, dict):
            return [value[step]]
        if isinstance(value, list):
            return [value[int(step)]]
    except (LookupError, ValueError) as error:
        raise ValueError(f"{where} is {describe(value)}: it has no {step!r}") from error
    raise ValueError(f"{where} is {describe(value)}: it has no {step!r}")


def describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(list(value)[:10]) or 'no keys'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return {str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
