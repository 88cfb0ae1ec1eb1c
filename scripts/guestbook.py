"""Sign the guest book, or read it: a script that remembers.

A job's own folder is removed after it, so the book is elsewhere: in the file that GUESTBOOK_FILE names
in the node's environment, or in ~/.local/share/remoterun/guestbook.sqlite3.

Args:
    action: sign or read.
    name: who signs, up to 80 characters.
    message: what they write, up to 1000 characters.
    limit: how many entries to read, the newest first, 1 to 100.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# env = ["GUESTBOOK_FILE", "HOME"]
# timeout = "30s"
# description = "Sign the guest book, or read it"
# ///

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

TABLE = """
create table if not exists entries (
    id integer primary key,
    time text not null,
    name text not null,
    message text not null
)
"""


def main(
    action: Literal["sign", "read"] = "read", name: str = "", message: str = "", limit: int = 20
) -> dict[str, object]:
    if action == "sign":
        check_entry(name, message)
    if not 1 <= limit <= 100:
        raise ValueError(f"limit is 1 to 100 entries, not {limit}")
    with closing(open_book()) as book:
        if action == "sign":
            return sign(book, name.strip(), message.strip())
        return read(book, limit)


def check_entry(name: str, message: str) -> None:
    if not 1 <= len(name.strip()) <= 80:
        raise ValueError("to sign, give a name of 1 to 80 characters: action=sign name=Ada message=…")
    if len(message.strip()) > 1000:
        raise ValueError(f"the message has {len(message.strip())} characters; 1000 fit")


def open_book() -> sqlite3.Connection:
    file = Path(os.environ.get("GUESTBOOK_FILE") or Path.home() / ".local/share/remoterun/guestbook.sqlite3")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    book = sqlite3.connect(file, timeout=10)
    with book:
        book.execute(TABLE)
    return book


def sign(book: sqlite3.Connection, name: str, message: str) -> dict[str, object]:
    time = datetime.now(UTC).isoformat(timespec="seconds")
    with book:
        cursor = book.execute("insert into entries (time, name, message) values (?, ?, ?)", (time, name, message))
    return {"entry": cursor.lastrowid, "time": time, "name": name, "message": message}


def read(book: sqlite3.Connection, limit: int) -> dict[str, object]:
    (total,) = book.execute("select count(*) from entries").fetchone()
    rows = book.execute("select id, time, name, message from entries order by id desc limit ?", (limit,))
    entries = [dict(zip(("entry", "time", "name", "message"), row, strict=True)) for row in rows]
    return {"total": total, "entries": entries}
