"""Why a script cannot be called."""

from __future__ import annotations


class Defect(Exception):
    """Break one script, and no other.

    Parameters:
        message: what is wrong and what to do about it, one line.
        line: where in the file, from 1.
        passing: whether it may go away without an edit of the file (a module that gets installed).
    """

    def __init__(self, message: str, *, line: int | None = None, passing: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.passing = passing

    def reason(self, path: str) -> str:
        """Say it in one line that begins with the place."""
        place = path if self.line is None else f"{path}:{self.line}"
        return f"{place}: {self.message}"
