"""Count lines, words and bytes of what comes in on stdin, and name the most frequent words.

    remoterun run word_count top=3 < README.md

Args:
    top: how many of the most frequent words to name, 0 to 1000.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# memory = "1GB"
# description = "Count lines, words and bytes on stdin"
# ///

import re
import sys
from collections import Counter

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def main(top: int = 5) -> dict[str, object]:
    if not 0 <= top <= 1000:
        raise ValueError(f"top is 0 to 1000 words, not {top}")
    lines = size = 0
    words: Counter[str] = Counter()
    for line in sys.stdin.buffer:
        size += len(line)
        lines += line.endswith(b"\n")  # as wc counts: a last line without an end is none
        words.update(WORD.findall(line.decode("utf-8", "replace").casefold()))
    return {
        "lines": lines,
        "words": words.total(),
        "bytes": size,
        "distinct": len(words),
        "top": [{"word": word, "count": count} for word, count in words.most_common(top)],
    }
