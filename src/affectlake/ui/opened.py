"""A version, opened for the pages: its tables as views of one closed DuckDB, for any number of threads.

Versions may be older than the current contracts: a missing table has no rows, and a missing column is null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from affectlake.errors import UsageError, VersionError
from affectlake.lake.store.versions import Manifest, Version, resolve
from affectlake.lake.tables.views import Named, in_quotes, open_views
from affectlake.pipelines.params.record import StudyRecord, record_at
from affectlake.report.agent_summary import OF_PEOPLE

T = TypeVar("T")

READ = (
    "stimuli", "captions", "frames", "ratings", "families", "choices", "anchored_choices", "unparsed", "responses",
    "excluded_judgments", "embeddings", "labels", "fits", "layouts", "metrics",
)  # fmt: skip
"""Tables that pages read."""

MOST_OPEN = 4
"""Number of versions that are held open."""


@dataclass(frozen=True)
class Stimulus:
    """A stimulus as lists show it: its index, its id, its category, its first caption, and whether it has frames."""

    index: int
    id: str
    category: str
    caption: str
    has_frames: bool


class OpenVersion:
    """A version whose tables can be asked.

    Parameters
    ----------
    root : Path
        Root of the lake.
    version : Version
        The version.
    withheld : mapping of str to sequence of str
        Tables that are not read; of those with columns, only these columns are not read.

    Attributes
    ----------
    columns : dict of str to list of str
        Columns of each table in `READ` that the version has.
    whereabouts : str
        Where what it lacks is missing, in words.
    damaged : dict of str to VersionError
        Why a table cannot be read.
    """

    def __init__(self, root: Path, version: Version, withheld: Mapping[str, Sequence[str]] = {}) -> None:
        self.root, self.version = root, version
        self.whereabouts = "these files" if withheld else "this version"
        self.manifest = Manifest(root, version.commit)
        self.outputs = self.manifest.tables()
        opened = open_views(root, [Named(version, "", frozenset(READ), self.manifest)], "")
        self._connection, self.damaged = opened.connection, opened.missing
        self._lock = Lock()
        self._kept: dict[object, tuple[Lock, list[Any]]] = {}
        self.columns = {
            table: [
                name for name, *_ in self.rows(f"DESCRIBE {in_quotes(table)}") if name not in withheld.get(table, ())
            ]
            for table in READ
            if table in self.outputs and table not in self.damaged and withheld.get(table, True)
        }

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement of ours; `values` are those of its question marks."""
        found: list[tuple[Any, ...]] = self.cursor().execute(sql, list(values)).fetchall()
        return found

    def cursor(self) -> Any:
        """Return a connection of its own to the same views, for one thread."""
        with self._lock:
            return self._connection.cursor()

    def select(self, table: str, *columns: str) -> str:
        """Return the SELECT of some columns of a table, for a query: null where the version lacks them."""
        have = self.columns.get(table)
        chosen = ", ".join(
            in_quotes(name) if have is not None and name in have else f"NULL AS {in_quotes(name)}" for name in columns
        )
        return f"SELECT {chosen} WHERE false" if have is None else f"SELECT {chosen} FROM {in_quotes(table)}"

    def once(self, what: object, compute: Callable[[], T]) -> T:
        """Return what `compute` returned the first time: a version does not change."""
        with self._lock:
            lock, kept = self._kept.setdefault(what, (Lock(), []))
        with lock:
            if not kept:
                kept.append(compute())
        found: T = kept[0]
        return found

    @property
    def stimuli(self) -> list[Stimulus]:
        """The stimuli, by index."""
        return self.once("stimuli", self._stimuli)

    def _stimuli(self) -> list[Stimulus]:
        chosen = self.select("stimuli", "stimulus_index", "stimulus_id", "category")
        captions = self.select("captions", "stimulus_index", "caption_index", "caption")
        sql = f"""
            SELECT s.stimulus_index, s.stimulus_id, s.category, c.caption, f.stimulus_index IS NOT NULL
            FROM ({chosen}) s
            LEFT JOIN (SELECT stimulus_index, arg_min(caption, caption_index) AS caption FROM ({captions}) GROUP BY 1) c
              USING (stimulus_index)
            LEFT JOIN (SELECT DISTINCT stimulus_index FROM ({self.select("frames", "stimulus_index")})) f
              USING (stimulus_index)
            ORDER BY 1
        """
        return [
            Stimulus(at, str(id), category or "", text or "", has) for at, id, category, text, has in self.rows(sql)
        ]

    def stimulus(self, name: str | int) -> Stimulus:
        """Return a stimulus by its index or its id.

        Raises
        ------
        UsageError
            If there is no such stimulus.
        """
        by_index, by_id = self.once("names", self._names)
        text = str(name).strip()
        found = by_id.get(text) or (by_index.get(int(text)) if text.isdecimal() else None)
        if found is None:
            raise UsageError(
                f"{self.version.name} has no stimulus {text!r}",
                allowed=f"an id, or an index from 0 to {len(by_index) - 1}" if by_index else "it has no stimuli",
            )
        return found

    def _names(self) -> tuple[dict[int, Stimulus], dict[str, Stimulus]]:
        return {one.index: one for one in self.stimuli}, {one.id: one for one in self.stimuli}

    @property
    def agents(self) -> list[str]:
        """The agents that have choices, answers or an embedding."""
        return self.once("agents", self._agents)

    def _agents(self) -> list[str]:
        of = ("choices", "anchored_choices", "unparsed", "responses", "embeddings")
        return sorted({one.partition for table in of for one in self.outputs.get(table, []) if one.partition})

    @property
    def record(self) -> StudyRecord:
        """The parameters of the version."""
        return self.once("record", lambda: record_at(self.root, self.version))

    @property
    def people(self) -> set[str]:
        """The agents that are people, or made of their ratings."""
        entries = self.record.mapping("agents").items()
        return {name for name, entry in entries if entry.get("kind") in OF_PEOPLE or "ratings" in entry}

    @property
    def embedded(self) -> list[str]:
        """The agents that have an embedding."""
        return self.once("embedded", self._embedded)

    def _embedded(self) -> list[str]:
        return [
            agent
            for (agent,) in self.rows(f"SELECT DISTINCT agent FROM ({self.select('embeddings', 'agent')}) ORDER BY 1")
        ]


class Versions:
    """The versions of a lake, opened when they are first asked for.

    Parameters
    ----------
    root : Path
        Root of the lake.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, OpenVersion] = {}
        self._lock = Lock()

    def at(self, name: str) -> OpenVersion:
        """Return a version by any of its names; the latest if empty."""
        version = resolve(self.root, name)
        with self._lock:
            found = self._open.pop(version.commit, None)
            try:
                found = found or OpenVersion(self.root, version)
            except OSError as error:
                raise VersionError(f"{version.name} cannot be read", found=str(error)) from error
            self._open[version.commit] = found  # the most recently used one is the last
            for oldest in list(self._open)[: max(0, len(self._open) - MOST_OPEN)]:
                del self._open[oldest]
        return found
