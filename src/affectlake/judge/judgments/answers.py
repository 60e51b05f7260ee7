"""Which of the three stimuli an answer names: by its id, or by its position."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from affectlake.errors import SourceError
from affectlake.judge.judgments.layouts import RawJudgments
from affectlake.judge.judgments.options import STIMULI, AnsweredBy, ReadingOptions
from affectlake.user_tables.catalogue import Catalogue

_SIDES = {"left": 1, "middle": 2, "center": 2, "centre": 2, "right": 3}
_LIST = re.compile(r"""^\[\s*(["']?)([^"',\]]*)\1\s*\]$""")


@dataclass(frozen=True)
class Answered:
    """The positions of answers.

    Parameters
    ----------
    position : polars.Series
        Int8, from 1; null where the answer does not name one.
    wrong : str
        Format of the reason for rows without a position, with a place for the answer.
    notes : list of str
        What was assumed.
    """

    position: pl.Series
    wrong: str
    notes: list[str]


def positions_of(rows: pl.DataFrame, raw: RawJudgments, options: ReadingOptions, catalogue: Catalogue) -> Answered:
    """Return the position, as shown, of the stimulus that each answer names.

    An answer is an id in the way in which the columns of stimuli have it, or a position: a number, the name of one of
    the columns of stimuli, a name that ends in a number from 1 to 3 such as ``image_2``, a side, or what the user says
    with ``--position``.

    Parameters
    ----------
    rows : polars.DataFrame
        ``odd``, and ``shown_1`` to ``shown_3`` as indices of stimuli.
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
    texts = rows["odd"].str.strip_chars()
    words = texts.unique().drop_nulls().to_list()
    first = options.first_position if options.first_position is not None else int(raw.layout != "jspsych")
    places = {word: at for word in words if (at := _place(word, raw, options, first)) is not None}
    by_position = texts.replace_strict(places, default=None, return_dtype=pl.Int8)
    known = catalogue.indices([_bare(word) for word in words])
    indices = {word: known[_bare(word)] for word in words if _bare(word) in known}
    named = rows.select(*_SHOWN, odd=texts.replace_strict(indices, default=None, return_dtype=pl.Int32))
    by_id = named.select(
        pl.coalesce(pl.when(pl.col("odd") == pl.col(f"shown_{at}")).then(pl.lit(at, dtype=pl.Int8)) for at in (1, 2, 3))
    ).to_series()
    how = options.answered_by or _how(rows, by_id, by_position, raw)
    column = raw.columns["odd"]
    if how == "id":
        return Answered(by_id, "the odd one {} is not one of the three stimuli", [f"{column} is read as an id"])
    counted = sorted({word for word in places if word.isdecimal()})
    from_ = f" counted from {first}" if counted else ""
    assumed = {word: at for word, at in places.items() if not word.isdecimal() and word not in options.positions}
    shown = ", ".join(f"{word} = {at}" for word, at in sorted(assumed.items(), key=lambda one: (one[1], one[0]))[:6])
    notes = [f"{column} is read as a position{from_}" + (f" ({shown})" if shown else "")]
    return Answered(by_position, "the answer {} is not one of the three positions", notes)


_SHOWN = ("shown_1", "shown_2", "shown_3")


def _how(rows: pl.DataFrame, by_id: pl.Series, by_position: pl.Series, raw: RawJudgments) -> AnsweredBy:
    usable = rows.select(pl.all_horizontal(pl.col(one).is_not_null() for one in _SHOWN)).to_series()
    n_id, n_position = (int((usable & found.is_not_null()).sum()) for found in (by_id, by_position))
    n = int(usable.sum())
    differ = (by_id != by_position).fill_null(value=True).any()
    if n and n_id == n_position == n and differ:
        raise SourceError(
            f"the answers in {raw.file} can be ids of stimuli as well as positions",
            found=f"{rows['odd'][0]!r} in column {raw.columns['odd']!r}",
            todo="say which with --answer id or --answer position",
        )
    return "id" if n_id >= n_position else "position"


def _bare(word: str) -> str:
    """Return the member of a list of one, such as PsychoPy's ``['image_2']``."""
    found = _LIST.match(word)
    return found[2].strip() if found else word


def _place(word: str, raw: RawJudgments, options: ReadingOptions, first: int) -> int | None:
    if word in options.positions:
        return options.positions[word]
    bare = _bare(word)
    if bare in options.positions:
        return options.positions[bare]
    number = re.fullmatch(r"(?:num_)?([0-9])(?:\.0)?", bare)
    if number:
        at = int(number[1]) - first + 1
        return at if 1 <= at <= 3 else None
    columns = [raw.columns.get(role, "") for role in STIMULI]
    if bare in columns:
        return columns.index(bare) + 1
    ending = re.search(r"(?:^|[A-Za-z_\s.-])([1-3])$", bare)
    if ending:
        return int(ending[1])
    sides = {at for side, at in _SIDES.items() if re.search(rf"(?:^|[^a-z]){side}(?:$|[^a-z])", bare.lower())}
    return sides.pop() if len(sides) == 1 else None
