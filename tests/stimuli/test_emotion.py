"""The emotional videos: real files, and every way in which a file can be wrong."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from affectlake.errors import SourceError
from affectlake.stimuli import CATEGORIES, DIMENSIONS, load_emotion, prototypes

HEADER = ["Filename", *CATEGORIES, *DIMENSIONS, "admiration", "arousal"]
Edit = Callable[[list[list[str]]], object]


def rows_of_ratings(n: int = 6) -> list[list[str]]:
    """A small file in the published form: a header, a peak category per video, two free-response columns."""
    rows = [list(HEADER)]
    for number in range(1, n + 1):
        categories = ["0.083333"] * 34
        categories[number % 34] = "0.75"
        rows.append([f"{number:04d}.mp4", *categories, *["4.5"] * 14, "0.1", "0.2"])
    return rows


def rows_of_captions(ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6)) -> list[list[str]]:
    return [
        ["video_id", "description"],
        *([str(i), f"A clip, {word} take of {i}"] for i in ids for word in ("one", "two")),
    ]


def write(path: Path, rows: list[list[str]], encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    return write(tmp_path / "ratings.csv", rows_of_ratings())


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    return write(tmp_path / "captions.csv", rows_of_captions(), "utf-8-sig")


def test_a_small_study(ratings: Path, captions: Path) -> None:
    study = load_emotion(ratings, captions, [2])
    assert study.stimuli.rows() == [
        (0, "0001.mp4", "adoration", 2),
        (1, "0003.mp4", "amusement", 2),
        (2, "0004.mp4", "anger", 2),
        (3, "0005.mp4", "anxiety", 2),
        (4, "0006.mp4", "awe", 2),
    ]
    assert study.stimuli.schema == {
        "stimulus_index": pl.Int32,
        "stimulus_id": pl.String,
        "category": pl.String,
        "n_captions": pl.Int32,
    }
    assert study.ratings.height == 5 * 48
    assert study.ratings.schema == {
        "stimulus_index": pl.Int32,
        "rating": pl.String,
        "family": pl.String,
        "score": pl.Float64,
    }
    assert study.ratings.filter((pl.col("stimulus_index") == 1) & (pl.col("rating") == "amusement")).row(0)[3] == 0.75
    assert study.ratings.filter(pl.col("rating") == "arousal")["score"].unique().to_list() == [4.5]
    assert study.ratings.equals(study.ratings.sort("stimulus_index", "rating"))
    assert study.captions.row(2) == (1, 0, "A clip, one take of 3")
    assert study.captions.schema == {"stimulus_index": pl.Int32, "caption_index": pl.Int16, "caption": pl.String}
    assert study.exclusions.rows() == [
        ("captions", "0002.mp4", "its video is listed under sources.exclude", 2),
        ("ratings", "0002.mp4", "listed under sources.exclude", 1),
    ]


def test_the_order_of_rows_and_columns_does_not_matter(tmp_path: Path, ratings: Path, captions: Path) -> None:
    rows = rows_of_ratings()
    order = [0, *range(48, 0, -1), 49, 50]
    turned = [[row[at] for at in order] for row in [rows[0], *rows[:0:-1]]]
    shuffled = load_emotion(write(tmp_path / "turned.csv", turned), captions, [])
    for one, other in zip(load_emotion(ratings, captions, []), shuffled, strict=True):
        assert one.equals(other)


def test_ratings_alone_are_a_study(ratings: Path) -> None:
    study = load_emotion(ratings, None, [])
    assert study.captions.is_empty()
    assert study.exclusions.is_empty()
    assert study.stimuli["n_captions"].to_list() == [0] * 6
    assert study.exclusions.schema == {
        "source": pl.String,
        "stimulus_id": pl.String,
        "reason": pl.String,
        "n_rows": pl.Int32,
    }


def test_captions_of_a_repeated_video_are_left_out_and_counted(tmp_path: Path, ratings: Path) -> None:
    captions = write(tmp_path / "captions.csv", rows_of_captions((1, 2186, 2196)))
    study = load_emotion(ratings, captions, [])
    assert study.exclusions.rows() == [
        ("captions", "2186.mp4", "captions 0001.mp4 a second time", 2),
        ("captions", "2196.mp4", "captions 0011.mp4 a second time", 2),
    ]
    assert study.stimuli["n_captions"].to_list() == [2, 0, 0, 0, 0, 0]


def test_interleaved_captions_keep_the_source_order(tmp_path: Path, ratings: Path) -> None:
    rows = [["video_id", "description"], ["2", "b"], ["1", "c"], ["2", 'a "quoted"\nline, and a comma']]
    study = load_emotion(ratings, write(tmp_path / "captions.csv", rows), [])
    assert study.captions.rows() == [(0, 0, "c"), (1, 0, "b"), (1, 1, 'a "quoted"\nline, and a comma')]


def test_prototypes_are_the_highest_rated_of_each_category() -> None:
    scores = {"joy": [0.5, 0.9, 0.9, 0.0], "fear": [0.0, 0.8, 0.0, 0.0]}
    ratings = pl.DataFrame(
        [(i, name, "category", s) for name, column in scores.items() for i, s in enumerate(column)]
        + [(i, "valence", "dimension", 9.0) for i in range(4)],
        schema=["stimulus_index", "rating", "family", "score"],
        orient="row",
    )
    families = pl.DataFrame({"family": ["category", "dimension"], "are_categories": [True, False]})
    assert prototypes(ratings, families, 2).tolist() == [1, 2]
    assert prototypes(ratings, families, 3).tolist() == [0, 1, 2]
    assert prototypes(ratings, families, 1).tolist() == [1]
    assert prototypes(ratings, families.slice(1), 2).tolist() == []


def test_a_video_of_which_nobody_felt_a_category_has_none(tmp_path: Path) -> None:
    """Not the first category, `admiration`."""
    rows = rows_of_ratings()
    for column in CATEGORIES:
        rows[2][rows[0].index(column)] = "0"
    study = load_emotion(write(tmp_path / "r.csv", rows), None, [])
    assert study.stimuli["category"].null_count() == 1 and study.stimuli["category"][1] is None


def set_cell(row: int, column: str, text: str) -> Edit:
    return lambda rows: rows[row].__setitem__(rows[0].index(column), text)


def rename(column: str, name: str) -> Edit:
    return lambda rows: rows[0].__setitem__(rows[0].index(column), name)


def drop(column: str) -> Edit:
    def edit(rows: list[list[str]]) -> None:
        at = rows[0].index(column)
        for row in rows:
            del row[at]

    return edit


BAD_RATINGS = {
    "renamed column": (rename("Joy", "Joyy"), ["lacks 1 column", "'Joy'", "did you mean 'Joyy'"]),
    "lower-case column": (rename("Sexual Desire", "sexual desire"), ["'Sexual Desire'", "'sexual desire'"]),
    "missing column": (drop("valence"), ["lacks 1 column", "'valence'"]),
    "missing ids": (rename("Filename", "video"), ["lacks 1 column", "'Filename'"]),
    "text cell": (set_cell(3, "Joy", "high"), ["a cell of", "'high' in row 3 (0003.mp4), column 'Joy'", "0 to 1"]),
    "empty cell": (set_cell(3, "Joy", ""), ["an empty cell in row 3 (0003.mp4), column 'Joy'"]),
    "blank cell": (set_cell(3, "Joy", "  "), ["an empty cell in row 3"]),
    "NaN cell": (set_cell(4, "safety", "NaN"), ["'NaN' in row 4 (0004.mp4), column 'safety'", "1 to 9"]),
    "infinite cell": (set_cell(4, "safety", "inf"), ["'inf' in row 4", "out of range"]),
    "high category": (set_cell(2, "Fear", "1.01"), ["out of range", "'1.01' in row 2 (0002.mp4), column 'Fear'"]),
    "negative category": (set_cell(2, "Fear", "-0.1"), ["'-0.1' in row 2", "0 to 1"]),
    "low dimension": (set_cell(6, "effort", "0.5"), ["'0.5' in row 6 (0006.mp4), column 'effort'", "1 to 9"]),
    "dimension that is gone": (drop("arousal"), ["out of range", "'0.2' in row 1", "'arousal'"]),
    "double id": (set_cell(5, "Filename", "0002.mp4"), ["more than once", "0002.mp4 in rows 2, 5"]),
    "malformed id": (set_cell(5, "Filename", "5.mp4"), ["'5.mp4' in row 5", "0001.mp4 to 2185.mp4"]),
    "unknown id": (set_cell(5, "Filename", "2186.mp4"), ["'2186.mp4' in row 5"]),
    "id zero": (set_cell(5, "Filename", "0000.mp4"), ["'0000.mp4' in row 5"]),
    "no id": (set_cell(5, "Filename", ""), ["None in row 5"]),
    "no rows": (lambda rows: rows.__delitem__(slice(1, None)), ["a header but no rows"]),
    "ragged row": (
        lambda rows: rows[2].append("0.5"),
        ["more cells than the header", "'0.5' in row 2, cell", "commas between cells"],
    ),
    "cut in a row": (lambda rows: rows[-1].__delitem__(slice(20, None)), ["an empty cell in row 6 (0006.mp4)"]),
}


@pytest.mark.parametrize("name", BAD_RATINGS)
def test_bad_ratings(tmp_path: Path, name: str) -> None:
    edit, said = BAD_RATINGS[name]
    rows = rows_of_ratings()
    edit(rows)
    path = write(tmp_path / "ratings.csv", rows)
    with pytest.raises(SourceError) as error:
        load_emotion(path, None, [])
    message = str(error.value)
    assert str(path) in message
    for part in said:
        assert part in message, message


def test_several_bad_cells_are_counted(tmp_path: Path) -> None:
    rows = rows_of_ratings()
    for row in (2, 4, 5):
        set_cell(row, "Awe", "7")(rows)
    with pytest.raises(SourceError, match=r"3 cells.*out of range"):
        load_emotion(write(tmp_path / "ratings.csv", rows), None, [])


BAD_CAPTIONS = {
    "renamed column": (rename("description", "descriptions"), ["'description'", "did you mean 'descriptions'"]),
    "malformed id": (set_cell(2, "video_id", "0001.mp4"), ["'0001.mp4' in row 2", "integers, such as 1"]),
    "no id": (set_cell(2, "video_id", ""), ["an empty cell in row 2", "video_id"]),
    "empty caption": (set_cell(3, "description", ""), ["an empty cell in row 3, column 'description'"]),
    "blank caption": (set_cell(3, "description", " "), ["' ' in row 3, column 'description'"]),
    "unknown id": (set_cell(4, "video_id", "77"), ["'77' in row 4", "caption a video without ratings"]),
    "id beyond the set": (set_cell(4, "video_id", "2197"), ["'2197' in row 4"]),
    "no rows": (lambda rows: rows.__delitem__(slice(1, None)), ["a header but no rows"]),
}


@pytest.mark.parametrize("name", BAD_CAPTIONS)
def test_bad_captions(tmp_path: Path, ratings: Path, name: str) -> None:
    edit, said = BAD_CAPTIONS[name]
    rows = rows_of_captions()
    edit(rows)
    path = write(tmp_path / "captions.csv", rows)
    with pytest.raises(SourceError) as error:
        load_emotion(ratings, path, [])
    message = str(error.value)
    assert str(path) in message
    for part in said:
        assert part in message, message


def test_captions_of_other_videos(tmp_path: Path, ratings: Path) -> None:
    path = write(tmp_path / "captions.csv", rows_of_captions((901, 902)))
    with pytest.raises(SourceError, match=r"no caption of .* belongs to a rated video") as error:
        load_emotion(ratings, path, [])
    assert "901, 902" in str(error.value)


@pytest.mark.parametrize("which", ["ratings", "captions"])
@pytest.mark.usefixtures("ratings", "captions")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xff\xfe\x9d\x81", "is not UTF-8 text"),
        (b"<html><body>Not found</body></html>", "a header but no rows"),
    ],
)
def test_files_that_are_none(tmp_path: Path, which: str, content: bytes | None, said: str) -> None:
    path = tmp_path / f"{which}.csv"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as error:
        load_emotion(tmp_path / "ratings.csv", tmp_path / "captions.csv", [])
    assert f"sources.{which}" in str(error.value) or "rename the columns" in str(error.value)


def test_a_near_miss_of_a_path_is_offered(ratings: Path) -> None:
    with pytest.raises(SourceError, match=r"did you mean 'ratings\.csv'"):
        load_emotion(ratings.with_name("rating.csv"), None, [])
    with pytest.raises(SourceError, match="is a folder"):
        load_emotion(ratings.parent, None, [])
    with pytest.raises(SourceError, match="no folder"):
        load_emotion(ratings.parent / "none" / "ratings.csv", None, [])


def test_another_encoding_is_refused(tmp_path: Path, ratings: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_bytes("video_id,description\n1,Un café à Paris\n".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-8"):
        load_emotion(ratings, path, [])


def test_excluding_what_is_not_there(ratings: Path) -> None:
    with pytest.raises(SourceError, match="2 excluded videos are not in") as error:
        load_emotion(ratings, None, [2, 859, 866])
    assert "859, 866" in str(error.value)


def test_excluding_everything(ratings: Path) -> None:
    with pytest.raises(SourceError, match=r"all videos .* are excluded"):
        load_emotion(ratings, None, [1, 2, 3, 4, 5, 6])


@pytest.mark.realdata
def test_the_published_files(real_data: Path) -> None:
    study = load_emotion(
        real_data / "cowen_keltner_2017" / "CowenKeltnerEmotionalVideos.csv",
        real_data / "horikawa_captions" / "caption_ck20.csv",
        [859, 866, 1673, 2157],
    )
    assert study.stimuli.height == 2181
    assert study.stimuli["stimulus_index"].to_list() == list(range(2181))
    assert study.stimuli["n_captions"].unique().to_list() == [20]
    sizes = study.stimuli["category"].value_counts().filter(pl.col("count") >= 10)
    assert (sizes.height, sizes["count"].sum()) == (27, 2167)
    assert study.ratings.height == 2181 * 48
    assert study.captions.height == 2181 * 20
    assert len(prototypes(study.ratings, study.families)) == 66
    left_out = study.exclusions.group_by("source").agg(pl.len(), pl.col("n_rows").sum()).sort("source")
    assert left_out.rows() == [("captions", 15, 300), ("ratings", 4, 4)]
    first = study.ratings.filter((pl.col("stimulus_index") == 0) & (pl.col("rating") == "arousal"))
    assert first["score"].item() == 5.5556
