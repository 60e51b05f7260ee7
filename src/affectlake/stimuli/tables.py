"""Studies of one's own: stimuli, ratings and captions in files with any columns and any scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError, nearest
from affectlake.stimuli.study import CAPTIONS, EXCLUSIONS, Family, Scores, Study, assemble
from affectlake.user_tables import Legal, UserFile, UserTable, examples, ids_of, read_table, texts_of, to_numbers
from affectlake.user_tables.catalogue import Catalogue

FEWEST = 3


class StimulusSource(NamedTuple):
    """The file that lists the stimuli, its column of ids, and its column of categories if it has one."""

    file: UserFile
    id_column: str
    category_column: str | None = None


class RatingSource(NamedTuple):
    """A file of ratings.

    Attributes
    ----------
    file : UserFile
    id_column : str
        Column of stimulus ids.
    family : Family
        Name and scale of its ratings.
    columns : sequence of str or None
        Columns with scores, one for each rating; None: all but `id_column`. Not used with `name_column`.
    name_column, score_column : str or None
        In a file with one row for each rating: the columns of its name and its score.
    mean : bool
        Whether the mean is taken of several rows of a stimulus.
    """

    file: UserFile
    id_column: str
    family: Family
    columns: Sequence[str] | None = None
    name_column: str | None = None
    score_column: str | None = None
    mean: bool = False


class CaptionSource(NamedTuple):
    """A file of captions, its column of stimulus ids, and its column of texts."""

    file: UserFile
    id_column: str
    caption_column: str


class Loaded(NamedTuple):
    """A study, and what was done beyond plain reading: one line for each."""

    study: Study
    notes: list[str]


class _Stimuli:
    """The ids of the stimuli, and which are kept."""

    def __init__(self, source: StimulusSource, excluded: Sequence[str]) -> None:
        self.table = read_table(source.file)
        self.ids = ids_of(self.table, source.id_column)
        if self.ids.n_unique() < len(self.ids):
            twice = self.ids.filter(self.ids.is_duplicated()).unique(maintain_order=True).to_list()
            rows = self.table.rows.filter(self.ids == twice[0])
            raise SourceError(
                f"{len(twice):,} ids of the {source.file.name} occur more than once",
                wanted="one row for each stimulus",
                found=f"{examples([repr(name) for name in twice])}; {twice[0]!r} in rows {examples(rows.to_list())}",
                todo="keep one row for each stimulus",
            )
        known = set(self.ids)
        unknown = [name for name in excluded if name not in known]
        if unknown:
            raise SourceError(
                f"{len(unknown):,} excluded stimuli are not in the {source.file.name}",
                wanted=f"ids of column {source.id_column!r}",
                found=f"{examples([repr(name) for name in unknown])}; {nearest(unknown[0], known)}",
                todo="correct sources.exclude",
            )
        self.left_out = sorted(set(excluded))
        self.kept = np.flatnonzero(~self.ids.is_in(self.left_out).to_numpy())
        if len(self.kept) < FEWEST:
            raise SourceError(
                f"the {source.file.name} has too few stimuli",
                wanted=f"at least {FEWEST} that are not excluded, because a triplet has three",
                found=f"{len(self.kept)} of {len(self.ids)}",
                todo="add stimuli, or exclude fewer in sources.exclude",
            )
        self.place = np.full(len(self.ids), -1)  # index in the study; -1 if excluded
        self.place[self.kept] = np.arange(len(self.kept))

    def rows_of(self, table: UserTable, column: str) -> tuple[NDArray[np.int64], list[str]]:
        """Return the row in the file of stimuli of each id in a column, and notes; raise if an id is unknown."""
        named = ids_of(table, column)
        known = Catalogue(self.ids.to_list())
        places = known.indices(named.unique(maintain_order=True))
        found = named.replace_strict(places, default=None, return_dtype=pl.Int64)
        unknown = named.filter(found.is_null())
        if len(unknown):
            at = int(found.is_null().arg_true()[0])
            raise SourceError(
                f"{len(unknown):,} rows of the {table.file.name} are about unknown stimuli",
                wanted=f"ids of the stimuli file, such as {self.ids[0]!r}",
                found=f"{unknown[0]!r} in row {table.rows[at]}, column {column!r}; "
                f"{nearest(unknown[0], self.ids)}".rstrip("; "),
                todo="correct the ids, remove these rows, or add the stimuli to sources.stimuli",
            )
        return found.to_numpy().astype(np.int64), known.notes()


def load_tables(
    stimuli: StimulusSource,
    ratings: Sequence[RatingSource] = (),
    captions: CaptionSource | None = None,
    excluded: Sequence[str] = (),
) -> Loaded:
    """Read a study from files.

    Parameters
    ----------
    stimuli : StimulusSource
        The stimuli; they keep the order of the file.
    ratings : sequence of RatingSource
        Files of ratings; several may have the same family.
    captions : CaptionSource or None
        Captions, in the order of the file for each stimulus.
    excluded : sequence of str
        Ids of stimuli to leave out; their ratings and captions are counted among the exclusions.

    Returns
    -------
    Loaded

    Raises
    ------
    SourceError
        If a file or a cell is not valid, an id occurs twice or is unknown, a score is outside its scale, a rating is in
        two families, or several rows of a stimulus are to be one.
    """
    listed = _Stimuli(stimuli, excluded)
    notes = _notes(stimuli.file, listed.table.notes)
    left_out = [("stimuli", name, "listed under sources.exclude", 1) for name in listed.left_out]
    scores: dict[str, Scores] = {}
    for source in ratings:
        values, names, rows, said = _read_ratings(source, listed)
        notes += _notes(source.file, said)
        left_out += _excluded(listed, rows, "ratings")
        _refuse_known(source, names, scores)
        before = scores.get(source.family.name)
        kept = values[listed.kept]
        scores[source.family.name] = (
            Scores(source.family, names, kept)
            if before is None
            else Scores(before.family, [*before.names, *names], np.hstack([before.values, kept]))
        )
    texts = pl.DataFrame(schema=CAPTIONS)
    if captions is not None:
        texts, rows, said = _read_captions(captions, listed)
        notes += _notes(captions.file, said)
        left_out += _excluded(listed, rows, "captions")
    exclusions = (
        pl.DataFrame(left_out, schema=EXCLUSIONS, orient="row")
        .group_by("source", "stimulus_id", "reason", maintain_order=True)
        .agg(pl.col("n_rows").sum())
    )
    ids = listed.ids.gather(listed.kept).to_list()
    study = assemble(ids, list(scores.values()), texts, exclusions, _categories(stimuli, listed))
    return Loaded(study, notes)


def _notes(file: UserFile, notes: Sequence[str]) -> list[str]:
    return [f"{file.path.name}: {note}" for note in notes]


def _excluded(listed: _Stimuli, rows: NDArray[np.int64], source: str) -> list[tuple[str, str, str, int]]:
    """Return the exclusions that follow from the rows of excluded stimuli in a file."""
    counts = np.bincount(rows, minlength=len(listed.ids))
    at = np.flatnonzero((listed.place < 0) & (counts > 0))
    return [(source, listed.ids[int(i)], "its stimulus is listed under sources.exclude", int(counts[i])) for i in at]


def _categories(source: StimulusSource, listed: _Stimuli) -> list[str | None] | None:
    if source.category_column is None:
        return None
    cells = listed.table.require([source.category_column]).to_series().str.strip_chars()
    texts: list[str | None] = [text or None for text in cells.gather(listed.kept)]
    return texts


def _refuse_known(source: RatingSource, names: Sequence[str], scores: dict[str, Scores]) -> None:
    for one in scores.values():
        twice = [name for name in names if name in one.names]
        if twice:
            raise SourceError(
                f"the rating {twice[0]!r} of the {source.file.name} is in another file too",
                wanted="a name for each rating, in all families",
                found=f"{twice[0]!r} in the families {one.family.name!r} and {source.family.name!r}",
                todo="rename the column, or leave it out by listing the others in `columns`",
            )


def _read_ratings(
    source: RatingSource, listed: _Stimuli
) -> tuple[NDArray[np.float64], list[str], NDArray[np.int64], list[str]]:
    """Return scores (all stimuli of the file of stimuli, n_ratings), names, the stimulus of each row, and notes."""
    table = read_table(source.file)
    rows, notes = listed.rows_of(table, source.id_column)
    labels = table.require([source.id_column]).to_series()
    legal = Legal(source.family.name, source.family.low, source.family.high)
    if source.name_column is not None:
        assert source.score_column is not None
        cells, titles = table.require([source.score_column]), ids_of(table, source.name_column)
        names = titles.unique(maintain_order=True).to_list()
        columns = titles.replace_strict({name: at for at, name in enumerate(names)}, return_dtype=pl.Int64).to_numpy()
        hint = ""
    else:
        chosen = source.columns or [name for name in table.columns if name != source.id_column]
        cells, names, columns = table.require(chosen), list(chosen), None
        hint = "" if source.columns else f"; list the columns of the ratings in {source.file.setting} (`columns`)"
        if not names:
            raise SourceError(
                f"the {source.file.name} has no ratings",
                wanted="a column for each rating beside that of the ids, or name_column and score_column",
                found=f"the column {source.id_column!r} alone",
                todo=source.file.another,
            )
    values, said = to_numbers(table, cells, labels, legal, missing=True, hint=hint)
    flat = values.ravel()
    stimulus = np.repeat(rows, values.shape[1])
    rating = np.tile(np.arange(len(names)), len(rows)) if columns is None else columns
    there = ~np.isnan(flat)
    at = (stimulus * len(names) + rating)[there]
    counts = np.bincount(at, minlength=len(listed.ids) * len(names))
    if not source.mean and counts.max(initial=0) > 1:
        raise _several(source, listed, table, names, at, there, values.shape[1])
    sums = np.bincount(at, weights=flat[there], minlength=len(counts))
    with np.errstate(invalid="ignore"):
        found = (sums / counts).reshape(len(listed.ids), len(names))
    if source.mean and counts.max(initial=0) > 1:
        said = [*said, f"the mean of up to {counts.max():,} scores of a stimulus and rating was taken"]
    return found, names, rows, [*table.notes, *notes, *said]


def _several(
    source: RatingSource,
    listed: _Stimuli,
    table: UserTable,
    names: list[str],
    at: NDArray[np.int64],
    there: NDArray[np.bool_],
    width: int,
) -> SourceError:
    """Return the error about several scores of one stimulus and rating."""
    kinds, first, counts = np.unique(at, return_index=True, return_counts=True)
    one = int(np.flatnonzero(counts > 1)[np.argmin(first[counts > 1])])
    places = np.flatnonzero(there)[at == kinds[one]] // width
    stimulus, rating = divmod(int(kinds[one]), len(names))
    return SourceError(
        f"{int((counts > 1).sum()):,} scores of the {source.file.name} are given more than once",
        wanted="one score for each stimulus and rating",
        found=f"{names[rating]!r} of {listed.ids[stimulus]!r} in rows "
        f"{examples([table.rows[int(place)] for place in places])}",
        todo=f"set `aggregate: mean` in {source.file.setting} if these are several raters, or remove rows",
    )


def _read_captions(source: CaptionSource, listed: _Stimuli) -> tuple[pl.DataFrame, NDArray[np.int64], list[str]]:
    """Return the captions of the kept stimuli, the stimulus of each row, and notes."""
    table = read_table(source.file)
    rows, notes = listed.rows_of(table, source.id_column)
    texts = texts_of(table, source.caption_column, "caption")
    frame = pl.DataFrame({"stimulus_index": listed.place[rows].astype(np.int32), "caption": texts})
    kept = frame.filter(pl.col("stimulus_index") >= 0).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int16).over("stimulus_index").alias("caption_index")
    )
    return kept, rows, [*table.notes, *notes]
