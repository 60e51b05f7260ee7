"""A walk through the task as a simulated participant, and what is recorded of a person, for the consent text.

The server is the real one, on a free port, with a session store in a temporary folder. Nothing is stored in the lake.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.request import urlopen

from affectlake.errors import CollectionError
from affectlake.experiment.assets import Assets
from affectlake.experiment.offer import Contents
from affectlake.experiment.server import serve
from affectlake.experiment.simulated import Outcome, SimulatedParticipant, at_random
from affectlake.judge.agents import ExperimentAgent
from affectlake.lake.tables.contracts import contract
from affectlake.pipelines.experiment.entry import STORE, experiment_agent
from affectlake.pipelines.experiment.offering import Offered, offer_of
from affectlake.pipelines.experiment.received import opened, received
from affectlake.pipelines.experiment.serving import assets_of, lines_of
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.stored import GROWING, SESSIONS

_KEY = b"a key that is used for the dry run alone"
_START_LIMIT_S = 60.0
_WIDTH, _VALUE_WIDTH = 100, 70
_KINDS = ("practice", "trial", "catch", "repeat")

RECORDED = {
    "participants": {
        "participant": "a random code, or a keyed hash of the panel's id",
        "secret_hash": "the hash of a random number that the browser keeps, so that others cannot continue",
        "panel_hash": "a keyed hash of the panel's id, if the study uses a panel; the id itself is not stored",
        "language": "the language that was chosen",
        "state": "whether the participant consented, is under way, finished, left or withdrew",
        "joined_at": "when the task was opened",
        "consented_at": "when consent was given",
        "ended_at": "when the participant finished or left",
        "last_at": "when the last answer came",
        "link_hash": "the hash of the one-time link, if one was used",
    },
    "given": {
        "participant": "the code",
        "number": "the number of the trial in the session",
        "kind": "practice, trial, catch or repeat",
        "i": "a stimulus of the trial",
        "j": "a stimulus of the trial",
        "k": "a stimulus of the trial",
        "shown_1": "the stimulus at the first position",
        "shown_2": "the stimulus at the second position",
        "shown_3": "the stimulus at the third position",
        "right_answer": "the odd one out of a practice or catch trial",
        "given_at": "when the trial was sent to the browser",
        "expires_at": "when it may be given to somebody else",
        "released": "whether it was given to somebody else",
    },
    "answers": {
        "id": "the number of the answer in the store",
        "participant": "the code",
        "number": "the number of the trial in the session",
        "position": "the position that was chosen",
        "reason": "the reason for a missing choice: timed_out, cannot_tell or media_failed",
        "detail": "what the browser said about a file that did not load or play",
        "response_ms": "the time that the answer took, in milliseconds",
        "received_at": "when the answer arrived, by the server's clock",
    },
    "links": {
        "link_hash": "the hash of a one-time link",
        "participant": "the code of who used it",
    },
}
"""What the session store records of a person: table, column, meaning. A test compares it with the store."""


def walk_through(lake: Path, params: Params, name: str) -> Iterator[str]:
    """Take part as a simulated participant, and yield what is shown and what is recorded, one line each.

    Parameters
    ----------
    lake, params, name
        As for :func:`affectlake.pipelines.experiment.offering.offer_of`.

    Raises
    ------
    AffectlakeError
        As :func:`affectlake.pipelines.experiment.serving.serve_experiment`, and if the walk fails.
    """
    agent = experiment_agent(params, name)
    offered, assets = offer_of(lake, params, name), assets_of(lake, agent)
    yield from lines_of(offered)
    with tempfile.TemporaryDirectory(prefix="affectlake-dry-run-") as folder:
        store = Path(folder) / STORE
        outcome, n_files = _taken_part(store, offered, assets)
        yield f"page: {n_files} files, in {', '.join(agent.languages)}"
        yield from _walk(outcome, offered.contents)
        yield ""
        yield from _recorded(store, agent, offered.contents)


def _taken_part(store: Path, offered: Offered, assets: Assets) -> tuple[Outcome, int]:
    """Serve in a process of its own, take part, and return what became of it, and the number of files of the page."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(store, offered, assets, theirs), daemon=True)
    process.start()
    try:
        if not mine.poll(_START_LIMIT_S):
            raise CollectionError(
                "the server does not start", wanted=f"an address within {_START_LIMIT_S:.0f} s", todo="run it again"
            )
        url = str(mine.recv())
        return asyncio.run(_take_part(url, offered)), _loaded(url, assets)
    finally:
        process.terminate()
        process.join()


def _serve(store: Path, offered: Offered, assets: Assets, pipe: Connection) -> None:
    serve(store, offered.offer, offered.contents, offered.settings, assets, _KEY, ready=pipe.send, port=0)


async def _take_part(url: str, offered: Offered) -> Outcome:
    import aiohttp

    panel = None if offered.settings.panel is None else "dry-run"
    async with aiohttp.ClientSession() as http:
        return await SimulatedParticipant(http, url, at_random(1), 1, panel=panel).run()


def _loaded(url: str, assets: Assets) -> int:
    """Load the page and its files as a browser does, and return their number."""
    base = url.partition("?")[0]
    for name in ("", *assets.files):
        with urlopen(f"{base}{name}", timeout=30) as reply:  # the scheme is that of the server that was started here
            reply.read()
    return 1 + len(assets.files)


def _walk(outcome: Outcome, contents: Contents) -> Iterator[str]:
    """Yield the first trial of each kind, and the numbers."""
    counts = Counter(outcome.kinds.values())
    for kind in _KINDS:
        numbers = [number for number in sorted(outcome.kinds) if outcome.kinds[number] == kind]
        if not numbers:
            continue
        first = numbers[0]
        yield f"{kind}: {counts[kind]:,}, the first one is number {first}"
        for position, key in enumerate(outcome.stimuli[first], 1):
            mark = "*" if outcome.sent[first] == position else " "
            yield f"  {mark} {position}  {_shown(contents, int(key))}"
    stored = len(outcome.acknowledged)
    yield f"answers: {len(outcome.sent):,} sent, {stored:,} acknowledged; the session is {outcome.state}"
    if stored != len(outcome.sent) or outcome.state != "done":
        raise CollectionError(
            "the simulated participant could not finish",
            wanted="every answer acknowledged, and the session done",
            found=f"{stored:,} of {len(outcome.sent):,} acknowledged; the session is {outcome.state}",
        )


def _shown(contents: Contents, index: int) -> str:
    media = contents.media[index]
    text = contents.captions[index]
    words = f"{contents.stimulus_ids[index]}: {text}" if media is None else (
        f"{contents.stimulus_ids[index]}: {media.path.name}, {media.type}, {media.size:,} bytes, sha256 "
        f"{media.sha256[:12]}…"
    )  # fmt: skip
    return textwrap.shorten(words, _WIDTH, placeholder=" …")


def _recorded(store: Path, agent: ExperimentAgent, contents: Contents) -> Iterator[str]:
    """Yield what is recorded of a person, in the session store and in versions, with the simulated person's values."""
    yield f"What is recorded of a person in storage/collecting/{agent.name}/{STORE}, which is not versioned:"
    with opened(store) as database:
        for table, meanings in RECORDED.items():
            first = _first(database, table)
            for column, meaning in meanings.items():
                yield _line(f"{table}.{column}", meaning, first.get(column))
    found = received(store, agent, list(contents.stimulus_ids))
    yield ""
    yield "What is published of a person in versions of the lake:"
    for table, rows in ((GROWING, found.answers), (SESSIONS, found.sessions)):
        known = contract(table)
        for column in rows.columns:
            values = rows[column].drop_nulls()
            if len(values) or column in ("error_kind", "error_words"):
                yield _line(f"{table}.{column}", known.column(column).meaning, values[0] if len(values) else None)
    yield ""
    yield "Nothing else is recorded: no address, no browser, no cookie, nothing that the page did not ask for."


def _first(database: sqlite3.Connection, table: str) -> dict[str, object]:
    cursor = database.execute(f"SELECT * FROM {table} LIMIT 1")
    row = cursor.fetchone()
    return dict(zip([one[0] for one in cursor.description], row or (), strict=False))


def _line(name: str, meaning: str, value: object) -> str:
    text = f"{value.hex()[:12]}…" if isinstance(value, bytes) else str(value)
    shown = "" if value is None else f" ({textwrap.shorten(text, _VALUE_WIDTH, placeholder='…')})"
    return f"  {name:<26} {meaning}{shown}"
