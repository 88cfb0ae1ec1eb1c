"""Ask several web addresses at once whether they answer, and how fast.

    remoterun run site_check url=https://example.org url=http://localhost:8080/health

Args:
    url: the addresses, http or https, up to 200. Redirects count as answers and are not followed.
    timeout: seconds for each, 0.1 to 60.
    at_once: how many are asked at the same time, 1 to 50.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "5m"
# description = "Ask web addresses whether they answer"
# ///

import asyncio
import ssl
import time
from urllib.parse import SplitResult, urlsplit

from remoterun import script

Answer = dict[str, object]


async def main(url: list[str] | str, timeout: float = 5.0, at_once: int = 10) -> dict[str, object]:
    urls = list(dict.fromkeys([url] if isinstance(url, str) else url))
    check(urls, timeout, at_once)
    gate = asyncio.Semaphore(at_once)
    tasks = [asyncio.create_task(ask(gate, one, timeout)) for one in urls]
    for task in script.track(tasks, message="asking"):
        await asyncio.wait([task])
    answers = [task.result() for task in tasks]
    return {"up": sum(bool(answer["up"]) for answer in answers), "of": len(answers), "sites": answers}


def check(urls: list[str], timeout: float, at_once: int) -> None:
    if not 1 <= len(urls) <= 200:
        raise ValueError(f"give 1 to 200 addresses, not {len(urls)}")
    if not 0.1 <= timeout <= 60:
        raise ValueError(f"timeout is 0.1 to 60 seconds, not {timeout}")
    if not 1 <= at_once <= 50:
        raise ValueError(f"at_once is 1 to 50, not {at_once}")
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or " " in url:
            raise ValueError(f"{url!r} is no web address; write it like https://example.org/path")


async def ask(gate: asyncio.Semaphore, url: str, timeout: float) -> Answer:
    async with gate:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(timeout):
                status = await fetch_status(urlsplit(url))
        except TimeoutError:
            return {"url": url, "up": False, "error": f"no answer within {timeout:g} s"}
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            return {"url": url, "up": False, "error": str(error) or type(error).__name__}
        milliseconds = round((time.perf_counter() - start) * 1000, 1)
        return {"url": url, "up": status < 400, "status": status, "milliseconds": milliseconds}


async def fetch_status(parts: SplitResult) -> int:
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or (443 if secure else 80), ssl=secure)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: site_check\r\nConnection: close\r\n\r\n"
        writer.write(head.encode("ascii"))
        return parse_status(await reader.readline())
    finally:
        writer.close()


def parse_status(line: bytes) -> int:
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/") or not rest[:3].isdigit():
        raise ValueError("it answers, but not in HTTP")
    return int(rest[:3])
