"""A real browser before a real node; whatever the page complains of fails the test."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from remoterun.messages import JobRequest
from remoterun.testing import RunningNode, running_node

SCRIPTS = Path(__file__).parent / "scripts"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PATIENCE = 30_000.0  # milliseconds: a slow machine, with other things to do

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")  # while it is open an event loop runs, and no test of asyncio's could
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing, and CI must have it")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        # Its own sandbox needs privileges that a container may not have; what the page may do is not its matter.
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, workers=4, cancel_grace="300ms") as running:
        yield running


class Visitor:
    """A person at a browser: a page, what it complained of, and the node that it is of."""

    def __init__(self, context: BrowserContext, node: RunningNode) -> None:
        self.context = context
        self.node = node
        self.url = node.urls["http"]
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.expected: list[str] = []  # parts of complaints that belong to the test
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error.stack or error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def sign_in(self, token: str | None = None) -> Page:
        """Sign in with a token, by default the first one."""
        self.page.goto(f"{self.url}/login")
        self.page.get_by_label("Token").fill(token or self.node.token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/")
        return self.page

    def open(self, path: str) -> Page:
        """Go to a page of the node's."""
        self.page.goto(self.url + path)
        return self.page

    def run(self, script: str, **params: Any) -> str:
        """Have a script run, by another program, and give the job's id; with its end awaited."""
        with self.node.connect() as client:
            return client.session.run(JobRequest(script=script, params=params)).id

    def submit(self, script: str, **params: Any) -> str:
        """Have a script started by another program."""
        with self.node.connect() as client:
            return client.session.submit(JobRequest(script=script, params=params)).id

    def check(self) -> None:
        """Fail where the page complained, ran what it should not, or asked another server."""
        unexpected = [text for text in self.complaints if not any(part in text for part in self.expected)]
        assert unexpected == []
        assert {url for url in self.asked if not url.startswith((self.url, "data:", "about:"))} == set()


@pytest.fixture
def visitor(browser: Browser, node: RunningNode) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    someone = Visitor(context, node)
    yield someone
    if not someone.page.is_closed():
        assert someone.page.evaluate("'hacked' in window") is False
    context.close()
    someone.check()


def violations(page: Page) -> list[str]:
    """Give what axe-core finds wrong that is serious or worse."""
    # As a script of the browser's own: the page's policy lets nothing else in.
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
    found = session.send(
        "Runtime.evaluate",
        {
            "expression": "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))",
            "awaitPromise": True,
            "returnByValue": True,
        },
    )
    session.detach()
    return [
        f"{each['id']}: {each['help']}: {item['target']} {item['failureSummary']}"
        for each in json.loads(found["result"]["value"])
        if each["impact"] in ("serious", "critical")
        for item in each["nodes"]
    ]
