"""Take one parameter of each type that texts are converted to."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field


def main(
    count: Annotated[int, Field(ge=1)],
    day: date,
    ratio: float = 0.5,
    flag: bool = False,
    tags: list[str] = [],  # noqa: B006 - what people write
    color: Literal["red", "green"] = "red",
) -> dict[str, Any]:
    return {
        "count": [count, type(count).__name__],
        "day": [day.isoformat(), type(day).__name__],
        "ratio": [ratio, type(ratio).__name__],
        "flag": [flag, type(flag).__name__],
        "tags": tags,
        "color": color,
    }
