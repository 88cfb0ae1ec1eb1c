"""One line that says how far a job is: a bar, what is done of how much, how fast, how long it may still take."""

from __future__ import annotations

import io
import shutil
from collections import deque

from rich.console import Console
from rich.text import Text

from remoterun.cli.terminal import safe_line
from remoterun.messages import ProgressEvent

_BAR = 24  # columns
_WINDOW = 30.0  # seconds by which the rate is measured


class ProgressLine:
    """The line of one job; the events themselves are its clock, so that a log's replay says what was then.

    Parameters:
        columns: of the terminal; None: as it is at the time.
    """

    def __init__(self, columns: int | None = None) -> None:
        self._columns = columns
        self._console = Console(file=io.StringIO(), force_terminal=True)  # NO_COLOR and TERM hold
        self._samples: deque[tuple[float, float]] = deque()  # time and what was done

    def show(self, event: ProgressEvent) -> str:
        """Give the line after an event, harmless whatever its message holds."""
        text = Text(no_wrap=True)
        if event.total is not None:
            share = min(max(event.done / event.total, 0.0), 1.0) if event.total > 0 else 0.0
            full = round(share * _BAR)
            text.append("━" * full, "bar.complete" if full < _BAR else "bar.finished")
            text.append("╌" * (_BAR - full) + " ", "bar.back")
        text.append(
            f"{event.done:g}" if event.total is None else f"{event.done:g}/{event.total:g}", "progress.download"
        )
        rate = self._rate(event)
        if rate > 0:
            text.append(f" {rate:.3g}/s", "progress.data.speed")
            if event.total is not None and event.done < event.total:
                text.append(f" {_span((event.total - event.done) / rate)} left", "progress.remaining")
        text.append(f" {safe_line(event.message or '')}".rstrip())
        width = (self._columns or shutil.get_terminal_size().columns) - 1
        text.truncate(width, overflow="ellipsis")
        self._console.width = width
        with self._console.capture() as captured:
            self._console.print(text, end="")
        return captured.get()

    def _rate(self, event: ProgressEvent) -> float:
        """Give how much was done a second lately; 0 where that cannot be said."""
        now = event.time.timestamp()
        if self._samples and event.done < self._samples[-1][1]:  # another attempt began
            self._samples.clear()
        self._samples.append((now, event.done))
        while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW:
            self._samples.popleft()
        began, done = self._samples[0]
        return (event.done - done) / (now - began) if now > began else 0.0


def _span(seconds: float) -> str:
    minutes, rest = divmod(min(int(seconds), 359_999), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
