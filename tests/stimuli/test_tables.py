"""Studies from files of one's own: any columns, any scales, with one message for each mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.errors import SourceError
from affectlake.stimuli import prototypes
from affectlake.stimuli.study import Family
from affectlake.stimuli.tables import CaptionSource, Loaded, RatingSource, StimulusSource, load_tables
from affectlake.user_tables import UserFile

TRAITS = Family("trait", 1, 7, 4)
MOODS = Family("mood", 0, 1, None, are_categories=True)
STIMULI = "face,kind\n007,man\n008,woman\n010,\n100,man\n"
RATED = "face,warm,calm\n100,1,2\n007,7,6.5\n008,4,4\n010,NA,3\n"
LONG = "who,face,scale,value\na,007,joy,0.2\na,007,fear,0.7\na,008,joy,1\nb,008,joy,0.5\nb,100,fear,0\n"
TEXTS = "face,text\n010,second\n007,first\n010,again\n"


class Files:
    """Files in a folder, and the study that is read from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.excluded: list[str] = []
        for name, text in (("stimuli", STIMULI), ("rated", RATED), ("long", LONG), ("texts", TEXTS)):
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.csv").write_text(text, encoding="utf-8")

    def file(self, name: str) -> UserFile:
        return UserFile(self.folder / f"{name}.csv", f"{name} file", f"sources.{name}")

    def traits(self, family: Family = TRAITS, **more: object) -> RatingSource:
        return RatingSource(self.file("rated"), "face", family, **more)  # type: ignore[arg-type]

    def moods(self, *, mean: bool = True) -> RatingSource:
        return RatingSource(self.file("long"), "face", MOODS, None, "scale", "value", mean)

    def load(self, *ratings: RatingSource, category: str | None = None, captions: bool = False) -> Loaded:
        return load_tables(
            StimulusSource(self.file("stimuli"), "face", category),
            ratings,
            CaptionSource(self.file("texts"), "face", "text") if captions else None,
            self.excluded,
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_list_of_ids_is_a_study(files: Files) -> None:
    study, notes = files.load()
    assert study.stimuli.rows() == [(0, "007", None, 0), (1, "008", None, 0), (2, "010", None, 0), (3, "100", None, 0)]
    assert [study.ratings.height, study.families.height, study.captions.height, study.exclusions.height] == [0, 0, 0, 0]
    assert notes == []


def test_wide_ratings_keep_their_scale_and_their_gaps(files: Files) -> None:
    study, notes = files.load(files.traits(), category="kind")
    assert study.stimuli["category"].to_list() == ["man", "woman", None, "man"]
    assert study.families.rows() == [("trait", 1.0, 7.0, 4.0, False)]
    scores = {(at, name): score for at, name, _, score in study.ratings.iter_rows()}
    assert scores == {
        (0, "warm"): 7.0, (0, "calm"): 6.5, (1, "warm"): 4.0, (1, "calm"): 4.0, (2, "calm"): 3.0,
        (3, "warm"): 1.0, (3, "calm"): 2.0,
    }  # fmt: skip
    assert notes == ["rated.csv: missing scores: 1"]


def test_long_ratings_of_several_raters_are_averaged_if_asked(files: Files) -> None:
    study, notes = files.load(files.moods())
    rows = {(at, name): score for at, name, _, score in study.ratings.iter_rows()}
    assert rows == {(0, "joy"): 0.2, (0, "fear"): 0.7, (1, "joy"): 0.75, (3, "fear"): 0.0}
    assert study.stimuli["category"].to_list() == ["fear", "joy", None, None]
    assert notes == ["long.csv: the mean of up to 2 scores of a stimulus and rating was taken"]
    assert prototypes(study.ratings, study.families, 1).tolist() == [0, 1]
    with pytest.raises(SourceError, match=r"1 scores[\s\S]*'joy' of '008' in rows 3, 4[\s\S]*aggregate: mean"):
        files.load(files.moods(mean=False))


def test_the_mean_over_raters_is_polars_mean(files: Files) -> None:
    rng = np.random.default_rng(3)
    rows = [(f"r{rng.integers(9)}", str(rng.choice(["007", "008", "010", "100"])), str(rng.choice(["joy", "fear"])),
             round(float(rng.random()), 3)) for _ in range(500)]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["who", "face", "scale", "value"], orient="row")
    files.write("long", frame.write_csv())
    found = files.load(files.moods()).study.ratings.join(
        pl.DataFrame({"stimulus_index": [0, 1, 2, 3], "face": ["007", "008", "010", "100"]}).cast(
            {"stimulus_index": pl.Int32}
        ),
        on="stimulus_index",
    )
    expected = frame.group_by("face", pl.col("scale").alias("rating")).agg(pl.col("value").mean())
    both = found.join(expected, on=["face", "rating"])
    assert both.height == expected.height == found.height
    np.testing.assert_allclose(both["score"], both["value"], atol=1e-12)


def test_captions_keep_the_order_of_the_file(files: Files) -> None:
    study, _ = files.load(captions=True)
    assert study.captions.rows() == [(0, 0, "first"), (2, 0, "second"), (2, 1, "again")]
    assert study.stimuli["n_captions"].to_list() == [1, 0, 2, 0]


def test_excluded_stimuli_are_counted_in_every_file(files: Files) -> None:
    files.excluded = ["010"]
    study, _ = files.load(files.traits(), captions=True)
    assert study.stimuli["stimulus_id"].to_list() == ["007", "008", "100"]
    assert study.exclusions.rows() == [
        ("captions", "010", "its stimulus is listed under sources.exclude", 2),
        ("ratings", "010", "its stimulus is listed under sources.exclude", 1),
        ("stimuli", "010", "listed under sources.exclude", 1),
    ]
    assert study.captions.rows() == [(0, 0, "first")]


def test_two_files_of_one_family_are_one(files: Files) -> None:
    files.write("more", "face,tall\n007,1\n008,2\n010,3\n100,4\n")
    more = RatingSource(files.file("more"), "face", TRAITS)
    study, _ = files.load(files.traits(), more)
    assert study.families.height == 1
    assert study.ratings.filter(pl.col("rating") == "tall")["score"].to_list() == [1, 2, 3, 4]


def test_ids_that_a_spreadsheet_shortened_are_found(files: Files) -> None:
    files.write("rated", RATED.replace("\n007", "\n7").replace("\n010", "\n10"))
    study, notes = files.load(files.traits())
    assert study.ratings.equals(Files(files.folder).load(files.traits()).study.ratings)
    assert "rated.csv: 2 names of stimuli were matched by the id without leading zeros" in notes
    files.write("stimuli", STIMULI + "0010,man\n")
    files.write("rated", RATED.replace("\n010", "\n10"))
    with pytest.raises(SourceError, match="unknown stimuli"):
        files.load(files.traits())  # 010 or 0010


MISTAKES: dict[str, tuple[Callable[[Files], object], str]] = {
    "an id twice": (
        lambda f: (f.write("stimuli", STIMULI + "008,man\n"), f.load())[1],
        r"1 ids[\s\S]*more than once[\s\S]*'008' in rows 2, 5",
    ),
    "two stimuli": (lambda f: (f.write("stimuli", "face\na\nb\n"), f.load())[1], r"too few[\s\S]*at least 3"),
    "an excluded stimulus that does not exist": (
        lambda f: (f.excluded.append("011"), f.load())[1],
        r"'011'; did you mean '010'[\s\S]*sources.exclude",
    ),
    "ratings of an unknown stimulus": (
        lambda f: (f.write("rated", RATED + "x1,1,1\n"), f.load(f.traits()))[1],
        r"1 rows[\s\S]*unknown stimuli[\s\S]*'x1' in row 5, column 'face'",
    ),
    "captions of an unknown stimulus": (
        lambda f: (f.write("texts", TEXTS + "101,more\n"), f.load(captions=True))[1],
        r"unknown stimuli[\s\S]*'101' in row 4",
    ),
    "an empty caption": (
        lambda f: (f.write("texts", TEXTS + "100,\n"), f.load(captions=True))[1],
        r"1 rows[\s\S]*have no caption[\s\S]*empty cell in row 4",
    ),
    "a score outside its scale": (
        lambda f: f.load(f.traits(Family("trait", 1, 5))),
        r"2 cells[\s\S]*out of range[\s\S]*from 1 to 5[\s\S]*'7' in row 2 \(007\), column 'warm'",
    ),
    "a text among the scores": (
        lambda f: (f.write("rated", RATED.replace("6.5", "high")), f.load(f.traits()))[1],
        r"not a number[\s\S]*'high' in row 2[\s\S]*list the columns of the ratings",
    ),
    "a rating in two families": (
        lambda f: f.load(f.traits(), f.traits(Family("other", 1, 7))),
        r"'warm'[\s\S]*families 'trait' and 'other'",
    ),
    "no column of ratings": (
        lambda f: (f.write("rated", "face\n007\n008\n"), f.load(f.traits()))[1],
        r"no ratings[\s\S]*'face' alone",
    ),
    "a missing column": (lambda f: f.load(f.traits(columns=["warmth"])), "did you mean 'warm'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_files(files: Files, name: str) -> None:
    make, said = MISTAKES[name]
    with pytest.raises(SourceError, match=said):
        make(files)
