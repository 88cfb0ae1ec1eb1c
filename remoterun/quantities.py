"""Durations and sizes as people write them: `30s`, `1h30m`, `512MB`; pure."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


class Duration(float):
    """A number of seconds, written `30s`, `1h30m`, `250ms` or as a bare number."""

    @classmethod
    def parse(cls, text: str | float) -> Duration:
        """Parse a duration.

        Raises:
            ValueError: it is none, or negative.
        """
        number = float(text) if isinstance(text, (int, float)) else _duration(text.strip())
        if not 0 <= number < float("inf"):
            raise ValueError(f"a duration cannot be {text}")
        return cls(number)


class Size(int):
    """A number of bytes, written `512MB`, `16MiB` or as a bare number."""

    @classmethod
    def parse(cls, text: str | int) -> Size:
        """Parse a size.

        Raises:
            ValueError: it is none, or negative.
        """
        if isinstance(text, str):
            match = _SIZE.fullmatch(text.strip())
            if match is None or match[2].upper() not in _BYTES:
                raise ValueError(f"{text!r} is no size; write it like 512MB or 16MiB")
            return cls(int(float(match[1]) * _BYTES[match[2].upper()]))
        if text < 0:
            raise ValueError("a size cannot be negative")
        return cls(text)


def _duration(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(f"{text!r} is no duration; write it like 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_size(count: int) -> str:
    """Write a number of bytes as people read it: `1.5 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
