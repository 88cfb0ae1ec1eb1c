"""How a file of a job's is sent: whole, in part (RFC 9110, 14), or not at all; it is hostile until proved otherwise."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

from remoterun.messages import ArtifactInfo, Job
from remoterun_http.answers import Header

# What a browser may show in place: nothing of it can carry a script. SVG, HTML and PDF can.
_SHOWN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "text/plain"})
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")


def artifact_headers(info: ArtifactInfo) -> list[Header]:
    """Give the headers under which a file is sent."""
    kind = info.media_type if _MEDIA_TYPE.fullmatch(info.media_type) else "application/octet-stream"
    disposition = "inline" if kind in _SHOWN else "attachment"
    name = info.name.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", name)
    return [
        (b"content-type", b"text/plain; charset=utf-8" if kind == "text/plain" else kind.encode()),
        (
            b"content-disposition",
            f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}".encode(),
        ),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"private, no-cache"),  # it may be kept, and is asked for again before it is shown
        (b"accept-ranges", b"bytes"),
    ]


def entity_tag(job: Job, info: ArtifactInfo) -> str:
    """Give the strong validator of a file: one attempt of a job leaves a name once, and nobody changes it."""
    text = "\0".join((job.id, str(job.attempt), info.name, str(info.size)))
    return f'"{hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Part:
    """What is sent of a file: its status, and the bytes from `start` up to, and without, `stop`."""

    status: int
    start: int = 0
    stop: int = 0


def choose_part(headers: dict[bytes, bytes], tag: str, size: int) -> Part:
    """Say what a request wants: 200, 206, 304 or 416. Of several ranges, none is served: the whole file is."""
    known = headers.get(b"if-none-match")
    if known is not None:
        return Part(304) if _names(known.decode("latin-1"), tag) else Part(200, 0, size)
    wanted = _RANGE.fullmatch(headers.get(b"range", b"").decode("latin-1"))
    condition = headers.get(b"if-range")
    if wanted is None or not (wanted[1] or wanted[2]) or (condition is not None and condition.decode("latin-1") != tag):
        return Part(200, 0, size)
    if not wanted[1]:  # the last so many
        count = min(int(wanted[2]), size)
        return Part(206, size - count, size) if count else Part(416)
    start = int(wanted[1])
    last = int(wanted[2]) if wanted[2] else size - 1
    if wanted[2] and last < start:  # malformed, so it is ignored
        return Part(200, 0, size)
    return Part(206, start, min(last + 1, size)) if start < size else Part(416)


def part_headers(part: Part, tag: str, size: int) -> list[Header]:
    """Give the headers that say which part is sent."""
    headers: list[Header] = [(b"etag", tag.encode())]
    if part.status == 206:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (part.start, part.stop - 1, size)))
    if part.status != 304:
        headers.append((b"content-length", b"%d" % (part.stop - part.start)))
    return headers


def _names(condition: str, tag: str) -> bool:
    """Whether an If-None-Match header names a tag; the weak comparison is meant there."""
    tags = [each.strip().removeprefix("W/") for each in condition.split(",")]
    return "*" in tags or tag in tags
