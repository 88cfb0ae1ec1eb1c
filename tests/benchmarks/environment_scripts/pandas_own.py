"""Take a mean with pandas, from an environment of this script's own, which the fork server has imported."""

# /// script
# dependencies = ["pandas"]
# [tool.remoterun]
# isolation = "fork"
# preload = ["pandas"]
# ///

import pandas


def main(name: str) -> dict[str, float]:
    return {name: float(pandas.Series([1.0, 2.0, 3.0]).mean())}
