import os
import signal
import sys


class OwnError(Exception):
    pass


def main(how: str) -> object:
    print("about to fail")
    if how == "raise":
        raise OwnError("no such thing — ✗")
    if how == "exit":
        sys.exit(7)
    if how == "exit text":
        sys.exit("gone wrong")
    if how == "exit zero":
        sys.exit()
    if how == "os exit":
        os._exit(9)
    if how == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "unserialisable":
        return object()
    return None
