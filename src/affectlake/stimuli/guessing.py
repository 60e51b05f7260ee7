"""Guesses about the files of a folder: which lists the stimuli, and which have ratings, captions or media.

Guesses begin a ``params.yaml`` that its user reads and corrects. A file about which nothing can be guessed is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError
from affectlake.stimuli.frames import IMAGES, SOUNDS, SUFFIXES
from affectlake.user_tables import UserFile, UserTable, read_table
from affectlake.user_tables.catalogue import Catalogue
from affectlake.user_tables.cells import MISSING
from affectlake.user_tables.reading import EXCEL, PARQUET
from affectlake.user_tables.table import clean

Numbers = NDArray[np.float64]

TABLES = (".csv", ".tsv", *EXCEL, *PARQUET)
SCALES = (
    (0, 1),
    (-1, 1),
    (1, 5),
    (1, 7),
    (1, 9),
    (0, 3),
    (0, 4),
    (0, 5),
    (0, 6),
    (0, 7),
    (0, 10),
    (-3, 3),
    (-4, 4),
    (-5, 5),
    (0, 100),
    (-100, 100),
)
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
    known, id_name = Catalogue(ids), listed[2] if listed else ""
    rated, texts, judged = [], [], []
    category = ""
    for table in tables:
        path, is_list = table.path, listed is not None and table is listed[0]
        own = table.id_columns(known)
        if not is_list and table.has_judgments(own, id_name):
            judged.append(path)
            continue
        key = id_name if is_list else table.key(own, id_name)
        if not key:
            unknown.append((path, "none of its columns has ids of the stimuli alone"))
            continue
        others = [name for name in table.columns if name != key]
        caption = table.caption(others)
        if is_list:
            category = table.category([name for name in others if name != caption])
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
        listed[0].path if listed else None,
        id_name,
        category,
        tuple(ids),
        tuple(rated),
        texts[0] if texts else None,
        media[0] if media else None,
        media[2] if media else {},
        tuple(judged),
        tuple(unknown),
    )


def _tables(folder: Path) -> tuple[list[_Table], list[tuple[Path, str]]]:
    """Return the tables of the folder that can be read, and the others with the reason."""
    found, unreadable = [], []
    for path in sorted(_files(folder)):
        if path.suffix.lower() in TABLES:
            try:
                found.append(_Table(read_table(UserFile(path, "file", "--from"))))
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


class _Table:
    """A table, with what is looked up repeatedly about its columns."""

    def __init__(self, table: UserTable) -> None:
        self.path, self.frame, self.columns = table.file.path, table.frame, table.columns
        self._comma = table.separator != ","
        self._cells: dict[str, pl.Series] = {}
        self._numbers: dict[str, Numbers | None] = {}

    def cells(self, column: str) -> pl.Series:
        """Return the cells of a column that are not empty, as ids."""
        if column not in self._cells:
            texts = self.frame[column].drop_nulls()
            self._cells[column] = pl.Series(column, [clean(text) for text in texts], dtype=pl.String)
        return self._cells[column]

    def numbers(self, column: str) -> Numbers | None:
        """Return the numbers in a column; None if it has cells that are neither numbers nor missing."""
        if column not in self._numbers:
            cells = self.cells(column)
            cells = cells.str.replace(",", ".", literal=True) if self._comma else cells
            values = cells.filter(~cells.is_in(["", *MISSING])).cast(pl.Float64, strict=False)
            bad = values.null_count() or not len(values) or not values.is_finite().all()
            self._numbers[column] = None if bad else values.to_numpy()
        return self._numbers[column]

    def counts(self, column: str) -> bool:
        """Return whether a column counts the rows."""
        values = self.numbers(column)
        return values is not None and len(values) > 2 and bool((np.diff(values) == 1).all())

    def scores(self, columns: Sequence[str]) -> dict[str, Numbers]:
        """Return the columns of numbers that do not count the rows."""
        found = {name: self.numbers(name) for name in columns if not self.counts(name)}
        return {name: values for name, values in found.items() if values is not None}

    def category(self, columns: Sequence[str]) -> str:
        """Return the column of texts that seems to have categories; empty if there is none."""
        texts = [name for name in columns if self.numbers(name) is None and len(self.cells(name))]
        few = [name for name in texts if 2 <= self.cells(name).n_unique() <= max(2, _FEW * self.frame.height)]
        return next(iter([*(name for name in few if name.lower() in _CATEGORY_WORDS), *few]), "")

    def caption(self, columns: Sequence[str]) -> str:
        """Return the column of the longest sentences; empty if there is none."""
        longest, found = float(_LONG_TEXT), ""
        for name in columns:
            cells = self.cells(name)
            if len(cells) and self.numbers(name) is None:
                length, spaced = cells.str.len_chars().to_numpy().mean(), cells.str.contains(" ", literal=True)
                if length > longest and spaced.to_numpy().mean() > _FEW:
                    longest, found = float(length), name
        return found

    def id_columns(self, known: Catalogue) -> list[str]:
        """Return the columns whose cells all name stimuli."""
        values = {column: self.cells(column).unique() for column in self.columns}
        return [column for column, own in values.items() if len(own) and all(map(known.knows, own))]

    def key(self, ids: Sequence[str], name: str) -> str:
        """Return the one of some columns of ids that says what a row is about; `name` is the column of the list."""
        return max(ids, key=lambda one: (one == name, _is_id_word(one), self.cells(one).n_unique()), default="")

    def has_judgments(self, ids: Sequence[str], name: str) -> bool:
        """Return whether each row has three different ids, and no column is named like ids of single stimuli."""
        if len(ids) < 3 or any(one == name or _is_id_word(one) for one in ids):
            return False
        first = self.frame.select(ids[:3]).drop_nulls()
        a, b, c = (pl.col(one) for one in ids[:3])
        return first.select(((a != b) & (a != c) & (b != c)).all()).item() and first.height > 0


def _is_id_word(column: str) -> bool:
    return column.lower().replace(" ", "_") in _ID_WORDS


def _list_of_stimuli(tables: Sequence[_Table], media: Sequence[str]) -> tuple[_Table, list[str], str] | None:
    """Return the table whose column of different values is most used by the others, with the values and its name."""
    with_stems = {*media, *(name.rpartition(".")[0] for name in media)}
    best: tuple[tuple[float, ...], _Table, list[str], str] | None = None
    for table in tables:
        n_scores, caption = len(table.scores(table.columns)), table.caption(table.columns)
        for place, column in enumerate(table.columns):
            cells, numbers = table.cells(column), table.numbers(column)
            if len(cells) < 3 or len(cells) < table.frame.height or cells.n_unique() < len(cells):
                continue
            if numbers is not None and (numbers % 1 != 0).any():
                continue
            values = cells.to_list()
            known = Catalogue(values)
            users = sum(bool(other.id_columns(known)) for other in tables if other is not table)
            shown = len(with_stems.intersection(values)) / len(values)
            word = column.lower().replace(" ", "_")
            named = _ID_WORDS.index(word) if word in _ID_WORDS else len(_ID_WORDS)
            holds = n_scores - (column in table.scores([column])) + (caption not in ("", column))
            score = (  # a list has little else
                *(users + shown, -named, not table.counts(column), "stimul" in table.path.stem.lower()),
                *(-holds, -place, len(values)),
            )
            if best is None or score > best[0]:
                best = (score, table, values, column)
    return best[1:] if best else None


def _ratings(table: _Table, key: str, columns: Sequence[str]) -> GuessedRatings | None:
    numbers = table.scores(columns)
    if not numbers:
        return None
    repeated = table.cells(key).n_unique() < table.frame.height
    texts = [name for name in columns if name not in numbers]
    if repeated and texts:
        # a row for each rating: the column of names is the one with which ids repeat least
        names = [name for name in texts if table.cells(name).n_unique() <= _FEW * table.frame.height]
        if names:
            order = list(columns)
            score = max(numbers, key=lambda one: (one.lower() in _SCORE_WORDS, -order.index(one)))
            name = max(names, key=lambda one: (one.lower() in _NAME_WORDS, table.frame.select(key, one).n_unique()))
            several = bool(table.frame.select(key, name).is_duplicated().any())
            return _scaled(GuessedRatings(table.path, key, (), name, score, several), numbers[score])
    found = GuessedRatings(table.path, key, tuple(numbers), several=repeated)
    return _scaled(found, np.concatenate(list(numbers.values())))


def _scaled(found: GuessedRatings, values: Numbers) -> GuessedRatings:
    low, high = float(values.min()), float(values.max())
    scale = next((scale for scale in SCALES if scale[0] <= low and high <= scale[1]), (low, high))
    return replace(found, range=(low, high), scale=(float(scale[0]), float(scale[1])))
