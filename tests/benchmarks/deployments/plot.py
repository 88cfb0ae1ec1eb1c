"""The table as a picture: an SVG that is small, the same for the same values, and legible on light and on dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployments.contenders import Contender

_TEXT, _YARDSTICK, _OURS = "#808890", "#9aa0a6", "#3b82c4"  # each has contrast enough on white and on black


def draw(contenders: Sequence[Contender], path: Path) -> None:
    """Draw calls a second as bars, and beside them within how long calls were answered."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = [each for each in contenders if each.taken]
    look = {"svg.fonttype": "none", "svg.hashsalt": "remoterun", "font.family": "sans-serif", "font.size": 9}
    colours = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _TEXT)
    with mpl.rc_context({**look, **colours}):
        figure = Figure(figsize=(9, 0.9 + 0.34 * len(shown)), layout="constrained")
        rates, times = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _rates(rates, shown)
        _times(times, shown)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _rates(axes: Any, shown: Sequence[Contender]) -> None:
    bars = axes.barh(
        [each.name.replace("`", "") for each in shown],
        [each.rate for each in shown],
        color=[_OURS if each.kind == "ours" else _YARDSTICK for each in shown],
        height=0.7,
    )
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("calls/s")
    axes.invert_yaxis()
    _bare(axes)


def _times(axes: Any, shown: Sequence[Contender]) -> None:
    for row, each in enumerate(shown):
        p50, p99 = each.median(lambda taken: taken.p50), each.median(lambda taken: taken.p99)
        colour = _OURS if each.kind == "ours" else _YARDSTICK
        axes.plot([p50, p99], [row, row], color=colour, linewidth=2, marker="|", markersize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("ms: half of the calls, 99 of 100")
    _bare(axes)


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(left=False)
