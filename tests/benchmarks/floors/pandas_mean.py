"""The same mean by hand: `python pandas_mean.py`."""

import pandas

print(float(pandas.Series([1.0, 2.0, 3.0]).mean()))
