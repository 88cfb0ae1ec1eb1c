"""Browsers that are signed in: what their cookies count for, and for how long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from remoterun.errors import Forbidden
from remoterun_http.console import signin
from remoterun_http.console.signin import SignIns, comes_from_own_page

HOST = {b"host": b"127.0.0.1:7461"}
TOKEN = "rr_a_token"


def headers_with(header: tuple[bytes, bytes], **more: bytes) -> dict[bytes, bytes]:
    cookie = header[1].partition(b";")[0]
    return {**HOST, b"cookie": b"other=1; " + cookie, **{name.replace("_", "-").encode(): more[name] for name in more}}


def test_a_sign_in_is_known_to_every_process_and_its_file_holds_no_token(tmp_path: Path) -> None:
    cookie = SignIns(tmp_path).open(TOKEN, HOST, "http")
    other = SignIns(tmp_path)
    assert other.token(headers_with(cookie), "GET", "http") == TOKEN
    assert other.token(HOST, "GET", "http") is None
    file = tmp_path / "signins.json"
    assert file.stat().st_mode & 0o077 == 0
    secret = cookie[1].partition(b"=")[2].partition(b";")[0]
    assert TOKEN.encode() not in file.read_bytes()
    assert secret not in file.read_bytes()
    SignIns(tmp_path).close(headers_with(cookie), "http")
    assert other.token(headers_with(cookie), "GET", "http") is None


def test_a_code_counts_once_in_whichever_process_and_is_no_cookie(tmp_path: Path) -> None:
    code = SignIns(tmp_path).new_code(TOKEN)
    other = SignIns(tmp_path)
    assert other.token({**HOST, b"cookie": b"remoterun-7461=" + code.encode()}, "GET", "http") is None
    assert other.redeem("wrong") is None
    assert other.redeem(code) == TOKEN
    assert SignIns(tmp_path).redeem(code) is None


def test_both_are_over_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signins = SignIns(tmp_path)
    cookie, code = signins.open(TOKEN, HOST, "http"), signins.new_code(TOKEN)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + signin.CODE_LIFETIME + 1)
    assert signins.redeem(code) is None
    assert signins.token(headers_with(cookie), "GET", "http") == TOKEN
    monkeypatch.setattr(time, "time", lambda: now + signin.LIFETIME + 1)
    assert signins.token(headers_with(cookie), "GET", "http") is None


def test_without_a_data_folder_they_are_in_memory(tmp_path: Path) -> None:
    signins = SignIns(tmp_path / "none")
    cookie = signins.open(TOKEN, HOST, "http")
    assert signins.token(headers_with(cookie), "GET", "http") == TOKEN
    signins.close(headers_with(cookie), "http")
    assert signins.token(headers_with(cookie), "GET", "http") is None


def test_a_broken_file_signs_everybody_out(tmp_path: Path) -> None:
    signins = SignIns(tmp_path)
    cookie = signins.open(TOKEN, HOST, "http")
    (tmp_path / "signins.json").write_text("{")
    assert signins.token(headers_with(cookie), "GET", "http") is None
    assert signins.token(headers_with(signins.open(TOKEN, HOST, "http")), "GET", "http") == TOKEN


def test_under_tls_the_cookie_is_for_tls_alone(tmp_path: Path) -> None:
    name, value = SignIns(tmp_path).open(TOKEN, {b"host": b"ops.example"}, "https")
    assert name == b"set-cookie"
    assert value.startswith(b"__Host-remoterun=")
    assert {b"Secure", b"HttpOnly", b"SameSite=Strict", b"Path=/"} <= set(value.split(b"; "))


def test_a_request_from_elsewhere_is_refused_though_it_brings_the_cookie(tmp_path: Path) -> None:
    signins = SignIns(tmp_path)
    cookie = signins.open(TOKEN, HOST, "http")
    with pytest.raises(Forbidden):
        signins.token(headers_with(cookie, sec_fetch_site=b"same-site"), "GET", "http")
    with pytest.raises(Forbidden):
        signins.token(headers_with(cookie), "POST", "http")


@pytest.mark.parametrize(
    ("method", "site", "origin", "own"),
    [
        ("GET", b"same-origin", None, True),
        ("POST", b"same-origin", None, True),
        ("GET", b"none", None, True),
        ("POST", b"none", None, False),
        ("GET", b"same-site", None, False),
        ("POST", b"cross-site", b"http://127.0.0.1:7461", False),
        ("GET", None, None, True),
        ("POST", None, None, False),
        ("POST", None, b"http://127.0.0.1:7461", True),
        ("POST", None, b"https://127.0.0.1:7461", True),
        ("POST", None, b"http://127.0.0.1:1", False),
        ("GET", None, b"http://evil.example", False),
        ("POST", None, b"null", False),
    ],
)
def test_where_a_request_comes_from(method: str, site: bytes | None, origin: bytes | None, own: bool) -> None:
    said = {b"sec-fetch-site": site, b"origin": origin}
    headers = HOST | {name: value for name, value in said.items() if value is not None}
    assert comes_from_own_page(headers, method) is own
