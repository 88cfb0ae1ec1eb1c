"""Looking back, looking at now, and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from remoterun.errors import Forbidden, Unauthenticated
from remoterun.messages import JobRequest
from tests.browser.conftest import Visitor


def test_the_history_is_searched_by_text_script_state_and_who(visitor: Visitor) -> None:
    someone = visitor.node.new_token(["run", "read"], name="someone")
    with visitor.node.connect("tcp", someone) as client:
        theirs = client.session.run(JobRequest(script="fails", params={"text": "a needle, ü"})).id
    ours = visitor.run("fails", text="another needle")
    visitor.run("shows")
    visitor.sign_in()
    page = visitor.open("/console/history")
    jobs = page.locator("#jobs li")
    page.get_by_label("Text").fill("NEEDLE")
    expect(jobs).to_have_count(2)
    page.get_by_label("Who").fill("someone")
    expect(jobs).to_have_count(1)
    expect(jobs.first).to_have_attribute("data-id", theirs)
    page.get_by_label("Who").fill("")
    page.get_by_label("Text").fill("another needle")
    expect(jobs.first).to_have_attribute("data-id", ours)
    expect(jobs).to_have_count(1)
    page.get_by_label("State").select_option("succeeded")
    expect(jobs).to_have_count(0)
    expect(page.locator("#note")).to_have_text("No job matches.")
    page.get_by_label("Text").fill("")
    page.get_by_label("Script", exact=True).fill("shows")
    expect(jobs.first).to_contain_text("shows")
    page.reload()  # the filters are in the address
    expect(page.get_by_label("Script", exact=True)).to_have_value("shows")
    expect(jobs.first).to_contain_text("shows")


def test_it_is_live_at_its_top(visitor: Visitor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.write_text("")
    visitor.sign_in()
    page = visitor.open("/console/history?script=gated")
    expect(page.locator("#note")).not_to_be_empty()
    job = visitor.submit("gated", path=str(gate))
    row = page.locator(f"[data-id='{job}']")
    expect(row).to_contain_text("running")
    gate.write_text("stop\n")
    expect(row).to_contain_text("succeeded")


def test_pages_follow_each_other(visitor: Visitor) -> None:
    ids = [visitor.submit("fails", text=f"page {number}") for number in range(130)]
    visitor.sign_in()
    page = visitor.open("/console/history?script=fails")
    page.locator("#more").scroll_into_view_if_needed()
    for job in (ids[-1], ids[0]):
        expect(page.locator(f"[data-id='{job}']")).to_have_count(1)


def test_two_jobs_are_compared(visitor: Visitor) -> None:
    visitor.run("fails", text="left one")
    visitor.run("fails", text="right one")
    visitor.sign_in()
    page = visitor.open("/console/history?script=fails")
    for number in (0, 1):
        page.locator("#jobs li").nth(number).get_by_role("checkbox").check()
    page.get_by_role("link", name="Compare").click()
    row = page.locator("#params tr", has_text="text")
    expect(row).to_contain_text("left one")
    expect(row).to_contain_text("right one")
    expect(row).to_have_class("changed")


def test_now_shows_what_runs_and_what_was_refused(visitor: Visitor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.write_text("")
    visitor.sign_in()
    page = visitor.open("/console/now")
    job = visitor.submit("gated", path=str(gate))
    expect(page.locator("#running")).to_contain_text("gated")
    token = visitor.node.new_token(["run:none"], name="limited")
    with visitor.node.connect("tcp", token) as client, pytest.raises(Forbidden):
        client.run("fails")
    expect(page.locator("#refusals")).to_contain_text("limited")
    with visitor.node.connect() as client:
        client.job(job).cancel()


def test_an_administrator_makes_and_revokes_tokens(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.open("/console/tokens")
    page.get_by_label("Name").fill("from.page")
    page.get_by_label("Run only").fill("shows")
    page.get_by_role("button", name="Make the token").click()
    expect(page.locator("#once code")).to_contain_text("rr_")
    token = page.locator("#once code").inner_text()
    with visitor.node.connect("tcp", token) as client:
        info = client.info()
    assert (info.principal, info.scopes) == ("from.page", ("read", "run:shows"))
    page.get_by_role("button", name="Revoke from.page").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_role("button", name="Revoke from.page")).to_have_count(0)
    with pytest.raises(Unauthenticated):
        visitor.node.connect("tcp", token)


def test_what_a_caller_may_not_do_has_no_button(visitor: Visitor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.write_text("")
    job = visitor.submit("gated", path=str(gate))
    page = visitor.sign_in(visitor.node.new_token(["read:all"], name="auditor"))
    expect(page.get_by_role("link", name="Tokens")).to_have_count(0)
    page = visitor.open("/console/scripts/shows")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    expect(page.locator("#may-not")).to_contain_text("run:shows")
    page = visitor.open(f"/console/jobs/{job}")
    expect(page.locator("h1")).to_contain_text("running")
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(page.get_by_role("link", name="Edit and run")).to_have_count(0)
    visitor.expected = ["403"]
    page = visitor.open("/console/tokens")
    expect(page.get_by_role("heading", name="That is not for you")).to_be_visible()
    with visitor.node.connect() as client:
        client.job(job).cancel()
