"""Python values as JSON knows them, or an error that names the one that has none."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from remoterun.errors import Invalid
from remoterun.messages import FieldError


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Give parameters as JSON knows them: dates, paths, decimals, UUIDs, dataclasses and models as it writes them.

    Raises:
        Invalid: a value has no JSON; `fields` names each.
    """
    plain: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, value in params.items():
        try:
            plain[name] = _plain(value)
        except (TypeError, ValueError, RecursionError) as error:
            errors.append(FieldError(name, str(error)))
    if errors:
        raise Invalid("; ".join(f"{error.field}: {error.message}" for error in errors), fields=errors)
    return plain


def _plain(value: Any) -> Any:
    builtin = msgspec.to_builtins(value, str_keys=True, enc_hook=_unknown_to_msgspec)
    _refuse_what_json_lacks(builtin)
    return builtin


def _unknown_to_msgspec(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    dump = getattr(value, "model_dump", None)  # a pydantic model, without importing pydantic
    if dump is not None:
        return dump(mode="json")
    item = getattr(value, "item", None)  # a number of numpy's
    if item is not None and getattr(value, "ndim", None) == 0:
        return item()
    raise TypeError(f"a {type(value).__name__} has no JSON; give a text, a number, a list, a dict, a date …")


def _refuse_what_json_lacks(value: Any) -> None:
    """Refuse what an encoder would change silently, or fail on far from the caller."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no JSON")
    elif isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError("the text holds a lone surrogate, which has no UTF-8") from error
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_what_json_lacks(key)
            _refuse_what_json_lacks(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_what_json_lacks(item)
