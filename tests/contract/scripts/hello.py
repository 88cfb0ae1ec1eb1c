"""Greet someone.

As often as wanted.
"""

from typing import Annotated, Any

from pydantic import Field


def main(name: str, times: Annotated[int, Field(ge=1, le=9)] = 1) -> dict[str, Any]:
    return {"hello": name, "times": times}
