"""The pages: what each shows, asked of the caller's session like any other call."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from remoterun.access import Principal
from remoterun.errors import Forbidden, NotFound, ServiceError, Unauthenticated
from remoterun.messages import Job, JobQuery, NodeInfo, ScriptInfo, encode
from remoterun.service import AsyncSession
from remoterun_http.answers import STATUS, Answer, Header, HttpError
from remoterun_http.console.assets import Assets
from remoterun_http.console.filters import bars
from remoterun_http.requests import CALL, Call

if TYPE_CHECKING:
    from remoterun_http.console.views import Views

_RECENT = 200  # jobs looked at for what the scripts did last
_BARS = 20  # of them shown for a script

Show = Callable[[Request, AsyncSession, NodeInfo], Awaitable[Answer]]


class Pages:
    """The pages behind the sign-in, and their files."""

    def __init__(self) -> None:
        self._assets = Assets()
        self._views: Views | None = None

    def add_to(self, app: FastAPI) -> None:
        """Add their addresses to an application."""
        shown: dict[str, Show] = {
            "/": self._scripts,
            "/console/scripts/{name:path}": self._script,
            "/console/jobs/{id}": self._job,
            "/console/history": self._history,
            "/console/compare": self._compare,
            "/console/now": self._now,
            "/console/tokens": self._tokens,
        }
        for path, show in shown.items():
            app.add_api_route(path, self._behind_sign_in(show), methods=["GET"], include_in_schema=False)
        app.add_api_route(
            "/console/static/{version}/{name:path}", self._static, methods=["GET"], include_in_schema=False
        )

    async def views(self) -> Views:
        """Give the templates, read when a page is first asked for: most nodes answer programs only."""
        if self._views is None:
            self._views = await asyncio.to_thread(_views, self._assets)
        return self._views

    def _behind_sign_in(self, show: Show) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            call: Call = request.scope[CALL]
            info: NodeInfo | None = None
            try:
                session = await call.session()
                info = await session.info()
                return (await show(request, session, info)).response()
            except (Unauthenticated, Forbidden) as error:
                if b"authorization" in call.headers:  # a program, which has no use for a form
                    raise
                call.forget(error)
                if info is None or isinstance(error, Unauthenticated):
                    return (await self._signed_out(request, call)).response()
                return (await self._refused(info, error)).response()
            except ServiceError as error:
                if info is None:
                    raise
                return (await self._refused(info, error)).response()

        return answer

    async def _signed_out(self, request: Request, call: Call) -> Answer:
        """Send the browser to the sign-in; first let a link from elsewhere arrive as one of our own pages'.

        A browser keeps a `SameSite=Strict` cookie back from the first request behind a link on another site.
        """
        if call.headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site"):
            return (await self.views()).page("arrive.html", {})
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return redirect("/login" if where == "/" else f"/login?next={quote(where)}")

    async def _refused(self, info: NodeInfo, error: ServiceError) -> Answer:
        status = error.status if isinstance(error, HttpError) else STATUS[error.code]
        return await self._shown("refused.html", info, status=status, error=error)

    async def _shown(
        self, template: str, info: NodeInfo, *, status: int = 200, data: dict[str, Any] | None = None, **values: Any
    ) -> Answer:
        rights = Principal(info.principal, info.scopes)
        given = _as_data(
            node=info.node, principal=info.principal, scopes=info.scopes, transports=info.transports, **(data or {})
        )
        views = await self.views()
        return views.page(template, {"info": info, "rights": rights, "data": given, **values}, status=status)

    async def _scripts(self, request: Request, session: AsyncSession, info: NodeInfo) -> Answer:
        scripts = await session.list_scripts()
        page = await session.list_jobs(JobQuery(limit=_RECENT))
        runs: dict[str, list[Job]] = defaultdict(list)
        for job in page.jobs:
            if len(runs[job.script]) < _BARS:
                runs[job.script].append(job)
        folders: dict[str, list[ScriptInfo]] = defaultdict(list)
        for script in scripts:
            folders[script.name.rpartition("/")[0]].append(script)
        return await self._shown(
            "scripts.html",
            info,
            folders=dict(sorted(folders.items())),
            count=len(scripts),
            runs=runs,
            bars={name: bars(jobs) for name, jobs in runs.items()},
            data={"complete": page.next is None},
        )

    async def _script(self, request: Request, session: AsyncSession, info: NodeInfo) -> Answer:
        script = await session.get_script(request.path_params["name"])
        rights = Principal(info.principal, info.scopes)
        start = request.query_params.get("from")
        former = await session.get_job(start) if start else None
        return await self._shown(
            "script.html",
            info,
            script=script,
            may_run=rights.may_run(script.name),
            former=former,
            data={"script": script, "former": former, "may_run": rights.may_run(script.name)},
        )

    async def _job(self, request: Request, session: AsyncSession, info: NodeInfo) -> Answer:
        job = await session.get_job(request.path_params["id"])
        script = await _script_of(session, job)
        rights = Principal(info.principal, info.scopes)
        may = {
            "run": rights.may_run(job.script),
            "cancel": _allows(lambda: rights.check_cancel(job.principal, job.script)),
            "script": script is not None,
        }
        return await self._shown(
            "job.html", info, job=job, may=may, is_plain=job.params is None, data={"job": job, "may": may}
        )

    async def _history(self, request: Request, session: AsyncSession, info: NodeInfo) -> Answer:
        scripts = [script.name for script in await session.list_scripts()]
        return await self._shown("history.html", info, scripts=scripts)

    async def _compare(self, request: Request, session: AsyncSession, info: NodeInfo) -> Answer:
        ids = request.query_params.getlist("job")[:2]
        if len(ids) != 2:
            raise NotFound("choose two jobs to compare, in the history")
        return await self._shown("compare.html", info, data={"jobs": [await session.get_job(each) for each in ids]})

    async def _now(self, request: Request, session: AsyncSession, info: NodeInfo) -> Answer:
        may_read = Principal(info.principal, info.scopes).may_read
        may_read_all = Principal(info.principal, info.scopes).may_read_all
        return await self._shown("now.html", info, data={"info": info, "read": may_read, "read_all": may_read_all})

    async def _tokens(self, request: Request, session: AsyncSession, info: NodeInfo) -> Answer:
        Principal(info.principal, info.scopes).check_admin()
        return await self._shown("tokens.html", info)

    async def _static(self, request: Request) -> Response:
        packed = "gzip" in request.headers.get("accept-encoding", "")
        found = self._assets.find(request.path_params["name"], packed=packed)
        if found is None:
            raise NotFound("there is no such file")
        return found.response()


def _views(assets: Assets) -> Views:
    from remoterun_http.console.views import Views  # here: the templates' library takes 3 MB

    return Views(assets)


def _as_data(**values: Any) -> dict[str, Any]:
    """Give values as JSON has them."""
    made: dict[str, Any] = msgspec.json.decode(encode(values))
    return made


def redirect(place: str, headers: tuple[Header, ...] = ()) -> Answer:
    """Send a browser on with a GET."""
    return Answer(303, b"", b"text/plain", ((b"location", place.encode()), *headers))


async def _script_of(session: AsyncSession, job: Job) -> ScriptInfo | None:
    try:
        return await session.get_script(job.script)
    except ServiceError:  # it is gone, or broken beyond description
        return None


def _allows(check: Callable[[], None]) -> bool:
    try:
        check()
    except Forbidden:
        return False
    return True
