"""Hostile output is text: nothing of it runs, asks another server, or brings the page to a stand."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor

SCALE = float(os.environ.get("REMOTERUN_TEST_SCALE", "1"))


def test_the_corpus_is_shown_as_the_text_that_it_is(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.run('hostile')}")
    expect(page.locator("h1")).to_contain_text("succeeded")
    log = page.locator("#log")
    for text in (
        "<script>hacked = 1</script><img src=x onerror='hacked = 1'>",
        "</pre></div><svg onload=hacked=1>",
        "<b>red</b>",
        "the screen is not cleared",
        "&lt;script&gt; stays as it is &amp;amp;",
    ):
        expect(log).to_contain_text(text)
    for name in ("U+202E", "U+200B", "NUL", "BEL", "BS"):
        expect(log.locator(".control", has_text=name).first).to_be_visible()
    assert log.locator("script, img, svg, b, i").count() == 0
    assert log.locator("a").count() == 0
    assert "screen" not in page.title()


def test_hostile_texts_elsewhere_are_texts_too(visitor: Visitor) -> None:
    page = visitor.sign_in()
    expect(page.locator(".about", has_text="<script>alert(1)</script>")).to_be_visible()
    page = visitor.open("/console/scripts/fails")
    expect(page.locator("#doc")).to_contain_text("<script>alert(1)</script>")
    expect(page.get_by_label("text", exact=True)).to_have_value("<img src=x onerror=hacked=1>")
    visitor.run("fails")
    page = visitor.open("/console/history?script=fails")
    expect(page.locator(".brief").first).to_contain_text("<img src=x onerror=hacked=1>")


@pytest.mark.parametrize("sink", ["innerHTML = '<b>x</b>'", "insertAdjacentHTML('beforeend', '<b>x</b>')"])
def test_the_page_itself_cannot_make_markup_of_a_text(visitor: Visitor, sink: str) -> None:
    page = visitor.sign_in()
    page.evaluate(f"document.body.{sink}")
    assert page.locator("body b").count() == 0
    assert "<b>x</b>" in page.locator("body").inner_text()


def test_a_huge_line_is_cut_for_display(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.run('hostile', kind='line', count=5_000_000)}")
    line = page.locator(".line").first
    expect(line.locator(".control")).to_contain_text("cut here for display")
    assert len(line.inner_text()) < 10_000


def test_a_million_lines_stay_usable(visitor: Visitor) -> None:
    count = int(1_000_000 * SCALE)
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.run('hostile', kind='lines', count=count)}")
    expect(page.locator("#log-note")).to_contain_text(f"{count:,} lines", timeout=120_000)
    assert page.locator(".line").count() < 300
    page.locator("#log").focus()
    page.keyboard.press("End")
    expect(page.locator(".line").last).to_have_text(f"line {count}")
    page.get_by_role("button", name="Wrap").click()
    page.get_by_label("Search the output").fill(f"line {count // 2}")
    expect(page.locator("#hits")).to_contain_text("1 of ")
    expect(page.locator(".line", has_text=f"line {count // 2}").first).to_be_visible()
