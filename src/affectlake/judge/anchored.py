"""Anchored triplets that people already judged ("is a or b more like the head h?"), from the exports of other tools.

``salmon``: the CSV or JSON that Salmon's dashboard gives for download (Sievert et al. 2023), with the columns ``head``,
``left``, ``right``, ``winner``, ``puid`` and, in seconds, ``response_time`` and ``time_received_since_start``.
Stimuli are numbers, and ``head_filename`` (or ``head_html``, ``head_object``, ``head_src``) and so on are their names.

``triplettools``: the CSV of the R package tripletTools, with the columns ``Center``, ``Left``, ``Right``, ``Answer``,
``worker_id``, ``rt`` in milliseconds, and ``sampleAlg``, which is ``check`` for attention checks. Names of columns are
recognised as that package recognises them: without regard to case and punctuation, and with its synonyms.

Files are read here and nothing is stored. An anchored triplet does not say how similar a and b are, so that it is not
an odd-one-out judgment: it is fitted with its own likelihood (`affectlake.spose.model`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from affectlake.errors import SourceError
from affectlake.user_tables import UserFile, read_table

Layout = Literal["salmon", "triplettools"]
Naming = Literal["name", "number"]

ROLES: dict[str, tuple[str, ...]] = {
    "head": ("head", "center", "target"),
    "left": ("left", "option1"),
    "right": ("right", "option2"),
    "winner": ("winner", "primary", "answer"),
    "loser": ("loser", "alternate"),
    "participant": ("puid", "workerid", "sessionid", "participantid", "subid", "pid"),
    "response_time": ("responsetime", "rt"),
    "received": ("timereceivedsincestart",),
    "kind": ("samplealg", "algsample"),
}
"""Names of the columns of each role, in lower case and without punctuation; the first that exists is used."""

_NAMED = ("filename", "src", "html", "object")  # endings of Salmon's columns of names, by preference
_MARKS = {"puid", "timereceivedsincestart", *("head" + ending for ending in _NAMED)}
_TAG = r"""(?i)<[^>]*\bsrc\s*=\s*["']?([^"'>\s]+)"""
_PATH = r"^.*[\\/]([^\\/]+\.[A-Za-z0-9]{1,5})$"
_MISSING = ["na", "nan", "null", "none"]
_STIMULI = ("head", "left", "right", "winner", "loser")
_NUMBERS = ("head", "winner", "loser")


@dataclass(frozen=True)
class AnchoredJudgments:
    """Anchored triplets of a file.

    Attributes
    ----------
    file : str
        Name of the file.
    layout : {"salmon", "triplettools"}
    frame : polars.DataFrame
        ``row`` (Int64: the row after the header, or the record of a JSON file, from 1), ``head``, ``winner``, ``loser``
        (String), ``winner_position`` (Int8: 1 left, 2 right; null if the file does not say what was shown where),
        ``participant`` (String or null), ``response_time_s`` and ``received_s`` (Float64, seconds, or null; the latter
        since the start of the experiment), ``catch`` (Boolean: an attention check, in which the head
        may be one of the two others).
    columns : dict of str to str
        Columns of the file by role.
    """

    file: str
    layout: Layout
    frame: pl.DataFrame
    columns: dict[str, str]


def read_anchored(path: Path, naming: Naming = "name") -> AnchoredJudgments:
    """Read a file of anchored triplets, in any form that :func:`affectlake.user_tables.read_table` reads.

    Parameters
    ----------
    path : Path
    naming : {"name", "number"}
        Whether stimuli are returned as their names or as their numbers, if the file has both. Salmon's name of an image
        or video is that of its file, without folders; tripletTools numbers the sorted names from 0.

    Raises
    ------
    SourceError
        If the file cannot be read, columns are missing, or for the first row in which a stimulus is missing, the winner
        is not one of the two stimuli beside the head, stimuli repeat, or a time is not a number of at least 0. The
        message has its number and column.
    """
    read, file = read_table(UserFile(path, "file of anchored triplets", "the argument FILE")), path.name
    table = read.require(read.columns)
    columns, layout = _columns(table, naming, file)
    wanted = {role: columns[role] for role in (*_STIMULI, "participant", "kind") if role in columns}
    rows = table.select(
        read.rows,
        *(_text(column).alias(role) for role, column in wanted.items()),
    )
    if naming == "name" and layout == "salmon":
        rows = rows.with_columns(_file_name(role) for role in _STIMULI if role in columns)
    catch = pl.col("kind").str.to_lowercase().eq("check").fill_null(value=False) if "kind" in columns else pl.lit(False)
    rows = _with_position(rows.with_columns(catch=catch), file, columns)
    if "number of head" in columns:
        numbers = table.select(_text(columns[f"number of {role}"]).alias(role) for role in _NUMBERS)
        rows = rows.with_columns(numbers.get_columns())
        for role in _NUMBERS:
            _refuse(rows, pl.col(role).is_null(), f"column {role!r} is empty", "a number", role, file)
    to_s = 1.0 if layout == "salmon" else 0.001
    frame = rows.with_columns(
        participant=pl.col("participant") if "participant" in columns else pl.lit(None, pl.String),
        response_time_s=_numbers(table, rows, "response_time", columns, file) * to_s,
        received_s=_numbers(table, rows, "received", columns, file),
    ).select(
        *("row", "head", "winner", "loser", "winner_position", "participant", "response_time_s", "received_s", "catch")
    )
    return AnchoredJudgments(file, layout, frame, columns)


def _columns(table: pl.DataFrame, naming: Naming, file: str) -> tuple[dict[str, str], Layout]:
    """Return the columns by role, and the layout."""
    plain = {re.sub(r"[\W_]", "", name.lower()): name for name in reversed(table.columns)}
    columns = {role: next((plain[one] for one in names if one in plain), "") for role, names in ROLES.items()}
    columns = {role: name for role, name in columns.items() if name}
    salmon = {"head", "left", "right", "winner"} <= set(plain) and "center" not in plain and bool(_MARKS & set(plain))
    layout: Layout = "salmon" if salmon else "triplettools"
    if layout == "triplettools" and {"center", "left", "right", "answer"} <= set(plain):
        columns |= {"head": plain["center"], "winner": plain["answer"]}
        columns.pop("loser", None)  # it is a number; the other one of left and right has the name
        if naming == "number" and set(_NUMBERS) <= set(plain):
            columns |= {f"number of {role}": plain[role] for role in _NUMBERS}
    if layout == "salmon" and naming == "name":
        found = {ending for ending in _NAMED if any(f"head{ending}" == one for one in plain)}
        ending = next((one for one in _NAMED if one in found), "")
        columns |= {role: plain[role + ending] for role in _STIMULI if ending and role + ending in plain}
        if ending and "loser" + ending not in plain:
            columns.pop("loser", None)
    beside = {"left", "right"} <= set(columns)
    if not {"head", "winner"} <= set(columns) or not (beside or "loser" in columns):
        raise SourceError(
            f"{file} has no anchored triplets",
            wanted="columns head, winner, and left and right or loser (Salmon); or Center, Left, Right, Answer",
            found=f"the columns {', '.join(table.columns)}",
        )
    return columns, layout


def _text(column: str) -> pl.Expr:
    stripped = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(stripped != "").then(stripped)  # null otherwise


def _file_name(role: str) -> pl.Expr:
    """Return the name of the file in an HTML element or a path; another text as it is."""
    source = pl.coalesce(pl.col(role).str.extract(_TAG, 1), pl.col(role))
    return pl.coalesce(source.str.extract(_PATH, 1), source).alias(role)


def _with_position(rows: pl.DataFrame, file: str, columns: dict[str, str]) -> pl.DataFrame:
    """Check the stimuli; add the loser and the position of the winner."""
    for role in (one for one in _STIMULI if one in columns):
        _refuse(rows, pl.col(role).is_null(), f"column {columns[role]!r} is empty", "a stimulus", role, file)
    if {"left", "right"} <= set(columns):
        left, right, winner = pl.col("left"), pl.col("right"), pl.col("winner")
        _refuse(rows, left == right, "the two stimuli beside the head are the same", "two stimuli", "left", file)
        words = "the winner is neither the left nor the right stimulus"
        _refuse(rows, (winner != left) & (winner != right), words, "one of the two", "winner", file)
        other = pl.when(winner == left).then(right).otherwise(left)
        if "loser" in columns:
            _refuse(rows, pl.col("loser") != other, "the loser is not the other stimulus", "it", "loser", file)
        position = pl.when(winner == left).then(1).otherwise(2).cast(pl.Int8)
        rows = rows.with_columns(loser=other, winner_position=position)
    else:
        rows = rows.with_columns(winner_position=pl.lit(None, pl.Int8))
    head, winner, loser = pl.col("head"), pl.col("winner"), pl.col("loser")
    _refuse(rows, winner == loser, "the winner is the loser", "two stimuli", "winner", file)
    repeated = ((head == winner) | (head == loser)) & ~pl.col("catch")
    _refuse(rows, repeated, "the head is one of the two stimuli beside it", "three different stimuli", "head", file)
    return rows


def _numbers(table: pl.DataFrame, rows: pl.DataFrame, role: str, columns: dict[str, str], file: str) -> pl.Series:
    """Return a column of numbers of at least 0, with nulls where the file has none."""
    if role not in columns:
        return pl.Series(role, [None] * len(table), pl.Float64)
    texts = table.select(_text(columns[role]).alias(role)).to_series()
    missing = texts.str.to_lowercase().is_in(_MISSING).fill_null(value=True)
    numbers = texts.cast(pl.Float64, strict=False)
    right = missing | (numbers.is_finite() & (numbers >= 0)).fill_null(value=False)
    numbers = numbers.set(missing, None)
    marked = rows.with_columns(texts.alias("found"), (~right).alias("wrong"))
    words = f"column {columns[role]!r} is not a time"
    _refuse(marked, pl.col("wrong"), words, "a number of at least 0, or nothing", "found", file)
    return numbers


def _refuse(rows: pl.DataFrame, wrong: pl.Expr, what: str, wanted: str, role: str, file: str) -> None:
    """Raise SourceError for the first of the rows that are wrong."""
    found = rows.filter(wrong)
    if not found.is_empty():
        first = found.row(0, named=True)
        others = f"; so in {len(found):,} rows" if len(found) > 1 else ""
        raise SourceError(
            f"{file}, row {first['row']}: {what}{others}",
            wanted=wanted,
            found=repr(first[role]) if first[role] is not None else "nothing",
        )
