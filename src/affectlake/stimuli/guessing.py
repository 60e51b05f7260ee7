"""Guesses about the files of a folder: which lists the stimuli, and which have ratings, captions or media.

Guesses begin a ``params.yaml`` that its user reads and corrects. A file about which nothing can be guessed is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from affectlake.errors import SourceError
from affectlake.stimuli.frames import IMAGES, SOUNDS, SUFFIXES
from affectlake.user_tables import UserFile, UserTable, read_table
from affectlake.user_tables.reading import EXCEL, PARQUET, clean

TABLES = (".csv", ".tsv", *EXCEL, *PARQUET)
SCALES = ((0, 1), (-1, 1), (1, 5), (1, 7), (1, 9), (0, 10), (-3, 3), (-4, 4), (-5, 5), (0, 100), (-100, 100))
"""Usual scales, in the order in which they are tried."""

_ID_WORDS = (
    *("stimulus", "stimulus_id", "stimulusid", "stimuli", "item", "id", "image", "video", "clip", "face", "sound"),
    *("object", "picture", "word", "file", "filename", "name"),
)
_SCORE_WORDS = ("score", "rating", "value", "response")
_NAME_WORDS = ("rating", "scale", "dimension", "question", "item", "trait")
_CATEGORY_WORDS = ("category", "class", "type", "kind", "group", "condition", "emotion", "label")
_LONG_TEXT = 20  # characters; texts that are longer on average, with spaces, are captions
_FEW = 0.5  # share of different values below which a text column may have categories or names of ratings


@dataclass(frozen=True)
class GuessedRatings:
    """A file with ratings: its columns, the range of its scores, and the scale that was guessed from it."""

    file: Path
    id_column: str
    columns: tuple[str, ...] = ()
    name_column: str = ""
    score_column: str = ""
    several: bool = False
    range: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Guesses:
    """What the files of a folder seem to hold.

    Parameters
    ----------
    folder : pathlib.Path
    stimuli : pathlib.Path or None
        The file that lists the stimuli; None if only media do.
    id_column, category_column : str
        Columns of this file; empty if there is none.
    ids : tuple of str
        The stimuli.
    ratings : tuple of GuessedRatings
    captions : tuple of (pathlib.Path, str, str), or None
        The file of captions, its column of ids and its column of texts.
    media : pathlib.Path or None
        Folder of media.
    n_media : dict of str to int
        Number of videos, images and sounds in it.
    judgments : tuple of pathlib.Path
        Files that seem to have triplet judgments.
    unknown : tuple of (pathlib.Path, str)
        Other tables, and why they are not used.
    """

    folder: Path
    stimuli: Path | None
    id_column: str
    category_column: str
    ids: tuple[str, ...]
    ratings: tuple[GuessedRatings, ...] = ()
    captions: tuple[Path, str, str] | None = None
    media: Path | None = None
    n_media: dict[str, int] = field(default_factory=dict)
    judgments: tuple[Path, ...] = ()
    unknown: tuple[tuple[Path, str], ...] = ()


def guess(folder: Path) -> Guesses:
    """Look at the tables and media of a folder and of the folders directly in it.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    Guesses

    Raises
    ------
    SourceError
        If the folder does not exist, or no file of it can be a list of stimuli.
    """
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder}", todo="name the folder that has your files")
    tables, unknown = _tables(folder)
    media = _media(folder)
    names = media[1] if media else []
    listed = _list_of_stimuli(tables, names)
    if listed is None and len(names) < 3:
        raise SourceError(
            f"no file of {folder} lists stimuli",
            wanted="a table (CSV, TSV, Excel, Parquet) with a column of different ids, or at least three media files",
            found=", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "an empty folder",
            todo="add a table with an id for each stimulus",
        )
    ids = listed[1] if listed else names
    known = set(ids)
    rated, texts, judged = [], [], []
    category = ""
    for table in tables:
        path = table.file.path
        own = _id_columns(table, known)
        if len(own) >= 3 and not (listed and path == listed[0].file.path):
            judged.append(path)
            continue
        is_list = listed is not None and table is listed[0]
        key = listed[2] if is_list and listed else own[0] if own else ""
        if not key:
            unknown.append((path, "none of its columns has ids of the stimuli alone"))
            continue
        others = [name for name in table.columns if name != key]
        if is_list:
            category = _category_column(table, others)
        caption = _caption_column(table, others)
        if caption:
            texts.append((path, key, caption))
        ratings = _ratings(table, key, [name for name in others if name not in (caption, category)])
        if ratings:
            rated.append(ratings)
        elif not caption and not is_list:
            unknown.append((path, "it has neither scores nor captions"))
    unknown += [(path, f"captions are read from {texts[0][0].name}") for path, _, _ in texts[1:]]
    return Guesses(
        folder,
        listed[0].file.path if listed else None,
        listed[2] if listed else "",
        category,
        tuple(ids),
        tuple(rated),
        texts[0] if texts else None,
        media[0] if media else None,
        media[2] if media else {},
        tuple(judged),
        tuple(unknown),
    )


def _tables(folder: Path) -> tuple[list[UserTable], list[tuple[Path, str]]]:
    """Return the tables of the folder that can be read, and the others with the reason."""
    found, unreadable = [], []
    for path in sorted(_files(folder)):
        if path.suffix.lower() in TABLES:
            try:
                found.append(read_table(UserFile(path, "file", "--from")))
            except SourceError as error:
                unreadable.append((path, f"it cannot be read: {error.summary}"))
    return found, unreadable


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "~")):
            continue
        if entry.is_dir():
            yield from (inner for inner in entry.iterdir() if inner.is_file() and not inner.name.startswith((".", "~")))
        elif entry.is_file():
            yield entry


def _media(folder: Path) -> tuple[Path, list[str], dict[str, int]] | None:
    """Return the folder with most media, their names, and their numbers by kind."""
    by_folder: dict[Path, list[Path]] = {}
    for path in _files(folder):
        if path.suffix.lower() in SUFFIXES:
            by_folder.setdefault(path.parent, []).append(path)
    if not by_folder:
        return None
    place, files = max(by_folder.items(), key=lambda item: len(item[1]))
    kinds = ["images" if one.suffix.lower() in IMAGES else "sounds" if one.suffix.lower() in SOUNDS else "videos"
             for one in files]  # fmt: skip
    return place, sorted(clean(one.name) for one in files), {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _cells(table: UserTable, column: str) -> pl.Series:
    return table.frame[column].drop_nulls().map_elements(clean, return_dtype=pl.String)


def _list_of_stimuli(tables: Sequence[UserTable], media: Sequence[str]) -> tuple[UserTable, list[str], str] | None:
    """Return the table whose column of different values is most used by the others, with the values and its name."""
    with_stems = {*media, *(name.rpartition(".")[0] for name in media)}
    best: tuple[tuple[float, ...], UserTable, list[str], str] | None = None
    for table in tables:
        for place, column in enumerate(table.columns):
            cells = _cells(table, column)
            values = cells.to_list()
            if len(values) < 3 or len(values) < table.frame.height or cells.n_unique() < len(values):
                continue
            if _numbers(table, column) is not None and any(not float(value).is_integer() for value in values):
                continue
            known = set(values)
            users = sum(bool(_id_columns(other, known)) for other in tables if other is not table)
            shown = len(known & with_stems) / len(known)
            word = column.lower().replace(" ", "_")
            named = _ID_WORDS.index(word) if word in _ID_WORDS else len(_ID_WORDS)
            others = [name for name in table.columns if name != column]
            holds = len(_scores(table, others)) + bool(_caption_column(table, others))  # a list has little else
            score = (users + shown, -named, "stimul" in table.file.path.stem.lower(), -holds, -place, len(values))
            if best is None or score > best[0]:
                best = (score, table, values, column)
    return best[1:] if best else None


def _id_columns(table: UserTable, known: set[str]) -> list[str]:
    """Return the columns whose cells are all ids, or ids without leading zeros."""
    bare = {name.lstrip("0") for name in known}
    found = []
    for column in table.columns:
        values = set(_cells(table, column))
        if values and all(value in known or value.lstrip("0") in bare for value in values):
            found.append(column)
    return found


def _numbers(table: UserTable, column: str) -> np.ndarray | None:
    """Return a column as numbers; None if it has other cells."""
    cells = table.frame[column].drop_nulls().str.strip_chars()
    if table.separator != ",":
        cells = cells.str.replace(",", ".", literal=True)
    cells = cells.filter(~cells.is_in(["NA", "N/A", "NaN", "nan", "null", "NULL", ""]))
    values = cells.cast(pl.Float64, strict=False)
    return None if values.null_count() or not len(values) else values.to_numpy()


def _scores(table: UserTable, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the columns of numbers that do not count the rows."""
    numbers = {name: values for name in columns if (values := _numbers(table, name)) is not None}
    return {name: values for name, values in numbers.items() if len(values) < 3 or not (np.diff(values) == 1).all()}


def _category_column(table: UserTable, columns: Sequence[str]) -> str:
    texts = [name for name in columns if _numbers(table, name) is None and len(_cells(table, name))]
    few = [name for name in texts if 2 <= _cells(table, name).n_unique() <= max(2, _FEW * table.frame.height)]
    named = [name for name in few if name.lower() in _CATEGORY_WORDS]
    return next(iter([*named, *few]), "")


def _caption_column(table: UserTable, columns: Sequence[str]) -> str:
    longest, found = float(_LONG_TEXT), ""
    for name in columns:
        cells = table.frame[name].drop_nulls()
        if len(cells) and _numbers(table, name) is None:
            mean = float(cells.str.len_chars().mean() or 0)  # type: ignore[arg-type]
            if mean > longest and float(cells.str.contains(" ", literal=True).mean() or 0) > _FEW:  # type: ignore[arg-type]
                longest, found = mean, name
    return found


def _ratings(table: UserTable, key: str, columns: Sequence[str]) -> GuessedRatings | None:
    numbers = _scores(table, columns)
    if not numbers:
        return None
    path, repeated = table.file.path, _cells(table, key).n_unique() < table.frame.height
    texts = [name for name in columns if name not in numbers]
    if repeated and texts:
        # a row for each rating: the column of names is the one with which ids repeat least
        names = [name for name in texts if _cells(table, name).n_unique() <= _FEW * table.frame.height]
        if names:
            order = list(columns)
            score = max(numbers, key=lambda one: (one.lower() in _SCORE_WORDS, -order.index(one)))
            name = max(names, key=lambda one: (one.lower() in _NAME_WORDS, table.frame.select(key, one).n_unique()))
            several = bool(table.frame.select(key, name).is_duplicated().any())
            return _scaled(GuessedRatings(path, key, (), name, score, several), numbers[score])
    chosen = tuple(numbers)
    values = np.concatenate(list(numbers.values()))
    return _scaled(GuessedRatings(path, key, chosen, several=repeated), values)


def _scaled(found: GuessedRatings, values: np.ndarray) -> GuessedRatings:
    low, high = float(values.min()), float(values.max())
    usual = [scale for scale in SCALES if scale[0] <= low and high <= scale[1]]
    scale = usual[0] if usual else (low, high)
    return GuessedRatings(
        found.file, found.id_column, found.columns, found.name_column, found.score_column, found.several,
        (low, high), (float(scale[0]), float(scale[1])),
    )  # fmt: skip
