"""Report on a day."""

from datetime import date


def main(day: date) -> str:
    return f"report of {day.isoformat()}"
