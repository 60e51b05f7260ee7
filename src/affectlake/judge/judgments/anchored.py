"""Read files of anchored triplets ("is a or b more like the head h?"), as text.

``salmon``: the CSV or JSON that Salmon's dashboard gives for download (Sievert et al. 2023), with the columns ``head``,
``left``, ``right``, ``winner`` (numbers of stimuli), ``head_filename`` (or ``head_src``, ``head_html``,
``head_object``) and so on (their names), ``puid`` and, in seconds, ``response_time``. ``triplettools``: the CSV of the
R package tripletTools, with the columns ``Center``, ``Left``, ``Right``, ``Answer``, ``worker_id``, ``rt`` in
milliseconds, and ``sampleAlg``, which is ``check`` for attention checks. ``table``: a head, two others or a loser, and
a winner in each row. Names of columns are recognised without regard to case and punctuation, with synonyms.

An anchored triplet does not say how similar a and b are, so that it is not an odd-one-out judgment: it is fitted with
its own likelihood (`affectlake.spose.model`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from affectlake.errors import SourceError
from affectlake.judge.judgments.options import Layout, ReadingOptions
from affectlake.judge.judgments.raw import RawJudgments, with_answers
from affectlake.judge.judgments.roles import SAMPLED, add_named, check_given, names_stimuli, plain
from affectlake.user_tables import UserTable
from affectlake.user_tables.catalogue import Catalogue

_NAMES: Mapping[str, tuple[str, ...]] = {
    "head": ("head", "center", "centre", "target", "anchor", "reference"),
    "left": ("left", "option1"),
    "right": ("right", "option2"),
    "winner": ("winner", "primary", "answer", "chosen", "choice", "selected", "response"),
    "loser": ("loser", "alternate"),
}
"""Names of columns by role, in lower case without punctuation; earlier names take precedence."""

_ENDINGS = ("filename", "src", "html", "object")
"""Endings of Salmon's columns with names of stimuli, by preference."""

_OF_TRIPLETTOOLS = {"head": "center", "left": "left", "right": "right", "winner": "answer"}
_ALGORITHM = ("samplealg", "algsample")
"""Columns of tripletTools that say how a triplet was drawn: ``check`` for attention checks."""

_TIMES = ("datetimereceived", "timereceivedsincestart")


def is_anchored(columns: Sequence[str]) -> bool:
    """Return whether columns are those of Salmon or tripletTools, or name a head, a winner and a loser."""
    known = {plain(name) for name in columns}
    salmon = {"head", "left", "right", "winner"} <= known
    return salmon or {"head", "winner", "loser"} <= known or set(_OF_TRIPLETTOOLS.values()) <= known


def read_anchored(table: UserTable, options: ReadingOptions, catalogue: Catalogue) -> RawJudgments:
    """Return the anchored triplets of a table as text: the head is ``stimulus_1``.

    Without columns of the two others, they are the winner and the loser, and the order shown is not known.

    Parameters
    ----------
    table : UserTable
        The cells of the file.
    options : ReadingOptions
        What the user says about it.
    catalogue : Catalogue
        The stimuli, by which the columns with names are recognised.

    Raises
    ------
    SourceError
        If a named column does not exist, columns of the stimuli are missing, or none of them name stimuli.
    """
    file, columns = f"the {table.file.name}", table.columns
    check_given(options.columns, columns, file, "anchored")
    layout = options.layout or _layout(columns)
    found = _stimuli(table, layout, options.columns, file, catalogue)
    sides = "left" in found and "right" in found
    named = {plain(name): name for name in reversed(columns)}
    roles = {**found, **options.columns}
    roles.setdefault("time", next((named[one] for one in _TIMES if one in named), ""))
    if layout == "triplettools":
        roles.setdefault("catch", next((named[one] for one in _ALGORITHM if one in named), ""))
    add_named(roles, columns)
    roles = {role: name for role, name in roles.items() if name}
    others = ("left", "right") if sides else ("winner", "loser")
    frame = table.require(list(dict.fromkeys(roles.values()))).select(
        table.rows.cast(pl.Int32).alias("row"),
        *(pl.col(roles[role]).alias(f"stimulus_{at}") for at, role in enumerate(("head", *others), 1)),
        pl.col(roles["winner"]).alias("chosen"),
        *(pl.col(name).alias(role) for role, name in roles.items() if role not in ("head", "left", "right", "winner")),
    )
    if plain(roles.get("catch", "")) in _ALGORITHM:
        check = pl.col("catch").str.to_lowercase() == "check"
        frame = frame.with_columns(catch=pl.when(check).then(pl.lit("1")).otherwise(pl.lit("0")))
    trials = frame.filter(pl.col("stimulus_1").is_not_null())
    answered, skipped = with_answers(trials, frame.height)
    return RawJudgments(
        table.file.path.name, layout, roles, answered, skipped, list(table.notes), task="anchored", order_known=sides
    )


def _layout(columns: Sequence[str]) -> Layout:
    known = {plain(name) for name in columns}
    if "center" in known or known & set(_ALGORITHM):
        return "triplettools"
    of_salmon = {"puid", "timereceivedsincestart", *(f"head{ending}" for ending in _ENDINGS)}
    return "salmon" if known & of_salmon else "table"


def _stimuli(
    table: UserTable, layout: Layout, given: Mapping[str, str], file: str, catalogue: Catalogue
) -> dict[str, str]:
    """Return the columns of the head, the two others or the loser, and the winner, whose cells are stimuli."""
    tried: list[dict[str, str]] = []
    for candidate in _candidates(table.columns):
        roles = {**candidate, **{role: name for role, name in given.items() if role in _NAMES}}
        if {"head", "winner"} <= set(roles) and ({"left", "right"} <= set(roles) or "loser" in roles):
            if _of_catalogue(table, layout, roles, given, catalogue):
                return roles
            tried.append(roles)
    if not tried:
        raise SourceError(
            f"{file} has no anchored triplets",
            wanted="columns head, winner, and left and right or loser (Salmon); or Center, Left, Right, Answer",
            found=f"the columns {', '.join(map(repr, table.columns[:20]))}",
            todo="name them with --column head=NAME --column left=NAME --column right=NAME --column winner=NAME",
        )
    column = tried[0]["head"]
    cells = table.frame[column].drop_nulls().head(3).to_list()
    raise SourceError(
        f"column {column!r} of {file} does not name stimuli of the catalogue",
        wanted=f"ids such as {catalogue.ids[0]!r}; numbers of stimuli in the list of another tool are not ids",
        found=", ".join(map(repr, cells)) or "no cells",
        todo="add columns with ids to the file, or name other columns with --column head=NAME and so on",
    )


def _candidates(columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield sets of columns by role, the ones that have names rather than numbers first."""
    named = {plain(name): name for name in reversed(columns)}
    yield {role: named[word] for role, word in _OF_TRIPLETTOOLS.items() if word in named}
    for ending in _ENDINGS:
        yield {role: named[role + ending] for role in _NAMES if role + ending in named}
    found: dict[str, str] = {}
    add_named(found, columns, _NAMES)
    yield {role: name for role, name in found.items() if name}


def _of_catalogue(
    table: UserTable, layout: Layout, roles: Mapping[str, str], given: Mapping[str, str], catalogue: Catalogue
) -> bool:
    """Return whether the columns name stimuli.

    Numbers count the stimuli in a list of Salmon or tripletTools. In other files they are ids if all of them are ids of
    the catalogue, and everywhere if the user named the column.
    """
    shown = ("left", "right") if {"left", "right"} <= set(roles) else ("winner", "loser")
    columns = [roles[role] for role in ("head", *shown)]
    cells = {cell.strip() for column in columns for cell in table.frame[column].drop_nulls().head(SAMPLED)}
    if cells and all(cell.isdecimal() for cell in cells) and "head" not in given:
        return layout == "table" and cells <= set(catalogue.ids)
    return names_stimuli(table, columns, catalogue)
