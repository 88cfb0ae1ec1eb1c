"""What a browser gets that opens the port: one small page and one picture; pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from remoterun_socket.inline import BrowserRequest

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>remoterun</title>
<h1>remoterun</h1>
<p>This port takes commands in RESP, the Redis protocol. {link}</p>
<pre>redis-cli -p PORT -a TOKEN RUN hello name=Ada</pre>
<p><img src="/test.jpg" alt="test picture" width="320" height="180"></p>
</html>
"""

_HEADERS = (
    "Connection: close\r\n"
    "Cache-Control: no-store\r\n"
    "Content-Security-Policy: default-src 'none'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
)


def answer(request: BrowserRequest, addresses: Mapping[str, tuple[str, ...]]) -> bytes:
    """Give the whole HTTP answer to a browser.

    Parameters:
        addresses: what every transport took, as URLs by name; the page links to the web page among them.
    """
    path = request.target.partition("?")[0]
    if path == "/":
        return _response(request, "200 OK", "text/html; charset=utf-8", _page(addresses))
    if path == "/test.jpg":
        picture = files(__package__).joinpath("test.jpg").read_bytes()
        return _response(request, "200 OK", "image/jpeg", picture)
    return _response(request, "404 Not Found", "text/plain; charset=utf-8", b"There is / and /test.jpg.\n")


def _page(addresses: Mapping[str, tuple[str, ...]]) -> bytes:
    for url in (url for urls in addresses.values() for url in urls):
        if url.startswith(("http://", "https://")):
            link = f'People have <a href="{escape(url)}/">a page with forms and a history</a>.'
            return _PAGE.format(link=link).encode()
    return _PAGE.format(link="").encode()


def _response(request: BrowserRequest, status: str, media_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{_HEADERS}\r\n"
    return head.encode() + (b"" if request.method == "HEAD" else body)
