"""Everybody can read it and reach it: axe-core finds nothing serious, at any width and in both colour schemes."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser

from remoterun.testing import RunningNode
from tests.browser.conftest import Visitor, violations

PLACES = ("/console/scripts/fields", "JOB", "FAILED", "/console/history", "COMPARE", "/console/now", "/console/tokens")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_axe_finds_no_serious_violation(browser: Browser, node: RunningNode, scheme: Any, width: int) -> None:
    size: Any = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    visitor = Visitor(context, node)
    done, failed = visitor.run("shows"), visitor.run("fails")
    places = {
        "JOB": f"/console/jobs/{done}",
        "FAILED": f"/console/jobs/{failed}",
        "COMPARE": f"/console/compare?job={done}&job={failed}",
    }
    found = {"/login": violations(visitor.open("/login")), "/": violations(visitor.sign_in())}
    for place in PLACES:
        page = visitor.open(places.get(place, place))
        if place == "/console/scripts/fields":
            page.locator("[data-path='#/others']").get_by_role("button", name="Add").click()
        if place == "JOB":
            page.locator(".line").first.wait_for()
        found[place] = violations(page)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if overflow > 0:
            found[place].append(f"the page is {overflow} px wider than the window")
    assert {place: problems for place, problems in found.items() if problems} == {}
    context.close()


def test_every_page_can_be_walked_by_tab(visitor: Visitor) -> None:
    page = visitor.sign_in()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.className") == "stretch"
    page.keyboard.press("?")
    assert page.locator("#keys").evaluate("dialog => dialog.open")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url("**/console/history")
