"""The addresses of an experiment. The rules are in `sessions`, and who may ask at all is in `access`.

Errors are ``{"error": code, "message": text}``; `refusals` has the codes. After `too_fast` and `unavailable`, the same
request can be sent again.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, get_args

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from affectlake.experiment.assets import Assets
from affectlake.experiment.limits import Limit
from affectlake.experiment.media import Media
from affectlake.experiment.offer import Contents, Offer, ServeSettings
from affectlake.experiment.participants import Given, Person
from affectlake.experiment.refusals import STATUS, Refusals, Refused
from affectlake.experiment.requests import MOST_TRIALS, answers_of, bad, body_of, optional_text, text_of, whole_of
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.sessions import How, Sessions
from affectlake.experiment.writer import Writer

log = logging.getLogger(__name__)

BODY_S = 30.0
"""Longest time in seconds in which the body of a request arrives."""

Call = Callable[[dict[str, Any]], Awaitable[Any]]


class Experiment:
    """The answers to requests of the page.

    Parameters
    ----------
    store : SessionStore
        The store.
    offer : Offer
        What can be asked.
    contents : Contents
        The stimuli.
    settings : ServeSettings
        The settings.
    assets : Assets
        The page.
    key : bytes
        The key with which ids of a panel are hashed.
    """

    def __init__(
        self, store: SessionStore, offer: Offer, contents: Contents, settings: ServeSettings, assets: Assets, key: bytes
    ) -> None:
        self.settings, self.contents, self.assets = settings, contents, assets
        self.store, self.writer = store, Writer(store)
        self.sessions = Sessions(store, self.writer, offer, contents, settings, key)
        self.media, self.refusals = Media(contents.media), Refusals()
        self._requests, self._joins = Limit(60, 20), Limit(1000, 20)

    async def join(self, body: dict[str, Any]) -> Any:
        """Answer one who joins, or who comes back."""
        study, link, panel = (optional_text(body, name) for name in ("study", "link", "panel"))
        participant, secret = optional_text(body, "participant"), optional_text(body, "secret")
        if (study is None) == (link is None):
            raise bad("one of study and link is wanted")
        if study is not None and not hmac.compare_digest(study.encode(), self.sessions.study_token.encode()):
            raise Refused("bad_token", "this link is not one of this study")
        if panel is not None and self.settings.panel is None:
            raise bad("this study takes no ids of a panel")
        if secret is not None and len(secret) < 40:
            raise bad("the secret is too short")
        if participant is not None and secret is not None:
            await self._person(body)
        elif not self._joins.allows(link or study):
            raise Refused("too_fast", "too many people join at once; try again in a moment")
        language = optional_text(body, "language") or ""
        if language not in self.settings.languages:
            language = self.settings.languages[0]
        joined = await self.sessions.join(link, panel, language, participant, secret)
        person, settings = joined.person, self.settings
        return {
            "participant": person.id,
            "secret": joined.secret,
            "state": person.state,
            "resumed": joined.is_resumed,
            "language": person.language,
            "n_trials": person.n_trials,
            "n_left": person.n_left,
            "settings": {
                "show": self.contents.kind,
                "per_participant": settings.per_participant,
                "practice": settings.practice,
                "break_every": settings.break_every,
                "languages": settings.languages,
                "time_limit_s": settings.time_limit_s,
                "cannot_tell": settings.cannot_tell,
                "resume_within_h": settings.resume_within_h,
                "return_url": settings.return_url if person.state in {"done", "left", "withdrawn"} else None,
            },
            "texts": self.assets.texts.get(language, {}),
        }

    async def consent(self, body: dict[str, Any]) -> Any:
        """Answer one who agrees."""
        person = await self._person(body)
        await self.sessions.consent(person)
        return {"state": person.state}

    async def trials(self, body: dict[str, Any]) -> Any:
        """Return the next trials."""
        person = await self._person(body)
        found, is_break = await self.sessions.trials(person, whole_of(body, "n", MOST_TRIALS))
        return {
            "trials": [self._shown(one) for one in found],
            "n_left": person.n_left,
            "n_trials": person.n_trials,
            "state": person.state,
            "break_after": is_break,
        }

    async def answers(self, body: dict[str, Any]) -> Any:
        """Store answers; they are on the disk when this returns."""
        person = await self._person(body)
        stored, refused = await self.sessions.answer(person, answers_of(body, cannot_tell=self.settings.cannot_tell))
        if not stored:
            raise Refused("not_your_trial", "this trial was not given to this participant")
        for _ in refused:
            self.refusals.count("not_your_trial")
        return {"stored": stored, "refused": refused, "state": person.state, "n_left": person.n_left}

    async def end(self, body: dict[str, Any]) -> Any:
        """Answer one who ends the session."""
        person = await self._person(body)
        how = text_of(body, "how")
        if how not in get_args(How):
            raise bad(f"how is not {', '.join(get_args(How))}")
        await self.sessions.end(person, how)  # type: ignore[arg-type]
        is_over = person.state in get_args(How)
        return {
            "state": person.state,
            "return_url": self.settings.return_url if is_over else None,
            "n_left": person.n_left,
        }

    async def _person(self, body: Mapping[str, Any]) -> Person:
        participant = text_of(body, "participant")
        person = await self.sessions.person(participant, text_of(body, "secret"))
        if not self._requests.allows(person.id):
            raise Refused("too_fast", "too many requests at once; try again in a moment")
        return person

    def _shown(self, given: Given) -> dict[str, Any]:
        found: dict[str, Any] = {
            "number": given.number,
            "kind": "trial" if given.kind == "repeat" else given.kind,
            "stimuli": [self._stimulus(index) for index in given.shown],
        }
        if given.kind == "practice" and given.right is not None:
            found["right"] = given.shown.index(given.right) + 1
        return found

    def _stimulus(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = {"id_key": str(index)}
        if self.contents.captions[index]:
            found["caption"] = self.contents.captions[index]
        media = self.contents.media[index]
        if media is not None:
            found["media"] = {
                "url": f"media/{self.media.name(media)}",
                "sha256": media.sha256,
                "size": media.size,
                "type": media.type,
            }
        return found


class _Calls:
    """What the page calls, by address: answered here, and everything else by the pages."""

    def __init__(self, pages: ASGIApp, experiment: Experiment) -> None:
        self._pages, self._refusals = pages, experiment.refusals
        self._calls: dict[str, Call] = {
            "/api/join": experiment.join,
            "/api/consent": experiment.consent,
            "/api/trials": experiment.trials,
            "/api/answers": experiment.answers,
            "/api/end": experiment.end,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self._calls.get(scope["path"]) if scope["type"] == "http" else None
        if call is None:
            await self._pages(scope, receive, send)
            return
        await (await self._reply(call, scope, receive))(scope, receive, send)

    async def _reply(self, call: Call, scope: Scope, receive: Receive) -> Response:
        try:
            if scope["method"] != "POST":
                raise Refused("bad_method", "this page is not asked in this way")
            async with asyncio.timeout(BODY_S):
                body = await body_of(scope, receive)
            return _json(await call(body))
        except Refused as refused:
            return refusal(self._refusals, refused)
        except TimeoutError:
            return refusal(self._refusals, bad("the request did not arrive in time"))
        except Exception as error:  # a full disk, above all
            log.error("a request could not be carried out: %s", type(error).__name__)
            return refusal(self._refusals, Refused("unavailable", "nothing was stored; try again in a moment"))


def application(experiment: Experiment, beside: AbstractAsyncContextManager[None] | None = None) -> ASGIApp:
    """Return an experiment as an ASGI application, without the check of who may ask (`access`).

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    beside : context manager, optional
        What is entered while the application runs.
    """

    async def page(_: Request) -> Response:
        return Response(experiment.assets.page, media_type="text/html")

    async def file(request: Request) -> Response:
        found = experiment.assets.files.get(request.url.path.lstrip("/"))
        if found is None:
            return refusal(experiment.refusals, Refused("not_found", "this file does not exist"))
        return Response(found.content, headers={"Cache-Control": "no-cache"}, media_type=found.type)

    async def media(request: Request) -> Response:
        found = await experiment.media.response(request.path_params["name"])
        return found or refusal(experiment.refusals, Refused("not_found", "this file does not exist"))

    async def nothing(_: Request, __: Exception) -> Response:
        return refusal(experiment.refusals, Refused("not_found", "this page does not exist"))

    async def not_so(_: Request, __: Exception) -> Response:
        return refusal(experiment.refusals, Refused("bad_method", "this page is not asked in this way"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        experiment.writer.start()
        async with beside or nullcontext():
            yield
        await experiment.writer.stop()
        experiment.refusals.write()

    routes = [
        Route("/media/{name}", media, methods=["GET"]),
        Route("/static/{name}", file, methods=["GET"]),
        Route("/jspsych/{name}", file, methods=["GET"]),
        Route("/", page, methods=["GET"]),
    ]
    found = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: nothing, 405: not_so})
    found.router.redirect_slashes = False
    return _Calls(found, experiment)


def refusal(refusals: Refusals, refused: Refused) -> Response:
    """Return the answer to a request that is not carried out, and count it."""
    refusals.count(refused.code)
    headers = {"Retry-After": "1"} if refused.code in {"too_fast", "unavailable"} else None
    return _json({"error": refused.code, "message": refused.text}, STATUS[refused.code], headers)


def _json(found: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(found), status, headers, "application/json")
