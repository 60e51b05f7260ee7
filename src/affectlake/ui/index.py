"""The judgments of a version in the order of their triplets: a file in the user's cache folder, made once.

Tables of choices are sorted agent by agent. Here the judgments of all agents of a triplet are neighbours, so that pages
are cut by position instead of being counted, and a filter reads little. The file can be made again at any time.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from threading import Lock
from typing import Any

from affectlake.errors import LakeError
from affectlake.process.user_cache import user_cache
from affectlake.ui.opened import OpenVersion

FORMAT = 1
"""Version of the file's content; raised when it changes."""

KEPT = 8
"""Number of files that are kept, the most recently used ones."""

FOLDER = "AFFECTLAKE_UI_CACHE"
"""The environment variable that names another folder for the files."""

NO_CHOICE = "no_choice"
"""Reason of an answer that belongs to no choice: it was published after them, or asked under other settings."""

_ROWS_PER_GROUP = 122_880
_SOURCES = ("choices", "anchored_choices", "unparsed", "responses")
_KEY = ("agent", "trial_set", "i", "j", "k", "repeat")

# `odd` of an anchored judgment is the stimulus that is less like the head
_JUDGMENTS = """
    WITH made AS (
        SELECT agent, protocol, trial_set, i, j, k, repeat, odd, coalesce(tied, false) AS tied, NULL::VARCHAR AS reason
        FROM ({choices})
        UNION ALL
        SELECT agent, protocol, trial_set, i, j, k, repeat, loser, false, NULL FROM ({anchored_choices})
        UNION ALL
        SELECT DISTINCT agent, protocol, trial_set, i, j, k, repeat, NULL, false, coalesce(unparsed_reason, 'unknown')
        FROM ({unparsed})),
    whole AS (
        FROM made
        UNION ALL
        SELECT DISTINCT ON ({key}) agent, protocol, trial_set, i, j, k, repeat, NULL, false,
               if(error_kind IS NULL, '{no_choice}', 'error')
        FROM ({responses}) ANTI JOIN made USING ({key})),
    triplets AS (SELECT i, j, k, min(odd) <> max(odd) AS differs FROM whole GROUP BY i, j, k)
    SELECT i::INTEGER AS i, j::INTEGER AS j, k::INTEGER AS k, agent, trial_set, coalesce(protocol, '') AS protocol,
           coalesce(repeat, 0)::INTEGER AS repeat, odd::INTEGER AS odd, tied, reason,
           coalesce(differs, false) AS differs
    FROM whole JOIN triplets USING (i, j, k)
    ORDER BY i, j, k, agent, trial_set, protocol, repeat, reason
"""


class Index:
    """The judgments of a version, by position.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        import duckdb

        self._connection = duckdb.connect(":memory:")
        place = str(path).replace("'", "''")
        self._connection.execute(
            f"CREATE VIEW judgments AS SELECT file_row_number AS place, * EXCLUDE (file_row_number) "
            f"FROM read_parquet('{place}', file_row_number = true)"
        )
        self._connection.execute("SET enable_progress_bar = false")
        self._lock = Lock()

    def rows(self, sql: str, values: list[object]) -> list[dict[str, Any]]:
        """Return the rows of a statement over the view `judgments`; its column `place` is the position, from 0."""
        with self._lock:
            cursor = self._connection.cursor()
        found = cursor.execute(sql, values)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


class Indexes:
    """The indexes of versions. Missing ones are made one at a time, in the background."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._found: dict[str, Future[Index]] = {}
        self._lock = Lock()

    def of(self, opened: OpenVersion, wait_s: float | None = None) -> Index | None:
        """Return the index of a version; None if it is not made within `wait_s` seconds (None: wait for it)."""
        name = _name(opened)
        with self._lock:
            if name not in self._found:
                self._found[name] = self._workers.submit(_open, opened, name)
            future = self._found[name]
        try:
            return future.result(wait_s)
        except FutureTimeoutError:
            return None
        except Exception:
            with self._lock:  # the next request tries again
                self._found.pop(name, None)
            raise

    def close(self) -> None:
        """Make no further ones."""
        self._workers.shutdown(wait=False, cancel_futures=True)


def _name(opened: OpenVersion) -> str:
    """Return the name of an index: versions with the same judgments share one."""
    digests = opened.manifest.digests
    said = "\n".join(f"{one} {digests[one]}" for table in _SOURCES for one in sorted(opened.outputs.get(table, [])))
    return hashlib.sha256(f"{FORMAT}\n{said}".encode()).hexdigest()[:32]


def _open(opened: OpenVersion, name: str) -> Index:
    folder = user_cache("ui", os.environ.get(FOLDER, ""))
    if folder is None:
        raise LakeError("no folder for temporary files can be written", todo=f"name one in {FOLDER}")
    path = folder / f"judgments-{name}.parquet"
    if path.exists():
        path.touch()  # it was used now
    else:
        _write(opened, path)
        _forget(folder)
    return Index(path)


def _write(opened: OpenVersion, path: Path) -> None:
    import pyarrow.parquet as pq

    reader = opened.cursor().sql(judgments_of(opened)).to_arrow_reader(_ROWS_PER_GROUP)
    aside = path.with_suffix(f".{os.getpid()}.part")
    try:
        with pq.ParquetWriter(aside, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch, row_group_size=_ROWS_PER_GROUP)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def judgments_of(opened: OpenVersion) -> str:
    """Return the SELECT of all judgments of a version, in order."""
    return _JUDGMENTS.format(
        choices=opened.select("choices", *_KEY, "protocol", "odd", "tied"),
        anchored_choices=opened.select("anchored_choices", *_KEY, "protocol", "loser"),
        unparsed=opened.select("unparsed", *_KEY, "protocol", "unparsed_reason"),
        responses=opened.select("responses", *_KEY, "protocol", "error_kind"),
        key=", ".join(_KEY),
        no_choice=NO_CHOICE,
    )


def _forget(folder: Path) -> None:
    """Remove the files that were not used for longest."""
    found = sorted(folder.glob("judgments-*.parquet"), key=lambda path: path.stat().st_mtime)
    for path in found[:-KEPT]:
        path.unlink(missing_ok=True)
