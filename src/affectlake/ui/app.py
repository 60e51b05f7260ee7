"""Which page belongs to which address. What a page shows is read by other modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from affectlake.errors import AffectlakeError, QueryError, UsageError, VersionError
from affectlake.lake.store.versions import list_versions
from affectlake.pipelines.engine.stage_states import stage_states
from affectlake.ui import history, judgments, similarity, sql, stages, stimulus
from affectlake.ui.counts import counts_of
from affectlake.ui.index import Indexes
from affectlake.ui.judgment import judgment_of
from affectlake.ui.opened import OpenVersion, Versions
from affectlake.ui.rendering import render, served, static_files
from affectlake.ui.running import Collections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAIT_S = 1.0
"""Seconds for which a page waits for an index before it shows that the index is being made."""

MOST_SQL = 100_000
_FOREVER = {"Cache-Control": "private, max-age=86400"}
_TYPES = {"css": "text/css", "js": "text/javascript"}

Given = Mapping[str, str]


class Site:
    """The pages of a lake.

    Parameters
    ----------
    root : Path
        Root of the lake.
    at : str
        The version that is shown unless an address names another one; the latest if empty.
    """

    def __init__(self, root: Path, at: str = "") -> None:
        self.root, self.at = root, at
        self.versions, self.indexes, self.collections = Versions(root), Indexes(), Collections(root)

    def opened(self, given: Given) -> OpenVersion:
        """Return the version that an address names."""
        return self.versions.at(given.get("at", "") or self.at)

    def page(self, name: str, given: Given, opened: OpenVersion, **context: Any) -> Response:
        """Return a page."""
        at = given.get("at", "")
        every = [version.name for version in reversed(list_versions(self.root))]
        return HTMLResponse(render(name, served(at), opened, every_version=every, at=at, given=given, **context))

    def overview(self, given: Given) -> Response:
        """Return the first page: what the version contains."""
        opened = self.opened(given)
        self.indexes.of(opened, 0.0)  # begin to make it
        return self.page("overview", given, opened, counts=counts_of(opened))

    def judgments(self, given: Given) -> Response:
        """Return a page of judgments."""
        opened = self.opened(given)
        index = self.indexes.of(opened, WAIT_S)
        if index is None:
            return self._waiting(given, opened)
        wanted = judgments.filter_of(opened, given)
        before = given.get("before", "")
        found = judgments.page_of(
            index,
            wanted,
            after=_whole(given.get("after", ""), -1),
            before=_whole(before, 0) if before else None,
        )
        return self.page(
            "judgments", given, opened, wanted=wanted, found=found, outcomes=judgments.OUTCOMES,
            agreements=judgments.AGREEMENTS, sets=judgments.trial_sets(opened),
        )  # fmt: skip

    def judgment(self, given: Given) -> Response:
        """Return one judgment."""
        opened = self.opened(given)
        index = self.indexes.of(opened, WAIT_S)
        if index is None:
            return self._waiting(given, opened)
        return self.page("judgment", given, opened, found=judgment_of(opened, index, given))

    def _waiting(self, given: Given, opened: OpenVersion) -> Response:
        return self.page("waiting", given, opened, n=counts_of(opened).n_judgments)

    def stimuli(self, given: Given) -> Response:
        """Return the list of stimuli."""
        opened, words = self.opened(given), given.get("q", "")
        found = stimulus.listed(opened, words, _whole(given.get("after", ""), -1))
        return self.page("stimuli", given, opened, words=words, found=found)

    def stimulus(self, given: Given) -> Response:
        """Return one stimulus."""
        opened = self.opened(given)
        one = opened.stimulus(given.get("index", ""))
        return self.page(
            "stimulus", given, opened, one=one, captions=stimulus.captions_of(opened, one),
            n_frames=stimulus.n_frames(opened, one), ratings=stimulus.ratings_of(opened, one),
            places=stimulus.places_of(opened, one),
        )  # fmt: skip

    def frame(self, given: Given) -> Response:
        """Return a frame of a stimulus."""
        opened, number = self.opened(given), given.get("number", "")
        one = opened.stimulus(given.get("index", ""))
        content = stimulus.frame(opened, one, _whole(number, 0) if number else None)
        return Response(content, media_type="image/jpeg", headers=_FOREVER)

    def similarity(self, given: Given) -> Response:
        """Return the similarity matrices of all agents."""
        opened, order = self.opened(given), given.get("order", "") or "similarity"
        similarity.order_of(opened, order)
        return self.page(
            "similarity", given, opened, order=order, orders=similarity.ORDERS, kinds=similarity.KINDS,
            agents=similarity_of_agents(opened),
        )  # fmt: skip

    def matrix(self, given: Given) -> Response:
        """Return the picture of a similarity matrix."""
        opened = self.opened(given)
        agent, kind = given.get("agent", ""), given.get("kind", "predicted")
        if agent not in opened.embedded:
            raise UsageError(f"{opened.version.name} has no embedding of {agent!r}", allowed=", ".join(opened.embedded))
        content = similarity.picture(opened, agent, kind, given.get("order", "") or "similarity")
        return Response(content, media_type="image/png", headers=_FOREVER)

    def versions_page(self, given: Given) -> Response:
        """Return the timeline of versions."""
        return self.page("versions", given, self.opened(given), entries=history.timeline(self.root))

    def compare(self, given: Given) -> Response:
        """Return the differences of two versions."""
        before, after, table = (given.get(key, "") for key in ("before", "after", "table"))
        found = history.compare(self.root, before, after, table)
        return self.page("compare", given, self.opened(given), found=found, table=table)

    def stages(self, given: Given) -> Response:
        """Return the graph of stages: of the folder with their states or, for another version, as it was made."""
        opened, unknown = self.opened(given), ""
        found: list[stages.Stage] = []
        is_latest = opened.version.name == list_versions(self.root)[-1].name
        if is_latest:
            try:
                found = [
                    stages.Stage(one.stage, one.is_stale, _names(one.reads), _names(one.writes), one.does)
                    for one in stage_states(self.root)
                ]
            except AffectlakeError as error:
                unknown = str(error)
        found = found or stages.recorded(opened.manifest)
        boxes, _ = stages.boxes_of(found)
        return self.page(
            "stages", given, opened, boxes=boxes, drawing=stages.drawing(found), unknown=unknown, is_latest=is_latest
        )

    def running(self, given: Given) -> Response:
        """Return the collections; with ``part``, only their table."""
        found, unknown = [], ""
        try:
            found = self.collections.now()
        except AffectlakeError as error:
            unknown = str(error)
        name = "collections_part" if given.get("part") else "collections"
        return self.page(name, given, self.opened(given), found=found, unknown=unknown)

    def sql(self, given: Given, text: str) -> Response:
        """Return the cell for SQL, with the rows of a query."""
        opened, result, refused = self.opened(given), None, ""
        number = _whole(given.get("example", ""), 0)
        shown = text or sql.EXAMPLES[min(number, len(sql.EXAMPLES) - 1)][1]
        if text:
            try:
                result = sql.ask(self.root, text, opened.version.name)
            except QueryError as error:
                refused = str(error)
        page = self.page("sql", given, opened, text=shown, result=result, refused=refused, examples=sql.EXAMPLES)
        page.status_code = 400 if refused else 200
        return page

    def csv(self, given: Given, text: str) -> Response:
        """Return the rows of a query as CSV."""
        pieces = sql.as_csv(self.root, text, self.opened(given).version.name)
        name = {"Content-Disposition": 'attachment; filename="rows.csv"'}
        return StreamingResponse(pieces, media_type="text/csv; charset=utf-8", headers=name)

    def failed(self, error: AffectlakeError) -> Response:
        """Return the page that shows an error; as text if no version can be read."""
        status = 404 if isinstance(error, UsageError | VersionError) else 400 if isinstance(error, QueryError) else 500
        try:
            page = self.page("failed", {}, self.versions.at(self.at), message=str(error))
        except AffectlakeError:
            return PlainTextResponse(f"{error}\n", status)
        page.status_code = status
        return page


def similarity_of_agents(opened: OpenVersion) -> list[tuple[str, list[similarity.Matrix], float | None, str]]:
    """Return for each agent its matrices, the agreement of measured and predicted ones, or why it has none."""
    found: list[tuple[str, list[similarity.Matrix], float | None, str]] = []
    for agent in opened.embedded:
        try:
            own = similarity.matrices(opened, agent)
        except VersionError as error:
            found.append((agent, [], None, str(error)))
        else:
            found.append((agent, own, similarity.agreement(own), ""))
    return found


def _names(outputs: tuple[Any, ...]) -> frozenset[str]:
    return frozenset(output.table for output in outputs)


def _whole(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 18 else otherwise


def app(root: Path, at: str = "") -> Starlette:
    """Return the pages of a lake as an ASGI application, without the check of who may read (``access``).

    Parameters
    ----------
    root : Path
        Root of the lake.
    at : str
        The version that is shown first; the latest if empty.
    """
    site = Site(root, at)

    def route(path: str, answer: Callable[[Given], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            given = dict(request.query_params)
            return await run_in_threadpool(_answered, site, lambda: answer(given))

        return Route(path, endpoint, methods=["GET"], name=path)

    def asked(path: str, answer: Callable[[Given, str], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            given, text = dict(request.query_params), ""
            if request.method == "POST":
                body = await request.body()
                if len(body) > MOST_SQL:
                    return PlainTextResponse("the query is too long\n", 413)
                form = dict(parse_qsl(body.decode("utf-8", "replace")))
                text, given = form.get("sql", ""), given | {"at": form.get("at", "")}
            return await run_in_threadpool(_answered, site, lambda: answer(given, text))

        return Route(path, endpoint, methods=["GET", "POST"], name=path)

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        content = static_files().get(name)
        if content is None:
            return PlainTextResponse("404: there is no such file\n", 404)
        return Response(content, media_type=_TYPES[name.rpartition(".")[2]])

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        site.indexes.close()

    pages: dict[str, Callable[[Given], Response]] = {
        "/": site.overview, "/judgments": site.judgments, "/judgment": site.judgment, "/stimuli": site.stimuli,
        "/stimulus": site.stimulus, "/frame": site.frame, "/similarity": site.similarity, "/matrix": site.matrix,
        "/versions": site.versions_page, "/compare": site.compare, "/stages": site.stages, "/collections": site.running,
    }  # fmt: skip
    routes = [route(path, answer) for path, answer in pages.items()]
    routes += [asked("/sql", site.sql), asked("/sql.csv", site.csv), Route("/static/{name}", static, methods=["GET"])]
    return Starlette(routes=routes, lifespan=lifespan)


def _answered(site: Site, answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except AffectlakeError as error:
        return site.failed(error)
