"""Leave what no honest script leaves as artifacts."""

import os
import socket
from pathlib import Path

from remoterun import script


def main(what: str, count: int = 0, outside: str = "") -> int:
    folder = Path(os.environ["REMOTERUN_ARTIFACTS"])
    script.artifact("honest.txt").write_text("honest")
    if what == "links":
        (folder / "file").symlink_to(outside)
        (folder / "folder").symlink_to(Path(outside).parent)
        (folder / "up").symlink_to("../../..")
        (folder / "loop").symlink_to("loop")
        (folder / "dangling").symlink_to("nowhere")
    elif what == "devices":
        os.mkfifo(folder / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            os.chdir(folder)
            listener.bind("socket")
        for name, kind, number in (("zero", 0o020666, (1, 5)), ("disk", 0o060666, (7, 0))):
            try:
                os.mknod(folder / name, kind, os.makedev(*number))
            except PermissionError:
                continue
    elif what == "names":
        for name in ("new\nline", "esc\x1b[2J", "rtl\u202e", "\x7f", b"no\xff utf-8", "x" * 255, "-rf", " ", "%2e%2e"):
            path = os.path.join(os.fsencode(folder), name if isinstance(name, bytes) else name.encode())
            with open(path, "wb"):
                pass
    elif what == "deep":
        os.chdir(folder)
        for _ in range(count):
            os.mkdir("d")
            os.chdir("d")
            with open("f", "wb"):
                pass
    elif what == "sparse":
        with open(folder / "sparse", "wb") as file:
            file.truncate(10 * 2**30)
    elif what == "many":
        for n in range(count):
            os.close(os.open(f"{folder}/{n}", os.O_CREAT | os.O_WRONLY))
    elif what == "swapped":
        (folder / "honest.txt").unlink()
        folder.rmdir()
        folder.symlink_to(Path(outside).parent)
    elif what == "moved":
        folder.parent.rename(f"{folder.parent}-moved")
        folder.parent.symlink_to(Path(outside).parent)
    elif what == "closed":
        folder.chmod(0)
    return len(what)
