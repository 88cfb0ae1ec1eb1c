"""The page in a real browser: what it loads, how soon it is usable and shows output; and its history."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from measure import Figure, MeasureError, Row, Target, absent
from place import Place, RunningNode
from subjects.growth import with_jobs

_NEEDLE = "a text that no job mentions"


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    return [*_browser_rows(place), *_history_rows(place)]


def _browser_rows(place: Place) -> list[Row]:
    path = shutil.which("chromium")
    if path is None:
        return [Row("page: in a browser", absent("page", "ms", "chromium is not installed"))]
    from playwright.sync_api import sync_playwright

    node = place.node()
    playwright = sync_playwright().start()
    place.defer(playwright.stop)
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    page = browser.new_context().new_page()
    url = f"http://127.0.0.1:{node.http}"
    page.goto(f"{url}/login")
    page.fill("#token", node.token)
    page.click("button.primary")
    page.wait_for_url(f"{url}/")

    def load(measure: str) -> Callable[[], float]:
        def take() -> float:
            fresh = browser.new_context(storage_state=page.context.storage_state())  # with nothing kept
            first = fresh.new_page()
            first.goto(f"{url}/")
            found: float = first.evaluate(measure)
            fresh.close()
            return found

        return take

    return [
        Row(
            "page: the first one, all that it loads",
            Figure("first page", "kB", load(_BYTES)),
            (),
            [Target("≤", 150)],
        ),
        Row(
            "page: the first one, from its last byte to usable",
            Figure("usable", "ms", load(_USABLE)),
            (),
            [Target("≤", 200)],
        ),
        Row(
            "page: a line of output to the screen, the slowest of 20",
            Figure("line", "ms", lambda: _slowest(page, url, node)),
            (),
            [Target("≤", 100)],
        ),
    ]


_ENTRIES = "[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]"
_BYTES = f"{_ENTRIES}.reduce((sum, each) => sum + each.transferSize, 0) / 1000"
# Modules run before DOMContentLoaded: when it is over, every button does what it says.
_USABLE = (
    "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    f" - Math.max(...{_ENTRIES}.filter(each => !each.name.endsWith('.svg')).map(each => each.responseEnd))"
)
_WATCH = """() => new Promise((done) => {
  const late = [];
  new MutationObserver(() => requestAnimationFrame(() => {
    const lines = document.querySelectorAll("#log .line");
    while (late.length < lines.length) {
      late.push(performance.timeOrigin + performance.now() - Number(lines[late.length].textContent));
    }
    if (late.length >= 20) done(late);
  })).observe(document.getElementById("log"), {childList: true, subtree: true});
})"""


def _slowest(page: Any, url: str, node: RunningNode) -> float:
    job = _ask(node, "/jobs", {"script": "ticks"})
    page.goto(f"{url}/console/jobs/{job['id']}", wait_until="domcontentloaded")
    late: list[float] = page.evaluate(_WATCH)
    return max(late)


def _history_rows(place: Place) -> list[Row]:
    node = with_jobs(place)
    who = _ask(node, "/info")["principal"]
    return [
        Row(
            f"page: history, 100 of 1,000,000 jobs, {what}",
            Figure(what, "ms", _timed(node, path)),
            (),
            [Target("≤", most)],
        )
        for what, path, most in (
            ("the newest", "/jobs?limit=100", 100),
            ("of one principal and state", f"/jobs?limit=100&principal={who}&state=succeeded", 100),
            ("an answer to a search for a text", f"/jobs?limit=100&text={urllib.parse.quote(_NEEDLE)}", 500),
        )
    ]


def _timed(node: RunningNode, path: str) -> Callable[[], float]:
    def take() -> float:
        began = time.perf_counter()
        _ask(node, path)
        return (time.perf_counter() - began) * 1000

    return take


def _ask(node: RunningNode, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {node.token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{node.http}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())
    except OSError as error:
        raise MeasureError(f"{path}: {error}") from error
