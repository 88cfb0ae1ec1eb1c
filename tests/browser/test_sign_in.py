"""Signing in and out, and what a sign-in counts for."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from remoterun.testing import RunningNode, running_node
from tests.browser.conftest import SCRIPTS, Visitor


def invitation(node: RunningNode) -> str:
    """Give the newest one-time address that the node printed."""
    return str(re.findall(r"page +(http\S+/login\?code=\S+)", node.log())[-1])


def test_a_token_signs_in_and_is_shown_nowhere(visitor: Visitor) -> None:
    page = visitor.sign_in()
    expect(page.get_by_role("heading", name="Scripts")).to_be_visible()
    assert visitor.node.token not in page.content()
    assert all(visitor.node.token not in url for url in visitor.asked)
    [cookie] = visitor.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
    assert visitor.node.token not in cookie["value"]
    assert page.evaluate("document.cookie") == ""


def test_a_wrong_token_is_told_beside_its_field(visitor: Visitor) -> None:
    visitor.expected = ["401"]
    page = visitor.open("/console/history")
    assert page.url == f"{visitor.url}/login?next=/console/history"
    page.get_by_label("Token").fill("rr_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("no token of remoterun")
    field = page.get_by_label("Token")
    assert field.get_attribute("aria-invalid") == "true"
    assert "rr_wrong" not in page.content()
    field.fill(visitor.node.token)
    field.press("Enter")
    page.wait_for_url(f"{visitor.url}/console/history")


def test_the_printed_address_signs_in_once(visitor: Visitor, browser: Browser) -> None:
    with running_node(SCRIPTS) as node:
        address = invitation(node)
        assert node.token not in address
        page = browser.new_page()
        page.goto(address)
        expect(page.get_by_role("heading", name="Scripts")).to_be_visible()
        assert page.url == f"{node.urls['http']}/"
        other = browser.new_context()
        second = other.new_page()
        second.goto(address)
        expect(second.get_by_role("alert")).to_contain_text("used before")
        other.close()
        page.close()
        assert node.log().count(address.partition("code=")[2]) == 1


def test_signing_out_ends_it_for_the_browser_and_for_the_cookie(visitor: Visitor) -> None:
    page = visitor.sign_in()
    [cookie] = visitor.context.cookies()
    kept: Any = cookie
    page.get_by_label("Signed in as first").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{visitor.url}/login")
    visitor.context.add_cookies([kept])  # someone kept it
    page.goto(f"{visitor.url}/")
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_revoked_token_signs_its_browsers_out(visitor: Visitor) -> None:
    visitor.expected = ["401"]
    token = visitor.node.new_token(["admin"], name="short-lived")
    page = visitor.sign_in(token)
    page.goto(f"{visitor.url}/console/now")  # it asks every two seconds
    visitor.node.revoke_token("short-lived")
    page.wait_for_url("**/login?next=*")


def test_a_sign_in_outlives_the_node(browser: Browser, visitor: Visitor) -> None:
    with running_node(SCRIPTS) as node:
        listen = node.urls["http"].removeprefix("http://")
    with running_node(SCRIPTS, http={"listen": [listen]}) as node:
        context = browser.new_context()
        someone = Visitor(context, node)
        page = someone.sign_in()
        node.restart()
        page.goto(f"{someone.url}/console/history")
        expect(page.get_by_role("heading", name="History")).to_be_visible()
        context.close()


def test_a_sign_in_counts_in_every_http_process(browser: Browser) -> None:
    with running_node(SCRIPTS, http={"processes": 2}) as node:
        context = browser.new_context()
        page = context.new_page()
        page.goto(invitation(node))
        expect(page.get_by_role("heading", name="Scripts")).to_be_visible()
        [cookie] = context.cookies()
        headers = {"Cookie": f"{cookie['name']}={cookie['value']}", "Connection": "close"}
        seen = [httpx2.get(f"{node.urls['http']}/info", headers=headers, trust_env=False) for _ in range(20)]
        assert [answer.status_code for answer in seen] == [200] * 20
        page.get_by_label("Signed in as first").click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login")
        seen = [httpx2.get(f"{node.urls['http']}/info", headers=headers, trust_env=False) for _ in range(20)]
        assert [answer.status_code for answer in seen] == [401] * 20
        context.close()


@pytest.fixture
def cookie(visitor: Visitor) -> str:
    visitor.sign_in()
    [found] = visitor.context.cookies()
    return f"{found['name']}={found['value']}"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_another_site_s_page_can_do_nothing_with_it(visitor: Visitor, cookie: str, site: str) -> None:
    headers = {"Cookie": cookie, "Sec-Fetch-Site": site, "Content-Type": "application/json"}
    with httpx2.Client(base_url=visitor.url, headers=headers, trust_env=False) as client:
        for path in ("/jobs", "/tokens", "/logout"):
            assert client.post(path, content=b"{}").status_code == 403
        if site != "none":
            assert client.get("/jobs").status_code == 403


def test_without_a_browser_s_word_only_its_origin_counts(visitor: Visitor, cookie: str) -> None:
    """What browsers send to an address that is neither loopback nor TLS: no Sec-Fetch-Site."""
    with httpx2.Client(base_url=visitor.url, headers={"Cookie": cookie}, trust_env=False) as client:
        body = {"script": "shows"}
        assert client.get("/jobs").status_code == 200
        assert client.post("/jobs", json=body).status_code == 403
        assert client.post("/jobs", json=body, headers={"Origin": "http://127.0.0.1:1"}).status_code == 403
        assert client.post("/jobs", json=body, headers={"Origin": visitor.url}).status_code == 201


def test_a_link_on_another_site_leads_to_its_page(visitor: Visitor) -> None:
    """`SameSite=Strict` keeps the cookie back from such a request: the page is asked for once more, by itself."""
    page = visitor.sign_in()
    elsewhere = visitor.url.replace("127.0.0.1", "localhost")  # another site; signed in on neither name but one
    link = f"<a href='{visitor.url}/console/now'>x</a>"
    page.route(f"{elsewhere}/far", lambda route: route.fulfill(body=link, content_type="text/html"))
    page.goto(f"{elsewhere}/far")
    page.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Now")).to_be_visible()
    visitor.asked = [url for url in visitor.asked if not url.startswith(elsewhere)]


def test_an_address_elsewhere_is_not_followed_after_the_sign_in(visitor: Visitor) -> None:
    for place in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
        page = visitor.open(f"/login?next={place}")
        page.get_by_label("Token").fill(visitor.node.token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{visitor.url}/")
