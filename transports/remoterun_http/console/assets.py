"""What a browser loads besides the pages: styles, scripts, the icon; each once, as its address changes with it."""

from __future__ import annotations

import gzip
import hashlib
from functools import cached_property
from pathlib import Path

from remoterun_http.answers import Answer, Header

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
_FOREVER: tuple[Header, ...] = (
    (b"cache-control", b"public, max-age=31536000, immutable"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"vary", b"accept-encoding"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),  # the icon, opened as a page
)


class Assets:
    """The files of the folder `static`."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Every file by its name."""
        found = (path for path in sorted(_FOLDER.rglob("*")) if path.suffix in _TYPES)
        return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in found}

    @cached_property
    def version(self) -> str:
        """What changes when any of them does; part of each address."""
        whole = hashlib.sha256()
        for name, content in self.files.items():
            whole.update(b"%s\0%d\0" % (name.encode(), len(content)))
            whole.update(content)
        return whole.hexdigest()[:12]

    def find(self, name: str, *, packed: bool) -> Answer | None:
        """Give a file, or None where there is none of the name.

        Parameters:
            packed: whether the browser takes gzip.
        """
        content = self.files.get(name)
        if content is None:
            return None
        kind = _TYPES[Path(name).suffix]
        if not packed:
            return Answer(200, content, kind, _FOREVER, usual=())
        if name not in self._packed:
            self._packed[name] = gzip.compress(content, 9, mtime=0)
        return Answer(200, self._packed[name], kind, (*_FOREVER, (b"content-encoding", b"gzip")), usual=())
