"""The way in and out: the form for a token, the one-time address, signing out."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import Response

from remoterun.errors import Forbidden, Unauthenticated
from remoterun_http.answers import Answer
from remoterun_http.console.pages import Pages, redirect
from remoterun_http.console.signin import comes_from_own_page
from remoterun_http.requests import CALL, Call

_LARGEST_FORM = 4096  # bytes; it comes from who has proved nothing yet


def add_doors(app: FastAPI, pages: Pages) -> None:
    """Add signing in and out to an application.

    Parameters:
        pages: whose templates it takes.
    """

    @app.get("/login", include_in_schema=False)
    async def ask(request: Request, code: str | None = None, next: str = "/") -> Response:
        if code is None:
            return (await _form(pages, next)).response()
        call: Call = request.scope[CALL]
        token = call.signins.redeem(code)
        if token is None:
            return (await _form(pages, next, "That address was used before, or is too old.")).response()
        return (await _enter(pages, call, token, next)).response()

    @app.post("/login", include_in_schema=False)
    async def enter(request: Request) -> Response:
        call: Call = request.scope[CALL]
        _check_own_page(call)
        fields = parse_qs((await call.body(request.receive, _LARGEST_FORM)).decode(errors="replace"))
        token = _one(fields.get("token"))
        return (await _enter(pages, call, token, _one(fields.get("next")) or "/")).response()

    @app.post("/logout", include_in_schema=False)
    async def leave(request: Request) -> Response:
        call: Call = request.scope[CALL]
        _check_own_page(call)
        return redirect("/login", (call.signins.close(call.headers, call.scope["scheme"]),)).response()


async def _enter(pages: Pages, call: Call, token: str, place: str) -> Answer:
    client = call.scope.get("client")
    try:
        await call.session_of((token, client[0] if client else ""))
    except Unauthenticated as error:
        return await _form(pages, place, _sentence(error.message), 401)
    cookie = call.signins.open(token, call.headers, call.scope["scheme"])
    return redirect(_local(place), (cookie,))


async def _form(pages: Pages, place: str, problem: str = "", status: int = 200) -> Answer:
    views = await pages.views()
    return views.page("login.html", {"next": _local(place), "problem": problem}, status=status)


def _check_own_page(call: Call) -> None:
    if not comes_from_own_page(call.headers, "POST"):
        raise Forbidden("this is for the node's own page only")


def _local(place: str) -> str:
    """Give a place on this site: nobody is sent elsewhere by an address that someone made up."""
    is_local = place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable()
    return place if is_local and place.isascii() else "/"


def _one(values: Sequence[str] | None) -> str:
    return values[0].strip() if values else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
