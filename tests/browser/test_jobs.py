"""A job's page: live, to its end, and afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from remoterun.testing import running_node
from tests.browser.conftest import SCRIPTS, Visitor

Write = Callable[[str], None]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    path.write_text("")
    return path


def write(gate: Path, text: str) -> None:
    with gate.open("a") as file:
        file.write(text)


def test_output_arrives_as_it_is_written(visitor: Visitor, gate: Path) -> None:
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.submit('gated', path=str(gate))}")
    expect(page.locator("h1")).to_contain_text("running")
    for number, word in enumerate(("one", "two", "three"), 1):
        write(gate, f"{word}\n")
        expect(page.locator(".line").last).to_have_text(f"{number}: {word}")
    expect(page.locator("#progress-text")).to_contain_text(re.compile(r"[123] of 10 \([123]0 %\)"))
    write(gate, "stop\n")
    expect(page.locator("h1")).to_contain_text("succeeded")
    expect(page.locator("#result-view")).to_have_text("stopped")
    expect(page.locator("#progress")).to_be_hidden()


def test_cancel_and_run_again(visitor: Visitor, gate: Path) -> None:
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.submit('gated', path=str(gate))}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_contain_text("cancelled")
    write(gate, "stop\n")
    first = page.url
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: url != first)
    expect(page.locator("h1")).to_contain_text("succeeded")
    expect(page.locator("#about")).to_contain_text("Run again of")


def test_what_a_job_leaves_is_shown_in_place(visitor: Visitor) -> None:
    visitor.expected = ["Blocked script execution"]  # in the sandboxed frame: as it should be
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.run('shows')}")
    for name in ("plots/plot.png", "drawing.svg"):
        picture = page.get_by_role("img", name=f"Picture {name}")
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    expect(page.locator("figure", has_text="rows.csv").locator("tbody tr").first).to_contain_text("<b>ada</b>")
    frame = page.locator("iframe")
    assert frame.get_attribute("sandbox") == ""
    expect(page.frame_locator("iframe").get_by_role("heading")).to_have_text("Hello")
    expect(page.locator("#result-view tbody tr").first).to_contain_text("<i>2026</i>")
    page.get_by_role("group", name="Show the result as").get_by_role("button", name="tree").click()
    expect(page.locator("#result-view .tree")).to_contain_text("2 fields")


def test_output_has_colours_and_carriage_returns_and_streams_apart(visitor: Visitor) -> None:
    visitor.expected = ["Blocked script execution"]
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.run('shows')}")
    expect(page.locator(".line")).to_have_count(3)  # two pipes: which is read first nobody knows
    assert sorted(page.locator(".line").all_inner_texts()) == ["100%", "red and plain", "to stderr"]
    expect(page.locator(".ansi-red-fg")).to_have_text("red")
    page.get_by_role("button", name="stderr").click()
    expect(page.locator(".line")).to_have_text(["to stderr"])
    page.get_by_role("button", name="stdout").click()
    expect(page.locator(".line")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).last.click()
    assert download.value.path().read_bytes() == b"\x1b[31mred\x1b[0m and plain\n10%\r20%\r\x1b[K100%\n"


def test_a_failure_says_why_and_where(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.run('fails')}")
    expect(page.locator("#error-title")).to_have_text("ValueError")
    expect(page.locator("#error-message")).to_have_text("<img src=x onerror=hacked=1>")
    expect(page.locator("#traceback .where").last).to_contain_text("fails.py")


def test_follow_stops_when_the_reader_scrolls_up(visitor: Visitor, gate: Path) -> None:
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.submit('gated', path=str(gate))}")
    write(gate, "".join(f"word {number}\n" for number in range(200)))
    expect(page.locator(".line").last).to_have_text("200: word 199")
    follow = page.get_by_role("button", name="Follow")
    assert follow.get_attribute("aria-pressed") == "true"
    page.locator("#log").hover()
    page.mouse.wheel(0, -600)
    expect(follow).to_have_attribute("aria-pressed", "false")
    top = page.locator("#log").evaluate("log => log.scrollTop")
    write(gate, "more\n" * 50)
    expect(page.locator("#log-note")).to_contain_text("250 lines")
    assert page.locator("#log").evaluate("log => log.scrollTop") == top
    follow.click()
    expect(page.locator(".line").last).to_have_text("250: more")
    write(gate, "stop\n")
    expect(page.locator(".line").last).to_have_text("251: stop")


def test_the_output_can_be_searched_and_wrapped(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.open(f"/console/jobs/{visitor.run('hostile', kind='lines', count=3000)}")
    expect(page.locator("#log-note")).to_contain_text("3,000 lines")
    page.get_by_label("Search the output").fill("LINE 29")
    expect(page.locator("#hits")).to_have_text("1 of 111")
    page.get_by_label("Search the output").press("Shift+Enter")
    expect(page.locator("#hits")).to_have_text("111 of 111")
    expect(page.locator(".line", has_text="line 2999")).to_be_visible()
    page.get_by_role("button", name="Wrap").click()
    assert page.locator("#log.wrap").count() == 1


def test_a_killed_node_is_waited_for_without_gap_or_repetition(browser: Browser, gate: Path) -> None:
    with running_node(SCRIPTS) as node:
        listen = node.urls["http"].removeprefix("http://")
    with running_node(SCRIPTS, http={"listen": [listen]}) as node:
        context = browser.new_context()
        visitor = Visitor(context, node)
        page = visitor.sign_in()
        visitor.open(f"/console/jobs/{visitor.submit('gated', path=str(gate))}")
        write(gate, "".join(f"word {number}\n" for number in range(30)))
        expect(page.locator(".line").last).to_have_text("30: word 29")
        with node.connect() as client:  # what the page has seen is on disk, too
            job = client.job(page.url.rpartition("/")[2])
        node.kill()
        expect(page.locator("#line")).to_contain_text("connection is lost")
        node.start()
        expect(page.locator("h1")).to_contain_text("lost")
        expect(page.locator("#line")).to_be_hidden()
        seen = page.locator(".line").all_inner_texts()
        assert seen == [f"{number + 1}: word {number}" for number in range(30)]
        with node.connect() as client:
            kept = list(client.session.events(job.id))
        assert [event.n for event in kept] == list(range(1, len(kept) + 1))
        context.close()
