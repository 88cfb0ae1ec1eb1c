from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SecretStr


class Address(BaseModel):
    street: str
    number: Annotated[int, Field(ge=1)] = 1


def main(
    name: str,
    count: Annotated[int, Field(ge=1, le=10)],
    ratio: float = 0.5,
    loud: bool = False,
    colour: Literal["red", "green"] = "green",
    size: Literal[1, 2, 3] | None = None,
    day: date | None = None,
    password: SecretStr | None = None,
    tags: list[str] = [],  # noqa: B006
    home: Address | None = None,
    others: list[Address] = [],  # noqa: B006
    either: int | str = "x",
    extra: dict[str, Any] = {},  # noqa: B006
) -> dict[str, Any]:
    """Take a parameter of every kind.

    Args:
        name: whose <b>name</b> it is
    """
    return {"secret": password.get_secret_value() if password else None, "count": count, "day": str(day)}
