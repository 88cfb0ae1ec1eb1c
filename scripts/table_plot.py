"""Draw the columns of a CSV table that comes along with the call, and give their statistics.

    remoterun run table_plot table@prices.csv x=day columns=open columns=close

Args:
    table: the CSV file; its first line names the columns.
    x: the column on the horizontal axis; without it the rows are counted.
    columns: what is drawn; without it, every column of numbers.
    kind: how it is drawn.
    title: over the plot.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["pandas>=2.2", "matplotlib>=3.9"]
#
# [tool.remoterun]
# timeout = "2m"
# memory = "2GB"
# preload = ["pandas", "matplotlib.figure", "matplotlib.backends.backend_agg"]
# description = "Draw the columns of a CSV table, with their statistics"
# ///

from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from remoterun import script


def main(
    table: Annotated[Path, script.Upload],
    x: str | None = None,
    columns: list[str] | None = None,
    kind: Literal["line", "bar", "scatter"] = "line",
    title: str = "",
) -> dict[str, Any]:
    frame = pd.read_csv(table)
    if x is not None:
        frame[x] = as_axis(frame[x] if x in frame else missing(x, frame))
    drawn = columns or [name for name in frame.select_dtypes("number") if name != x]
    for name in drawn:
        if name not in frame:
            missing(name, frame)
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    if not drawn:
        raise ValueError(f"no column holds numbers; there are {', '.join(map(str, frame.columns))}")
    # What is worth looking at is left beside the result: plot.png, statistics.csv and statistics.html.
    return {
        "rows": len(frame),
        "columns": drawn,
        "plot": draw(frame, x, drawn, kind, title or table.stem),
        "statistics": frame[drawn].describe(),
    }


def draw(frame: pd.DataFrame, x: str | None, columns: list[str], kind: str, title: str) -> Figure:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    across = frame.index if x is None else frame[x]
    for name in script.track(columns, message="drawing"):
        if kind == "bar":
            axes.bar(across, frame[name], label=name, alpha=0.7)
        elif kind == "scatter":
            axes.scatter(across, frame[name], label=name, s=12)
        else:
            axes.plot(across, frame[name], label=name)
    axes.set_title(title)
    axes.set_xlabel(x or "row")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def as_axis(values: pd.Series) -> pd.Series:
    """Give dates where the texts are dates, else what is there."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    dates = pd.to_datetime(values, errors="coerce", format="ISO8601")
    return values.astype(str) if dates.isna().any() else dates


def missing(name: str, frame: pd.DataFrame) -> pd.Series:
    raise ValueError(f"there is no column {name!r}; there are {', '.join(map(str, frame.columns))}")
