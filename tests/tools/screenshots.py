"""Takes the README's pictures of the page, into docs/screenshots: a real node, a real browser, and jobs to look at."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from remoterun.messages import JobRequest
from remoterun.testing import RunningNode, running_node

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "screenshots"

KEPT = ("scripts", "script", "job", "picture", "history", "now", "failed", "job-dark", "script-dark", "job-small")

# What a team might have beside the shipped scripts: enough to show forms, output, pictures and failures.
DEPLOY = '''
"""Roll a release out to one environment, host by host."""
# /// script
# [tool.remoterun]
# concurrency = 1
# timeout = "20m"
# ///
import sys, time
from datetime import date
from typing import Annotated, Literal
from pydantic import Field, SecretStr
from remoterun import script

def main(
    version: str,
    environment: Literal["staging", "production"] = "staging",
    not_before: date | None = None,
    batch: Annotated[int, Field(ge=1, le=10)] = 2,
    hosts: list[str] = ["web-1", "web-2"],
    dry_run: bool = False,
    api_key: SecretStr | None = None,
) -> list[dict]:
    """Roll a release out to one environment, host by host.

    Args:
        version: what to roll out, as it is tagged
        environment: where to
        not_before: the day from which it may go out
        batch: hosts at once, from 1 to 10
        api_key: of the load balancer; kept out of every record
    """
    steps = [f"web-{n}" for n in range(1, 13)]
    rows = []
    for done, host in enumerate(steps):
        script.progress(done, len(steps), f"rolling out to {host}")
        print(f"\\x1b[1m{host}\\x1b[0m  \\x1b[36mdrain\\x1b[0m 0 connections left")
        print(f"{' ' * len(host)}  \\x1b[34mfetch\\x1b[0m {version} \\x1b[2m(sha256 9f2c…)\\x1b[0m")
        if done == 3:
            print(f"{host}: health check slow, 812 ms", file=sys.stderr)
        print(f"{' ' * len(host)}  \\x1b[32mhealthy\\x1b[0m after {230 + 17 * done} ms")
        rows.append({"host": host, "version": version, "healthy_after_ms": 230 + 17 * done})
        time.sleep(PAUSE)
    return rows
'''
INVOICE = '''
"""Send the month's invoices."""
def main(month: str = "2026-11") -> int:
    """Send the month's invoices."""
    print("connecting to smtp.internal …")
    raise ConnectionRefusedError(111, "smtp.internal:587 refused the connection")
'''


def main() -> None:
    """Take them all."""
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("chromium is missing: sudo apt install chromium")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        team = Path(folder)
        (team / "ops").mkdir()
        (team / "ops" / "deploy.py").write_text(DEPLOY.replace("PAUSE", "0.35"))
        (team / "ops" / "invoices.py").write_text(INVOICE)
        (team / "ops" / "restore.py").write_text("import nowhere_to_be_found\n\ndef main(: str): ...\n")
        with running_node([ROOT / "scripts", team], workers=4, name="build-1") as node, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            _past(node)
            _pictures(chromium, node)
            chromium.close()


def _past(node: RunningNode) -> None:
    """Let there be a past: runs by several principals, some of which failed."""
    people = {name: node.new_token(["run", "read"], name=name) for name in ("ada", "ci", "grace")}
    for number in range(9):
        _run(node, people["ci"], "hello", name="Ada")
        _run(node, people["ada"], "system_info")
        _run(node, people["grace"], "picture", size=300 + 20 * number)
        if number % 4 == 1:
            _run(node, people["ci"], "ops/invoices", month=f"2026-{number + 1:02d}")
    for number in range(3):
        _run(node, people["ada"], "clock")
        _run(node, people["grace"], "reports/daily", folder=".")
        _run(node, people["ci"], "checksum", path="." if number else None)


def _run(node: RunningNode, token: str, script: str, **params: Any) -> str:
    given = {name: value for name, value in params.items() if value is not None}
    with node.connect("tcp", token) as client:
        try:
            return client.session.run(JobRequest(script=script, params=given or None)).id
        except Exception as error:  # refused calls belong to the past, too
            print(f"{script}: {error}")
            return ""


def _pictures(browser: Browser, node: RunningNode) -> None:
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        context = browser.new_context(
            viewport={"width": width, "height": 800 if width > 400 else 780},
            color_scheme=scheme,  # type: ignore[arg-type]
            device_scale_factor=1 if width > 400 else 2,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(f"{node.urls['http']}/login")
        page.get_by_label("Token").fill(node.token)
        page.get_by_role("button", name="Sign in").click()
        _walk(page, node, "" if (scheme, width) == ("light", 1280) else f"-{scheme}" if width > 400 else "-small")
        context.close()


def _walk(page: Page, node: RunningNode, suffix: str) -> None:
    url = node.urls["http"]
    page.wait_for_url(f"{url}/")
    _take(page, f"scripts{suffix}")
    page.goto(f"{url}/console/scripts/ops/deploy")
    page.get_by_label("version", exact=True).fill("2026.11.3")
    page.get_by_label("environment", exact=True).select_option("production")
    page.get_by_label("api_key").fill("a secret")
    page.get_by_role("heading", name="ops/deploy").click()
    _take(page, f"script{suffix}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/console/jobs/*")
    page.locator("#progress-text", has_text=re.compile("([5-9]|1[01]) of 12")).wait_for()
    _take(page, f"job{suffix}")
    page.locator("h1", has_text="succeeded").wait_for()
    page.locator("#result-view table").wait_for()
    page.goto(f"{url}/console/history")
    page.locator("#jobs li").nth(5).wait_for()
    _take(page, f"history{suffix}")
    job = page.locator("#jobs li", has_text="picture").first.get_attribute("data-id")
    page.goto(f"{url}/console/jobs/{job}")
    page.get_by_role("img", name="Picture").first.wait_for()
    _take(page, f"picture{suffix}")
    page.goto(f"{url}/console/now")
    page.locator("#tiles .tile").first.wait_for()
    _take(page, f"now{suffix}")
    page.goto(f"{url}/console/history?state=failed")
    page.locator("#jobs li a.stretch").first.click()
    page.locator("#error-title").wait_for()
    _take(page, f"failed{suffix}")


def _take(page: Page, name: str) -> None:
    if name not in KEPT:
        return
    page.wait_for_timeout(300)
    page.screenshot(path=PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
