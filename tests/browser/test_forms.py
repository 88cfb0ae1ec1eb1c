"""A script's form: every kind of field, errors beside them, and the call from elsewhere."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor


def field(page: Page, path: str) -> str:
    return f"[data-path='#/{path}']"


def fill_every_kind(page: Page) -> None:
    page.get_by_label("name", exact=True).fill('Ada O\'Hara "$x"')
    page.locator(field(page, "count")).get_by_role("spinbutton").fill("3")
    page.locator(field(page, "ratio")).get_by_role("spinbutton").fill("0.25")
    page.locator(field(page, "loud")).get_by_role("checkbox").check()
    page.locator(field(page, "colour")).get_by_role("combobox").select_option("red")
    page.locator(field(page, "size")).get_by_role("combobox").select_option("2")
    page.locator(f"{field(page, 'day')} input").fill("2026-11-26")
    page.locator(f"{field(page, 'password')} input").fill("open sesame")
    page.locator(field(page, "tags")).get_by_role("button", name="Add").click()
    page.locator(f"{field(page, 'tags/0')} input").fill("first tag")
    page.locator(field(page, "tags")).get_by_role("button", name="Add").click()
    page.locator(f"{field(page, 'tags/1')} input").fill("second")
    page.locator(f"{field(page, 'home/street')} input").fill("Elm")
    page.locator(field(page, "others")).get_by_role("button", name="Add").click()
    page.locator(f"{field(page, 'others/0/street')} input").fill("Oak")
    page.locator(f"{field(page, 'others/0/number')} input").fill("7")
    page.locator(f"{field(page, 'either')} .jedi-switcher-slot select").select_option("integer")
    page.locator(f"{field(page, 'either')} input[type=number]").fill("5")
    page.locator(f"{field(page, 'extra')} textarea").fill('{"a": [1, null]}')


ASKED = {
    "name": 'Ada O\'Hara "$x"',
    "count": 3,
    "ratio": 0.25,
    "loud": True,
    "colour": "red",
    "size": 2,
    "day": "2026-11-26",
    "tags": ["first tag", "second"],
    "home": {"street": "Elm", "number": 1},
    "others": [{"street": "Oak", "number": 7}],
    "either": 5,
    "extra": {"a": [1, None]},
}


def test_every_kind_of_field_reaches_the_script(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.open("/console/scripts/fields")
    expect(page.locator("#fields")).to_contain_text("whose <b>name</b> it is")
    fill_every_kind(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/console/jobs/*")
    expect(page.locator("h1")).to_contain_text("succeeded")
    with visitor.node.connect() as client:
        job = client.job(page.url.rpartition("/")[2]).job
    assert job.params is not None
    assert "sesame" not in json.dumps(job.params)
    assert {name: value for name, value in job.params.items() if name != "password"} == ASKED
    assert job.result == {"secret": "open sesame", "count": 3, "day": "2026-11-26"}


def test_what_is_wrong_is_told_beside_its_field_in_the_node_s_words(visitor: Visitor) -> None:
    visitor.expected = ["422"]
    visitor.sign_in()
    page = visitor.open("/console/scripts/fields")
    page.locator(field(page, "count")).get_by_role("spinbutton").fill("11")
    page.locator(field(page, "others")).get_by_role("button", name="Add").click()
    page.locator(f"{field(page, 'others/0/street')} input").fill("Oak")
    page.locator(f"{field(page, 'others/0/number')} input").fill("0")
    page.get_by_role("button", name="Run", exact=True).click()
    count = page.locator(field(page, "count"))
    expect(count.locator(".problem")).to_contain_text("10")
    assert count.get_by_role("spinbutton").get_attribute("aria-invalid") == "true"
    expect(page.locator(f"{field(page, 'name')} .problem")).to_have_text("it is required")
    expect(page.locator(f"{field(page, 'others/0/number')} .problem")).to_contain_text("1")
    expect(page.get_by_label("name", exact=True)).to_be_focused()
    page.locator(f"{field(page, 'extra')} textarea").fill("{")
    page.keyboard.press("Control+Enter")
    expect(page.locator(f"{field(page, 'extra')} .problem")).to_contain_text("no JSON")


def test_a_plain_form_is_filled_and_sent_by_keyboard_alone(visitor: Visitor) -> None:
    page = visitor.sign_in()
    page.keyboard.press("/")
    page.keyboard.type("fails")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/scripts/fails")
    page.get_by_label("text", exact=True).focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("typed")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/console/jobs/*")
    expect(page.locator("#error")).to_contain_text("typed")


def test_edit_and_run_begins_with_the_former_parameters(visitor: Visitor) -> None:
    visitor.sign_in()
    job = visitor.run("fields", **ASKED, password="gone")
    page = visitor.open(f"/console/jobs/{job}")
    page.get_by_role("link", name="Edit and run").click()
    expect(page.get_by_label("name", exact=True)).to_have_value(str(ASKED["name"]))
    expect(page.locator(f"{field(page, 'tags/1')} input")).to_have_value("second")
    expect(page.locator(f"{field(page, 'password')} input")).to_have_value("")
    page.locator(field(page, "count")).get_by_role("spinbutton").fill("4")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/console/jobs/*")
    expect(page.locator("h1")).to_contain_text("succeeded")
    with visitor.node.connect() as client:
        assert client.job(page.url.rpartition("/")[2]).job.params == {**ASKED, "count": 4}


def call(page: Page, way: str) -> str:
    page.get_by_role("tab", name=way, exact=True).click()
    return page.locator("#from-text pre").inner_text()


def test_the_calls_from_elsewhere_say_exactly_what_the_form_says(visitor: Visitor, tmp_path: Path) -> None:
    """Each is run as it stands, in a real shell and a real Python."""
    visitor.sign_in()
    page = visitor.open("/console/scripts/fields")
    fill_every_kind(page)
    nasty = "a'b\"c $HOME `id` \\ %s\n😀 {} #"
    page.locator(f"{field(page, 'tags/0')} input").fill(nasty.replace("\n", " "))
    wanted = {**ASKED, "tags": [nasty.replace("\n", " "), "second"]}
    assert "sesame" not in page.locator(".from").inner_text()

    assert json.loads(call(page, "queue"))["params"] == {**wanted, "password": "…"}
    folder = Path(sys.executable).parent
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "REMOTERUN_TOKEN": visitor.node.token,
        "REMOTERUN_URL": visitor.node.urls["tcp"],
    }
    for way in ("CLI", "curl", "Python"):
        text = call(page, way)
        command = [sys.executable, "-c", text] if way == "Python" else ["bash", "-c", text]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert "'secret': '…'" in done.stdout or '"secret":"…"' in done.stdout.replace(": ", ":")
        with visitor.node.connect() as client:
            params = next(iter(client.jobs(script="fields"))).params
        assert params is not None
        assert {**params, "password": "…"} == {**wanted, "password": "…"}, way
    words = shlex.split(call(page, "redis-cli"))
    assert words[0] == "redis-cli"
    assert f"tags:={json.dumps(wanted['tags'], ensure_ascii=False, separators=(',', ':'))}" in words


def test_chosen_files_reach_the_script(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.open("/console/scripts/files")
    page.locator(f"{field(page, 'picture')} input[type=file]").set_input_files(
        {"name": "a b.png", "mimeType": "image/png", "buffer": b"\x89PNG"}
    )
    pages: Any = [{"name": f"{n}.txt", "mimeType": "text/plain", "buffer": b"page %d" % n} for n in (1, 2)]
    page.locator(f"{field(page, 'pages')} input[type=file]").set_input_files(pages)
    page.get_by_label("title", exact=True).fill("Both")
    assert call(page, "CLI") == "remoterun run files title=Both 'picture@a b.png' pages.0@1.txt pages.1@2.txt"
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("h1")).to_contain_text("succeeded")
    with visitor.node.connect() as client:
        job = client.session.get_job(page.url.rpartition("/")[2])
    assert job.result == {"title": "Both", "a b.png": 4, "pages": ["page 1", "page 2"]}
