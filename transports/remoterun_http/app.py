"""The ASGI application: the gate before everything, the fast way for calls, FastAPI for the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from remoterun.errors import BY_CODE, Forbidden, Internal, Invalid, ServiceError, Unauthenticated
from remoterun.incoming import Incoming
from remoterun.messages import FieldError, ScriptInfo
from remoterun.service import AsyncService
from remoterun.session_cache import SessionCache
from remoterun_http.answers import STATUS, HttpError, Receive, Scope, Send, json_answer, refusal
from remoterun_http.calls import Calls
from remoterun_http.console.doors import add_doors
from remoterun_http.console.pages import Pages
from remoterun_http.console.signin import SignIns
from remoterun_http.events import Ending
from remoterun_http.headers import Hosts, bearer, fold
from remoterun_http.openapi import document
from remoterun_http.reference import reference
from remoterun_http.requests import CALL, Call, Disconnected
from remoterun_http.routes import add_routes

_RUN = "/run/"
_DEFECT = "a defect of the node; its log says more"
_CODES = {status: code for code, status in STATUS.items()}
_log = logging.getLogger("remoterun.http")


class Application:
    """The whole HTTP API in front of a service.

    Parameters:
        service: whom it serves.
        signins: the browsers that are signed in.
        max_request: the largest body taken, in bytes.
        is_ready: whether the node takes calls now.
        hosts: names under which the node is reached, besides localhost.
        origins: origins of other sites whose pages may call.
        incoming: where files arrive that calls send along; None: none are taken.
    """

    def __init__(
        self,
        service: AsyncService,
        signins: SignIns,
        *,
        max_request: int,
        is_ready: Callable[[], bool],
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        incoming: Incoming | None = None,
    ) -> None:
        self._sessions = SessionCache(service, "http")
        self._signins = signins
        self._hosts = Hosts(hosts, origins)
        self._calls = Calls(max_request, incoming)
        self._ending = Ending()
        self._rest = _fastapi()
        add_routes(self._rest, self._calls, self._ending, is_ready)

    def stop(self) -> None:
        """End streams and waits; calls under way go on."""
        self._ending.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} is spoken here")
        call: Call | None = None
        try:
            headers = fold(scope["headers"])
            self._hosts.check(headers)
            call = scope[CALL] = Call(scope, headers, self._sessions, self._signins)
            path: str = scope["path"]
            if path.startswith(_RUN):
                await self._calls.run(call, path[len(_RUN) :], receive, send)
            elif path == "/jobs" and scope["method"] == "POST":
                await (await self._calls.submit(call, receive)).send(send)
            else:
                call.answered = True  # FastAPI has handlers of its own, below
                await self._rest(scope, receive, send)
        except Disconnected:
            return
        except Exception as error:
            if call is not None:
                if call.answered:
                    raise
                call.forget(error)
            await refusal(_refused(error)).send(send)


def _refused(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    _log.error("a defect while answering a call", exc_info=error)
    return Internal(_DEFECT)


def _fastapi() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    pages = Pages()
    pages.add_to(app)
    add_doors(app, pages)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        return json_answer(document(app, await _visible_scripts(request) or ())).response()

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return reference(document(app, await _visible_scripts(request) or ())).response()

    @app.exception_handler(ServiceError)
    async def refused(request: Request, error: ServiceError) -> Response:
        request.scope[CALL].forget(error)
        return refusal(error).response()

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return refusal(_invalid(error)).response()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        return refusal(_routing_error(app, request, error)).response()

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        return refusal(Internal(_DEFECT)).response()

    return app


async def _visible_scripts(request: Request) -> list[ScriptInfo] | None:
    """Give the scripts that the caller may see, or None where no caller is known."""
    call: Call = request.scope[CALL]
    if bearer(call.headers) is not None:
        return await (await call.session()).list_scripts()
    try:
        return await (await call.session()).list_scripts()
    except (Unauthenticated, Forbidden):  # a browser that is not signed in, or no browser
        return None


def _invalid(error: RequestValidationError) -> Invalid:
    fields = [FieldError(".".join(str(part) for part in each["loc"][1:]), each["msg"]) for each in error.errors()]
    return Invalid("; ".join(f"{each.field}: {each.message}" for each in fields), fields=fields)


def _routing_error(app: FastAPI, request: Request, error: HTTPException) -> ServiceError:
    if error.status_code == 405:
        methods: set[str] = set()
        for route in app.routes:
            if route.matches(request.scope)[0] is not Match.NONE:
                methods |= getattr(route, "methods", None) or set()
        allowed = ", ".join(sorted(methods))
        return HttpError(405, f"this address takes {allowed} only", ((b"allow", allowed.encode()),))
    kind = BY_CODE.get(_CODES.get(error.status_code, ""))
    if kind is None:
        return HttpError(error.status_code, str(error.detail))
    text = "there is nothing at this address; /docs lists what there is" if error.status_code == 404 else error.detail
    return kind(text)
