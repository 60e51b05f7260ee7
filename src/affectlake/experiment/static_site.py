"""The page as a folder of files for another host, such as JATOS: trials in lists, answers handed over at the end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from affectlake.errors import UsageError
from affectlake.experiment.media import Media
from affectlake.experiment.offer import Contents, Offer, ServeSettings
from affectlake.experiment.page import page_files, render_page, texts_of
from affectlake.experiment.participants import Answer, Given
from affectlake.experiment.refusals import Refused
from affectlake.experiment.session_store import SessionStore
from affectlake.experiment.sessions import Sessions
from affectlake.experiment.writer import Writer

_KEY = b"lists of a static page"
_AT_ONCE = 50


def write_site(
    offer: Offer,
    contents: Contents,
    settings: ServeSettings,
    folder: Path,
    n_lists: int,
    *,
    texts: Mapping[str, Mapping[str, str]] | None = None,
    post_url: str = "",
    jatos: bool = False,
) -> int:
    """Write a page that needs no server of affectlake.

    Each participant gets one list, at random or as the parameter ``list`` of the address says. At the end, the answers
    are handed to ``jatos.submitResultData`` if there is a JATOS, else sent to `post_url`, else offered as a file.
    ``affectlake import`` reads them: they are in the layout of jsPsych, one row for each trial but those of practice,
    with ``participant``, ``session``, ``trial_index``, ``stimuli``, ``response`` (the id of the odd one; null with a
    ``reason``), ``rt`` in ms, ``catch`` and ``right_answer``.

    Parameters
    ----------
    offer : Offer
        What can be asked. The lists are those that `n_lists` participants of the server would get, one after the other.
    contents : Contents
        The stimuli; their media are copied.
    settings : ServeSettings
        The settings. ``panel``, ``resume_within_h`` and ``give_again_after_min`` have no meaning here.
    folder : Path
        Where the files go; it must not exist or be empty.
    n_lists : int
        Number of lists, at least 1.
    texts : mapping, optional
        What :func:`affectlake.experiment.page.texts_of` returns; by default the built-in texts.
    post_url : str
        Where the answers of a participant are sent as JSON; empty: nowhere.
    jatos : bool
        Whether the page loads ``jatos.js``.

    Returns
    -------
    int
        Number of lists with trials: fewer than `n_lists` if the plan does not have enough.

    Raises
    ------
    UsageError
        If the folder is not empty, or a value is out of its range.
    SourceError
        If jsPsych cannot be downloaded.
    """
    if n_lists < 1:
        raise UsageError("the number of lists is out of its range", found=str(n_lists), allowed="at least 1")
    where = urlsplit(post_url)
    if post_url and (where.scheme not in {"http", "https"} or not where.hostname):
        raise UsageError("the address for answers is not one", found=post_url, allowed="such as https://host.example/")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder", todo="name another one, or remove what is there")
    words = texts or texts_of(settings.languages)
    with ThreadPoolExecutor(1) as thread:  # a notebook's thread has an event loop already
        lists = thread.submit(asyncio.run, _lists(offer, contents, settings, n_lists)).result()
    files = page_files()  # what can fail comes before the first file
    for name, path in files.items():
        _put(folder / name, path.read_bytes())
    page = render_page(words, backend="static", jatos=jatos, policy="" if jatos else _policy(post_url))
    _put(folder / "index.html", page.encode())
    for number, one in enumerate(lists, 1):
        _put(folder / "lists" / f"list_{number}.json", orjson.dumps(one))
    study = {
        "agent": settings.agent,
        "n_lists": len(lists),
        "post_url": post_url,
        "return_url": settings.return_url,
        "settings": {
            "show": contents.kind,
            "practice": settings.practice,
            "break_every": settings.break_every,
            "time_limit_s": settings.time_limit_s,
            "cannot_tell": settings.cannot_tell,
        },
        "texts": words,
    }
    _put(folder / "study.json", orjson.dumps(study))
    for file in {one for one in contents.media if one is not None}:
        path = folder / "media" / Media.name(file)
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(file.path, path)
    return len(lists)


async def _lists(offer: Offer, contents: Contents, settings: ServeSettings, n_lists: int) -> list[dict[str, Any]]:
    """Let as many participants take part as there are lists, and return what they were asked."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, SessionStore(Path(folder) / "lists.sqlite") as store:
        writer = Writer(store)
        writer.start()
        sessions = Sessions(store, writer, offer, contents, settings, _KEY, clock=lambda: 1e9)
        for number in range(1, n_lists + 1):
            try:
                person = (await sessions.join(None, f"list {number}", settings.languages[0], None, None)).person
            except Refused:  # the plan is used up
                break
            await sessions.consent(person)
            trials: list[Given] = []
            breaks: list[int] = []
            while True:
                given, is_break = await sessions.trials(person, _AT_ONCE)
                if not given:
                    break
                trials += given
                breaks += [given[-1].number] if is_break else []
                await sessions.answer(person, [Answer(one.number, 1, None, None, 0.0) for one in given])
            found.append({"trials": [_trial(one, contents) for one in trials], "breaks": breaks})
        await writer.stop()
    return found


def _trial(given: Given, contents: Contents) -> dict[str, Any]:
    found: dict[str, Any] = {
        "number": given.number,
        "kind": "trial" if given.kind == "repeat" else given.kind,
        "stimuli": [_stimulus(index, contents) for index in given.shown],
    }
    if given.right is not None:
        found["right"] = given.shown.index(given.right) + 1
    return found


def _stimulus(index: int, contents: Contents) -> dict[str, Any]:
    found: dict[str, Any] = {"id": contents.stimulus_ids[index], "caption": contents.captions[index]}
    media = contents.media[index]
    if media is not None:
        name = Media.name(media)
        found["media"] = {"url": f"media/{name}", "sha256": media.sha256, "size": media.size, "type": media.type}
    return found


def _policy(post_url: str) -> str:
    """Return the policy of a page whose host sets none."""
    where = urlsplit(post_url)
    connect: Sequence[str] = ("'self'", f"{where.scheme}://{where.netloc}") if post_url else ("'self'",)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        f"connect-src {' '.join(connect)}; base-uri 'none'; form-action 'none'"
    )


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
