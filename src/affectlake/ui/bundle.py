"""The pages of a version as files for a web server: without SQL, and without what may not be republished.

What is withheld never reaches a template: the version is opened without those tables and columns
(:mod:`affectlake.pipelines.outputs.restricted`). People are not named: participants, sessions and times are withheld.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.errors import UsageError
from affectlake.lake.store.versions import resolve
from affectlake.pipelines.outputs.restricted import restricted
from affectlake.ui import history, judgments, similarity, stages, stimulus
from affectlake.ui.app import similarity_of_agents
from affectlake.ui.counts import counts_of
from affectlake.ui.index import Index, Indexes
from affectlake.ui.judgment import judgment_of
from affectlake.ui.judgments import Filter, Page
from affectlake.ui.opened import OpenVersion
from affectlake.ui.rendering import judgment_key, render, static_files

_OF_PEOPLE = ("participant", "session", "asked_at", "source_file")
_ORDER = "similarity"


class Bundled(NamedTuple):
    """What was written: the folder, the number of files, and what was withheld, one phrase for each table."""

    folder: Path
    n_files: int
    withheld: list[str]


class _Files:
    """Paths of pages within the bundle, and their addresses from other pages."""

    def __init__(self, opened: OpenVersion) -> None:
        self._agents = {agent: at for at, agent in enumerate(opened.agents, start=1)}
        self._sampled: dict[tuple[str, ...], int] = {}
        self._pictures = {one.index for one in opened.stimuli if one.has_frames}

    def sample(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Give each of some judgments a page."""
        for row in rows:
            self._sampled.setdefault(_name(judgment_key(dict(row))), len(self._sampled) + 1)

    def path(self, page: str, given: Mapping[str, Any]) -> str:
        """Return the path of a page; empty if the bundle does not have it."""
        paths: dict[str, Callable[[], str]] = {
            "overview": lambda: "index.html",
            "judgments": lambda: f"judgments{self._suffix(given)}.html",
            "judgment": lambda: f"judgment/{number}.html" if (number := self._sampled.get(_name(given))) else "",
            "stimuli": lambda: f"stimuli-{given['after']}.html" if "after" in given else "stimuli.html",
            "stimulus": lambda: f"stimulus/{given['index']}.html",
            "frame": lambda: f"frame/{given['index']}.jpg" if given["index"] in self._pictures else "",
            "matrix": lambda: f"matrix{self._suffix(given)}-{given['kind']}.png",
            **{name: partial("{}.html".format, name) for name in ("similarity", "versions", "stages")},
        }
        if page.startswith("static/"):
            return page
        return paths[page]() if page in paths and not set(given) & {"stimulus", "number", "q"} else ""

    def _suffix(self, given: Mapping[str, Any]) -> str:
        return f"-{self._agents[given['agent']]}" if given.get("agent") else ""

    def link(self, page: str, **given: Any) -> str:
        """Return the address of a page from one in the bundle's folder."""
        return self.path(page, {key: value for key, value in given.items() if value not in (None, "")})

    def link_from_below(self, page: str, **given: Any) -> str:
        """Return the address of a page from one in a folder of the bundle."""
        path = self.link(page, **given)
        return f"../{path}" if path else ""


def _name(key: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in key.values())


def write_bundle(
    root: Path, folder: Path, at: str = "", *, n_sampled: int = 200, all_judgments: bool = False
) -> Bundled:
    """Write the pages of a version as files.

    Parameters
    ----------
    root : Path
        Root of the lake.
    folder : Path
        The new folder; one that exists must be empty.
    at : str
        The version; the latest if empty.
    n_sampled : int
        Number of judgments of each agent that have a page.
    all_judgments : bool
        Whether to write all judgments as data too, a Parquet file for each agent.

    Returns
    -------
    Bundled
        What was written, and what was withheld.

    Raises
    ------
    UsageError
        If the folder is not empty, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty", todo="give a folder that does not exist yet")
    version = resolve(root, at)
    kept_back = restricted(root, version)
    withheld: dict[str, tuple[str, ...]] = {
        name: () if one.is_whole else one.columns for name, one in kept_back.items()
    }
    if withheld.get("responses", True):
        withheld["responses"] = (*withheld.get("responses", ()), *_OF_PEOPLE)
    opened = OpenVersion(root, version, withheld)
    target = folder.resolve()
    aside = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        words = [str(one) for one in kept_back.values()]
        for path, content in _files(root, opened, words, n_sampled):
            place = aside / path
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
        if all_judgments:
            _write_judgments(opened, aside / "data")
        if folder.exists():
            folder.rmdir()
        aside.rename(target)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written", found=str(error), todo="choose another folder") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Bundled(folder, sum(path.is_file() for path in target.rglob("*")), words)


def _files(root: Path, opened: OpenVersion, withheld: list[str], n_sampled: int) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of every file."""
    files, indexes = _Files(opened), Indexes()
    index = indexes.of(opened)
    assert index is not None
    samples = {agent: _sample(index, agent, n_sampled) for agent in opened.agents}
    for page in samples.values():
        files.sample(page.rows)

    def html(page: str, *, below: bool = False, **context: Any) -> bytes:
        link = files.link_from_below if below else files.link
        return render(page, link, opened, is_served=False, **context).encode()

    for name, content in static_files().items():
        if not name.endswith(".js"):
            yield f"static/{name}", content
    yield "index.html", html("overview", counts=counts_of(opened), withheld=withheld)
    yield "versions.html", html("versions", entries=history.timeline(root))
    recorded = stages.recorded(opened.manifest)
    boxes, _ = stages.boxes_of(recorded)
    yield "stages.html", html("stages", boxes=boxes, drawing=stages.drawing(recorded), unknown="", is_latest=False)
    yield from _similarity(opened, files, html)
    yield from _stimuli(opened, files, html)
    few = [row for page in samples.values() for row in page.rows[: judgments.PAGE // max(1, len(samples))]]
    whole = Page(few, None, None, sum(page.n for page in samples.values()))
    for agent, page in (("", whole), *samples.items()):
        yield files.path("judgments", {"agent": agent}), html("judgments", wanted=Filter(agent), found=page, given={})
    for page in samples.values():
        for row in page.rows:
            key = judgment_key(row)
            found = judgment_of(opened, index, {name: str(value) for name, value in key.items()})
            yield files.path("judgment", key), html("judgment", below=True, found=found)
    indexes.close()


def _sample(index: Index, agent: str, n: int) -> Page:
    """Return judgments of an agent, chosen by a hash of their position: the same ones each time."""
    (counted,) = index.rows("SELECT count(*) AS n FROM judgments WHERE agent = ?", [agent])
    rows = index.rows(
        "FROM (SELECT * FROM judgments WHERE agent = ? ORDER BY md5(place::VARCHAR) LIMIT ?) ORDER BY place", [agent, n]
    )
    return Page(rows, None, None, counted["n"])


def _similarity(opened: OpenVersion, files: _Files, html: Any) -> Iterator[tuple[str, bytes]]:
    agents = similarity_of_agents(opened)
    yield (
        "similarity.html",
        html("similarity", order=_ORDER, orders=similarity.ORDERS, kinds=similarity.KINDS, agents=agents),
    )
    for agent, found, _, _ in agents:
        for one in found:
            picture = similarity.picture(opened, agent, one.kind, _ORDER)
            yield files.path("matrix", {"agent": agent, "kind": one.kind}), picture


def _stimuli(opened: OpenVersion, files: _Files, html: Any) -> Iterator[tuple[str, bytes]]:
    after, lines = -1, list[str]()
    while True:
        found = stimulus.listed(opened, "", after)
        given = {} if after < 0 else {"after": after}
        yield files.path("stimuli", given), html("stimuli", words="", found=found)
        if found.after is None:
            break
        after = found.after
    for one in opened.stimuli:
        captions, ratings = stimulus.captions_of(opened, one), stimulus.ratings_of(opened, one)
        places = stimulus.places_of(opened, one)
        yield files.path("stimulus", {"index": one.index}), html(
            "stimulus", below=True, one=one, captions=captions, ratings=ratings, places=places,
            n_frames=int(one.has_frames),
        )  # fmt: skip
        if one.has_frames:
            yield files.path("frame", {"index": one.index}), stimulus.frame(opened, one)
        lines.append(json.dumps({
            "stimulus_index": one.index, "stimulus_id": one.id, "category": one.category or None, "captions": captions,
            "ratings": {name: {row.rating: row.score for row in rows} for name, rows in ratings.items()},
            "dimensions": {place.agent: {row.dimension: row.weight for row in place.weights} for place in places},
            "neighbours": {place.agent: {near.stimulus.id: near.r for near in place.neighbours} for place in places},
        }))  # fmt: skip
    yield "data/stimuli.jsonl", "".join(f"{line}\n" for line in lines).encode()


def _write_judgments(opened: OpenVersion, folder: Path) -> None:
    """Write the choices of every agent as Parquet."""
    columns = ("agent", "protocol", "trial_set", "i", "j", "k", "repeat", "odd", "tied")
    source = opened.select("choices", *columns)
    folder.mkdir(exist_ok=True)
    for at, agent in enumerate(opened.agents, start=1):
        rows = opened.cursor().sql(f"SELECT * FROM ({source}) WHERE agent = ? ORDER BY ALL", params=[agent]).pl()
        if rows.height:
            rows.write_parquet(folder / f"choices-{at}.parquet", compression="zstd")
