"""The emotional videos of Cowen & Keltner 2017: their ratings, and Horikawa's captions.

The legal files, columns and ids are defined here; files are read by :mod:`affectlake.user_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import SourceError, nearest
from affectlake.stimuli.names import CATEGORIES, CATEGORY, DIMENSION, DIMENSIONS
from affectlake.stimuli.study import CAPTIONS, EXCLUSIONS, Scores, Study, assemble
from affectlake.user_tables import Legal, UserFile, UserTable, examples, read_table, to_numbers

N_RATED = 2185
"""Videos with ratings: ``0001.mp4`` to ``2185.mp4``."""

REPEATED = {2186 + i: 1 + i for i in range(11)}
"""Caption ids without ratings, and the rated video that each of them shows a second time."""

ID_COLUMN = "Filename"
CAPTION_COLUMNS = ("video_id", "description")


def load_emotion(ratings: Path, captions: Path | None, excluded: Sequence[int]) -> Study:
    """Read the ratings and captions of the emotional videos.

    Parameters
    ----------
    ratings : pathlib.Path
        ``CowenKeltnerEmotionalVideos.csv``: ``Filename``, 34 categories, and 14 dimensions by name; other columns (the
        free-response terms) are not read. Three of them repeat the name of a dimension; the first column of a name is
        used.
    captions : pathlib.Path or None
        ``caption_ck20.csv``: ``video_id, description``; id i is the video ``iiii.mp4``. None for a study without
        captions.
    excluded : sequence of int
        Numbers of the videos to exclude, such as duplicates of other videos.

    Returns
    -------
    Study
        Stimuli in increasing order of their ids. Excluded and counted: the excluded videos, their captions, and the
        captions of the eleven videos that were captioned a second time under other ids (`REPEATED`).

    Raises
    ------
    SourceError
        If a file or a cell is not valid, an id is malformed, unknown or duplicate, an excluded video is not in the
        file, or no caption belongs to a rated video.
    """
    source = read_table(UserFile(ratings, "ratings file", "sources.ratings"))
    frame = source.require([ID_COLUMN, *CATEGORIES, *DIMENSIONS], first_of_repeated=True)
    numbers = _rated_numbers(source, frame[ID_COLUMN])
    labels = frame[ID_COLUMN]
    categories, _ = to_numbers(source, frame.select(CATEGORIES), labels, Legal("category", 0, 1))
    dimensions, _ = to_numbers(source, frame.select(DIMENSIONS), labels, Legal("dimension", 1, 9))
    _check_excluded(source, numbers, excluded)
    order = np.argsort(numbers)
    kept = order[~np.isin(numbers[order], excluded)]
    if not len(kept):
        raise SourceError(f"all videos of {ratings} are excluded", todo="exclude fewer videos in sources.exclude")
    left_out = [_exclusion("ratings", number, "listed under sources.exclude", 1) for number in sorted(set(excluded))]
    texts = pl.DataFrame(schema=CAPTIONS)
    if captions is not None:
        texts, more = _captions(captions, numbers, numbers[kept])
        left_out += more
    return assemble(
        [stimulus_id(number) for number in numbers[kept]],
        [
            Scores(CATEGORY, [name.lower() for name in CATEGORIES], categories[kept]),
            Scores(DIMENSION, DIMENSIONS, dimensions[kept]),
        ],
        texts,
        pl.DataFrame(left_out, schema=EXCLUSIONS, orient="row"),
    )


def stimulus_id(number: int) -> str:
    """Return the source's id of video `number`, such as ``0001.mp4``."""
    return f"{number:04d}.mp4"


def _exclusion(source: str, number: int, reason: str, n_rows: int) -> tuple[str, str, str, int]:
    return source, stimulus_id(number), reason, n_rows


def _rated_numbers(source: UserTable, ids: pl.Series) -> NDArray[np.int64]:
    numbers = ids.str.extract(r"^(\d{4})\.mp4$").cast(pl.Int64)
    wrong = numbers.is_null() | ~numbers.is_between(1, N_RATED)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise SourceError(
            f"{wrong.sum():,} ids of the {source.file.name} are not videos of the data set",
            wanted=f"ids from 0001.mp4 to {N_RATED}.mp4",
            found=f"{ids[row]!r} in row {source.rows[row]}, column {ID_COLUMN!r}",
            todo="correct the ids, or remove these rows",
        )
    double = ids.filter(ids.is_duplicated()).unique(maintain_order=True).to_list()
    if double:
        rows = source.rows.filter(ids == double[0])
        raise SourceError(
            f"{len(double):,} ids of the {source.file.name} occur more than once",
            wanted="one row for each video",
            found=f"{examples(double)}; {double[0]} in rows {examples(rows.to_list())}",
            todo="keep one row for each video",
        )
    return numbers.to_numpy()


def _check_excluded(source: UserTable, numbers: NDArray[np.int64], excluded: Sequence[int]) -> None:
    absent = [number for number in excluded if number not in numbers]
    if absent:
        raise SourceError(
            f"{len(absent):,} excluded videos are not in the {source.file.name}",
            wanted="numbers of rated videos, such as 859 for 0859.mp4",
            found=f"{examples(absent)}; {nearest(str(absent[0]), map(str, numbers.tolist()))}",
            todo="correct sources.exclude",
        )


def _captions(
    path: Path, rated: NDArray[np.int64], kept: NDArray[np.int64]
) -> tuple[pl.DataFrame, list[tuple[str, str, str, int]]]:
    """Return the captions of the kept videos, and the exclusions."""
    source = read_table(UserFile(path, "captions file", "sources.captions"))
    frame = source.require(CAPTION_COLUMNS).with_columns(source.rows)
    frame = frame.with_columns(number=pl.col("video_id").str.strip_chars().cast(pl.Int64, strict=False))
    _check_captions(source, frame, rated)
    order = pl.DataFrame({"number": kept, "stimulus_index": np.arange(len(kept), dtype=np.int32)})
    texts = (
        frame.join(order, on="number", how="inner")
        .sort("row")
        .select(
            "stimulus_index",
            pl.int_range(pl.len(), dtype=pl.Int16).over("stimulus_index").alias("caption_index"),
            pl.col("description").alias("caption"),
        )
    )
    others = frame.join(order, on="number", how="anti").group_by("number").len().sort("number")
    left_out = [_exclusion("captions", number, _reason(number), count) for number, count in others.iter_rows()]
    return texts, left_out


def _reason(number: int) -> str:
    if number in REPEATED:
        return f"captions {stimulus_id(REPEATED[number])} a second time"
    return "its video is listed under sources.exclude"


def _check_captions(source: UserTable, frame: pl.DataFrame, rated: NDArray[np.int64]) -> None:
    malformed = frame.filter(pl.col("number").is_null())
    if malformed.height:
        raise _bad_captions(source, malformed, "video_id", "have no video number", "integers, such as 1")
    empty = frame.filter(pl.col("description").is_null() | (pl.col("description").str.strip_chars() == ""))
    if empty.height:
        raise _bad_captions(source, empty, "description", "are empty", "a text in every row")
    known = frame["number"].is_in(rated.tolist())
    if not known.any():
        raise SourceError(
            f"no caption of {source.file.path} belongs to a rated video",
            wanted=f"video numbers as in the ratings file, such as {rated.min()} for {stimulus_id(rated.min())}",
            found=examples(frame["video_id"].unique(maintain_order=True).to_list()),
            todo="set sources.captions and sources.ratings to files of the same videos",
        )
    unknown = frame.filter(~known & ~pl.col("number").is_in(list(REPEATED)))
    if unknown.height:
        raise _bad_captions(
            source, unknown, "video_id", "caption a video without ratings", "numbers of videos in the ratings file"
        )


def _bad_captions(source: UserTable, rows: pl.DataFrame, column: str, problem: str, wanted: str) -> SourceError:
    row, text = rows["row"][0], rows[column][0]
    return SourceError(
        f"{rows.height:,} rows of the {source.file.name} {problem}",
        wanted=wanted,
        found=f"{text!r} in row {row}, column {column!r}" if text else f"an empty cell in row {row}, column {column!r}",
        todo="correct or remove these rows",
    )
