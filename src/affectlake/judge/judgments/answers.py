"""Which of the three stimuli an answer names: by its id, or by its position."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from affectlake.errors import SourceError
from affectlake.judge.judgments.options import STIMULI, AnsweredBy, ReadingOptions
from affectlake.judge.judgments.raw import RawJudgments
from affectlake.tasks import ANSWERS, Task
from affectlake.user_tables.catalogue import Catalogue


class _Offered(NamedTuple):
    """What can be chosen in a task: the role of the answer, the columns that are offered, sides, and messages."""

    role: str
    columns: tuple[str, ...]
    sides: dict[str, int]
    no_id: str
    no_position: str


_OFFERED: dict[Task, _Offered] = {
    "odd-one-out": _Offered(
        "odd",
        STIMULI,
        {"left": 1, "middle": 2, "center": 2, "centre": 2, "right": 3},
        "the odd one {} is not one of the three stimuli",
        "the answer {} is not one of the three positions",
    ),
    "anchored": _Offered(
        "winner",
        ("left", "right"),
        {"left": 1, "right": 2},
        "the winner {} is not one of the two stimuli beside the head",
        "the answer {} is not one of the two positions",
    ),
}
_LIST = re.compile(r"""^\[\s*(["']?)([^"',\]]*)\1\s*\]$""")


@dataclass(frozen=True)
class Answered:
    """The positions of answers.

    Parameters
    ----------
    position : polars.Series
        Int8, from 1, among the three stimuli as shown; null where the answer does not name one.
    wrong : str
        Format of the reason for rows without a position, with a place for the answer.
    notes : list of str
        What was assumed.
    """

    position: pl.Series
    wrong: str
    notes: list[str]


def positions_of(rows: pl.DataFrame, raw: RawJudgments, options: ReadingOptions, catalogue: Catalogue) -> Answered:
    """Return the position, as shown, of the stimulus that each answer names; of anchored triplets, 2 or 3.

    An answer is an id in the way in which the columns of stimuli have it, or a position: a number, the name of one of
    the columns of stimuli, a name that ends in a number from 1 to 3 such as ``image_2``, a side, or what the user says
    with ``--position``.

    Parameters
    ----------
    rows : polars.DataFrame
        ``chosen``, and ``shown_1`` to ``shown_3`` as indices of stimuli.
    raw : RawJudgments
        The file.
    options : ReadingOptions
        What the user says about it.
    catalogue : Catalogue
        The stimuli.

    Raises
    ------
    SourceError
        If all answers can be ids as well as positions.
    """
    texts, before = rows["chosen"].str.strip_chars(), 3 - ANSWERS[raw.task]  # before: the head, which is not offered
    words = texts.unique().drop_nulls().to_list()
    first = options.first_position if options.first_position is not None else int(raw.layout != "jspsych")
    places = {word: at + before for word in words if (at := _place(word, raw, options, first)) is not None}
    by_position = texts.replace_strict(places, default=None, return_dtype=pl.Int8)
    known = catalogue.indices([_bare(word) for word in words])
    indices = {word: known[_bare(word)] for word in words if _bare(word) in known}
    named = rows.select(*_SHOWN, chosen=texts.replace_strict(indices, default=None, return_dtype=pl.Int32))
    by_id = named.select(
        pl.coalesce(
            pl.when(pl.col("chosen") == pl.col(f"shown_{at}")).then(pl.lit(at, dtype=pl.Int8))
            for at in range(before + 1, 4)
        )
    ).to_series()
    of_winners = raw.task == "anchored" and not raw.order_known  # beside losers, winners are ids
    how = options.answered_by or ("id" if of_winners else _how(rows, by_id, by_position, raw))
    offered = _OFFERED[raw.task]
    column = raw.columns[offered.role]
    if how == "id":
        return Answered(by_id, offered.no_id, [f"{column} is read as an id"])
    counted = sorted({word for word in places if word.isdecimal()})
    from_ = f" counted from {first}" if counted else ""
    recognised = {word: at for word, at in places.items() if not word.isdecimal() and word not in options.positions}
    assumed = {word: at - before for word, at in recognised.items()}
    shown = ", ".join(f"{word} = {at}" for word, at in sorted(assumed.items(), key=lambda one: (one[1], one[0]))[:6])
    notes = [f"{column} is read as a position{from_}" + (f" ({shown})" if shown else "")]
    return Answered(by_position, offered.no_position, notes)


_SHOWN = ("shown_1", "shown_2", "shown_3")


def _how(rows: pl.DataFrame, by_id: pl.Series, by_position: pl.Series, raw: RawJudgments) -> AnsweredBy:
    usable = rows.select(pl.all_horizontal(pl.col(one).is_not_null() for one in _SHOWN)).to_series()
    n_id, n_position = (int((usable & found.is_not_null()).sum()) for found in (by_id, by_position))
    n = int(usable.sum())
    differ = (by_id != by_position).fill_null(value=True).any()
    if n and n_id == n_position == n and differ:
        raise SourceError(
            f"the answers in {raw.file} can be ids of stimuli as well as positions",
            found=f"{rows['chosen'][0]!r} in column {raw.columns[_OFFERED[raw.task].role]!r}",
            todo="say which with --answer id or --answer position",
        )
    return "id" if n_id >= n_position else "position"


def _bare(word: str) -> str:
    """Return the member of a list of one, such as PsychoPy's ``['image_2']``."""
    found = _LIST.match(word)
    return found[2].strip() if found else word


def _place(word: str, raw: RawJudgments, options: ReadingOptions, first: int) -> int | None:
    """Return the place of an answer among those offered, from 1."""
    at, n = _named_place(word, raw, options, first), ANSWERS[raw.task]
    return at if at is not None and 1 <= at <= n else None


def _named_place(word: str, raw: RawJudgments, options: ReadingOptions, first: int) -> int | None:
    bare = _bare(word)
    for one in (word, bare):
        if one in options.positions:
            return options.positions[one]
    number = re.fullmatch(r"(?:num_)?([0-9])(?:\.0)?", bare)
    if number:
        return int(number[1]) - first + 1
    columns = [raw.columns.get(role, "") for role in _OFFERED[raw.task].columns]
    if bare in columns:
        return columns.index(bare) + 1
    ending = re.search(r"(?:^|[A-Za-z_\s.-])([1-3])$", bare)
    if ending:
        return int(ending[1])
    sides = {
        at
        for side, at in _OFFERED[raw.task].sides.items()
        if re.search(rf"(?:^|[^a-z]){side}(?:$|[^a-z])", bare.lower())
    }
    return sides.pop() if len(sides) == 1 else None
