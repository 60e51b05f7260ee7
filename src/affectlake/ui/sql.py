"""The cell for SQL: one SELECT, closed as `affectlake query` is, with limits of time and rows."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from affectlake.lake.query import names, stream, tuples, within

ROWS_SHOWN = 200
MOST_ROWS = 1_000_000
"""Maximum numbers of rows on the page, and in a CSV file."""

SECONDS_SHOWN, MOST_SECONDS = 20.0, 120.0
"""Maximum time of a query for the page, and for a CSV file."""

_CHARACTERS = 400

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("Choices of each agent", "SELECT agent, trial_set, count(*) AS n FROM choices GROUP BY ALL ORDER BY ALL"),
    (
        "How well each embedding predicts held-out choices",
        "SELECT agent, seed, round(value, 3) AS accuracy, round(ci_low, 3) AS low, round(ci_high, 3) AS high\n"
        "FROM metrics WHERE analysis = 'held_out' AND measure = 'accuracy' ORDER BY agent, seed",
    ),
    (
        "Triplets on which agents differ most",
        "SELECT i, j, k, count(DISTINCT odd) AS n_different, count(*) AS n_judgments\n"
        "FROM choices GROUP BY i, j, k HAVING n_different > 1 ORDER BY ALL DESC LIMIT 50",
    ),
    (
        "Why answers have no choice",
        "SELECT agent, unparsed_reason, count(*) AS n FROM unparsed GROUP BY ALL ORDER BY n DESC",
    ),
    (
        "Stimuli that are most often the odd one",
        "SELECT stimulus_id, category, count(*) AS n FROM choices JOIN stimuli ON odd = stimulus_index\n"
        "GROUP BY ALL ORDER BY n DESC LIMIT 25",
    ),
    ("The tables and their columns", "SELECT table_name, column_name, data_type FROM information_schema.columns"),
)
"""Titles and texts of the examples."""


class Result(NamedTuple):
    """The rows of a query as text, whether there are more, and the seconds that it took."""

    columns: list[str]
    rows: list[list[str | None]]
    has_more: bool
    seconds: float


def ask(root: Path, sql: str, at: str) -> Result:
    """Return the first rows of one SELECT over a version.

    Raises
    ------
    QueryError
        If it is not one SELECT, cannot be answered, or takes too long.
    """
    start = time.monotonic()
    with closing(stream(root, sql, at, limit=ROWS_SHOWN + 1, seconds=SECONDS_SHOWN)) as found:
        heads = names(found)
        with within(found, SECONDS_SHOWN - (time.monotonic() - start)):
            rows = [row for piece in tuples(found, ROWS_SHOWN + 1) for row in piece]
    shown = [[_text(value) for value in row] for row in rows[:ROWS_SHOWN]]
    return Result(heads, shown, len(rows) > ROWS_SHOWN, time.monotonic() - start)


def _text(value: Any) -> str | None:
    text = _plain(value)
    return text if text is None or len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, bytes):
        return None if value is None else value.hex()
    return str(value)


def as_csv(root: Path, sql: str, at: str) -> Iterator[bytes]:
    """Yield the rows of one SELECT as CSV, at most `MOST_ROWS`; the first piece comes after the query has begun."""
    start = time.monotonic()
    found = stream(root, sql, at, limit=MOST_ROWS, seconds=MOST_SECONDS)
    first = _line([names(found)])

    def pieces() -> Iterator[bytes]:
        with closing(found):
            yield first
            with within(found, MOST_SECONDS - (time.monotonic() - start)):
                for piece in tuples(found):
                    yield _line([[_plain(value) for value in row] for row in piece])

    return pieces()


def _line(rows: list[Any]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
