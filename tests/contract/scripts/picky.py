"""Have a validator that no schema can say."""

from typing import Annotated

from pydantic import AfterValidator


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("it must be even")
    return value


def main(number: Annotated[int, AfterValidator(_even)]) -> int:
    return number
