"""The same greeting by hand: `python hello.py Ada`."""

import json
import sys


def main(name: str) -> dict[str, str]:
    return {"hello": name}


print(json.dumps(main(sys.argv[1])))
