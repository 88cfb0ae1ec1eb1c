"""What must not leave a machine is taken out of a text: credentials, names of people, hosts and folders; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

_PATTERNS = (
    (re.compile(r"rr_[A-Za-z0-9_-]{8,}"), "<token>"),
    (re.compile(r"(?<=://)[^/\s@]+@"), "<credentials>@"),
)
_ADDRESS = re.compile(r"(?<![\w:.])(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)(?!\w)")
_PATH = re.compile(r"(?<![\w:/.<>])/[^\s:;,'\"()`]+")
_OPEN = ("/proc", "/sys", "/dev", "/usr/bin", "/usr/sbin", "/bin")  # the same on every machine


class Redaction:
    """What is taken out.

    Parameters:
        names: a placeholder by each text that may not appear; longer ones are found first.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = {text: f"<{word}>" for text, word in names.items() if text}
        parts = sorted(map(re.escape, self._names), key=len, reverse=True)
        # No letter beside it, or `ann` would be found in `cannot`.
        self._known = re.compile(rf"(?<![^\W_])(?:{'|'.join(parts)})(?![^\W_])" if parts else r"(?!)", re.IGNORECASE)
        self._by_lower = {text.lower(): word for text, word in self._names.items()}

    def __call__(self, text: str) -> str:
        """Give a text without what must not leave."""
        text = self._known.sub(lambda match: self._by_lower[match[0].lower()], text)
        for pattern, word in _PATTERNS:
            text = pattern.sub(word, text)
        return _PATH.sub(_path, _ADDRESS.sub(_address, text))


def _address(match: re.Match[str]) -> str:
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:  # a time of day, say
        return match[0]
    return match[0] if address.is_loopback or address.is_unspecified else "<address>"


def _path(match: re.Match[str]) -> str:
    path = match[0]
    return path if any(path == each or path.startswith(f"{each}/") for each in _OPEN) else "<path>"
