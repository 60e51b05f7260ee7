"""What the cells of a table must be, exactly or within Monte Carlo error, and their comparison with a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Key = tuple[object, ...]
Cells = dict[str, Any]
"""The wanted cells of a row by column: a text, a number, None, or an object with the method ``agrees``."""
Rows = Iterator[tuple[Key, Cells]]

RARE = 1e-6
"""Probability below which random numbers are said to differ."""


@dataclass(frozen=True)
class Near:
    """A number, up to an absolute difference."""

    value: float
    within: float

    def agrees(self, found: Any) -> bool:
        return found is not None and abs(found - self.value) <= self.within


@dataclass(frozen=True)
class Says:
    """A text that contains some words."""

    words: str

    def agrees(self, found: Any) -> bool:
        return found is not None and self.words in found


@dataclass(frozen=True)
class Mean:
    """The mean of `n` draws of a distribution, of which the test has its own draws."""

    own: Array
    n: int

    def agrees(self, found: Any) -> bool:
        own = self.own[~np.isnan(self.own)]
        error = own.std(ddof=1) * math.sqrt(1 / self.n + 1 / len(own))
        return found is not None and bool(abs(found - own.mean()) <= 6 * error + 1e-9)


@dataclass(frozen=True)
class End:
    """The 2.5 % quantile of `n` draws (the 97.5 % quantile if `sign` is -1); the test has its own draws."""

    own: Array
    n: int
    sign: int = 1
    slack: float = 1e-9  # beyond what the test's draws reach: 1 for a count

    def agrees(self, found: Any) -> bool:
        own, at = self.sign * self.own[~np.isnan(self.own)], int(0.025 * (self.n - 1))
        if found is None:
            return len(own) < 2
        end, m = self.sign * found, len(own)
        below, reached = int((own < end - 1e-9).sum()), int((own <= end + 1e-9).sum())
        few = stats.betabinom.cdf(at + 1, self.n, below + 1, m - below + 1)  # at most so many draws are below it
        many = stats.betabinom.sf(at, self.n, reached + 1, m - reached + 1)  # and more than `at` are not above it
        return bool(min(few, many) > RARE and end >= own.min() - 4 * own.std() - self.slack)


@dataclass(frozen=True)
class Reflected:
    """An end of a basic bootstrap interval: 2 v - q for a value v and a quantile q of `n` draws, v, or a limit.

    `sign` is 1 for the upper end, which reflects the 2.5 % quantile, and -1 for the lower end.
    """

    value: float
    own: Array
    n: int
    sign: int
    limit: float
    slack: float = 1e-9

    def agrees(self, found: Any) -> bool:
        if found is None:
            return False
        quantile = self.sign * np.nanquantile(self.own, 0.025 if self.sign == 1 else 0.975)
        reflected = End(self.own, self.n, self.sign, self.slack).agrees(2 * self.value - found)
        if found == self.value and quantile >= self.sign * self.value:
            return True
        at_limit = found == self.limit and quantile <= self.sign * (2 * self.value - self.limit)
        return bool(reflected or at_limit) and self.sign * (found - self.value) >= 0


@dataclass(frozen=True)
class Share:
    """The share of `n` draws that are 1; the test has its own draws."""

    own: Array
    n: int

    def agrees(self, found: Any) -> bool:
        return found is not None and _counts(found * self.n, int(self.own.sum()), len(self.own), self.n)


@dataclass(frozen=True)
class Level:
    """(1 + the number of `n` draws that reach a value) / (1 + n); the test has its own draws."""

    value: float
    own: Array
    n: int

    def agrees(self, found: Any) -> bool:
        own = self.own[~np.isnan(self.own)]
        reached = int((own >= self.value - 1e-9).sum())
        return found is not None and _counts(found * (self.n + 1) - 1, reached, len(own), self.n)


def _counts(found: float, own: int, m: int, n: int) -> bool:
    """Return whether a count of n draws is plausible if `own` of the test's m draws count."""
    count, expected = round(found), stats.betabinom(n, own + 1, m - own + 1)
    tails = expected.cdf(count), expected.sf(count - 1)
    return abs(found - count) < 1e-6 and 0 <= count <= n and min(tails) > RARE


def estimate(
    value: Any, n: Any, ends: Iterable[Any] = (None, None), chance: Any = None, p_value: Any = None, note: Any = None
) -> Cells:
    """Return the wanted cells of a value with its interval and level."""
    low, high = ends
    return {"value": value, "ci_low": low, "ci_high": high, "chance": chance, "p_value": p_value, "n": n, "note": note}


def impossible(words: str, n: Any = 0) -> Cells:
    """Return the wanted cells of a value that is not defined, for a reason with these words."""
    return estimate(None, n, note=Says(words))


def between(draws: Array, n: int, slack: float = 1e-9) -> tuple[End, End]:
    """Return what the ends of a percentile interval of `n` draws must be."""
    return End(draws, n, 1, slack), End(draws, n, -1, slack)


def reflected(
    value: float, draws: Array, n: int, least: float, most: float, slack: float
) -> tuple[Reflected, Reflected]:
    """Return what the ends of a basic bootstrap interval of `n` draws must be, between the possible values."""
    return Reflected(value, draws, n, -1, least, slack), Reflected(value, draws, n, 1, most, slack)


def assert_rows(table: str, stored: pl.DataFrame, names: tuple[str, ...], wanted: Rows) -> None:
    """Require that a table has exactly these rows by key, and these columns, each with the wanted cells."""
    expected: dict[Key, Cells] = {}
    for key, row in wanted:
        assert key not in expected, key
        expected[key] = row
    rows = {tuple(row[name] for name in names): row for row in stored.to_dicts()}
    assert len(rows) == stored.height
    kinds = [name for name in ("analysis", "measure", "setting") if name in names]
    found, visited = (
        Counter(tuple(key[names.index(name)] for name in kinds) for key in keys) for keys in (rows, expected)
    )
    assert found == visited, f"{table}: not recomputed {found - visited}, missing {visited - found}"
    assert rows.keys() == expected.keys()
    columns, wrong = set(stored.columns) - set(names), []
    for key, row in expected.items():
        assert row.keys() == columns, f"{table}: {columns ^ row.keys()}"
        wrong += [
            f"{key} {name}: found {rows[key][name]!r}, wanted {cell!r}"[:400]
            for name, cell in row.items()
            if not _agrees(rows[key][name], cell)
        ]
    assert not wrong, f"{table}: {len(wrong)} cells differ\n" + "\n".join(wrong[:20])


def _agrees(found: Any, wanted: Any) -> bool:
    if hasattr(wanted, "agrees"):
        return bool(wanted.agrees(found))
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(found, wanted, rel_tol=1e-8, abs_tol=1e-9)
    return (found is None) == (wanted is None) and bool(found == wanted)
