"""Write what an attacker would, or very much of it."""

import sys


def main(kind: str = "texts", count: int = 1000) -> None:
    if kind == "texts":
        for text in TEXTS:
            print(text)
    elif kind == "line":
        sys.stdout.write("x" * count + "\n")
    else:
        sys.stdout.writelines(f"line {number}\n" for number in range(1, count + 1))


TEXTS = (
    "<script>hacked = 1</script><img src=x onerror='hacked = 1'>",
    "</pre></div><svg onload=hacked=1>",
    "\x1b]8;;javascript:hacked=1\x07click me\x1b]8;;\x07",
    "\x1b]0;a title\x07\x1b[2J\x1b[H\x1b[?1049h\x1b[6n the screen is not cleared",
    "\x1b[31m<b>red</b>\x1b[0m",
    "\x1b[38;2;1;2;3;url(http://x)m<i>colour</i>",
    "\x1b[" + "1;" * 100_000 + "m long escape",
    "user\u202egnp.exe",
    "zero\u200bwidth",
    "a\x00b\x07c\x08d",
    "&lt;script&gt; stays as it is &amp;amp;",
    "\ud7ff\ue000\U0010ffff",
)
