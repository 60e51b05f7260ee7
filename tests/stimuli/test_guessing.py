"""What the files of a folder seem to hold, and the params.yaml that is written from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from affectlake.errors import SourceError
from affectlake.pipelines.params import from_folder
from affectlake.pipelines.params.study import parse
from affectlake.stimuli import guessing
from affectlake.stimuli.guessing import guess

IDS = [f"{number:03d}.png" for number in range(1, 31)]
GROUPS = [("happy", "sad", "calm")[at % 3] for at in range(30)]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def media(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8), (len(name), 0, 0)).save(folder / name)


def params_of(folder: Path, lake: Path) -> dict[str, object]:
    text = from_folder.params_from(guess(folder), lake)
    parse(text)  # no mistakes
    found: dict[str, object] = yaml.safe_load(text)
    return found


def test_tables_and_media(tmp_path: Path) -> None:
    folder = tmp_path / "My Faces"
    media(folder / "images", IDS)
    pl.DataFrame({"nr": range(30), "face": IDS, "expression": GROUPS}).write_csv(folder / "list.csv")
    rated = pl.DataFrame({"face": IDS, "warmth": rng().uniform(-3, 3, 30).round(2), "age": rng().uniform(-2, 2, 30)})
    rated.write_excel(folder / "traits.xlsx")
    long = [("r1", name, what, float(value)) for name in IDS for what in ("joy", "fear") for value in (0.25, 0.5)]
    pl.DataFrame(long, schema=["rater", "face", "emotion", "score"], orient="row").write_csv(
        folder / "raters.csv", separator=";", decimal_comma=True
    )
    texts = [(name, f"A person who looks {group} in a room") for name, group in zip(IDS, GROUPS, strict=True)]
    pl.DataFrame(texts, schema=["face", "text"], orient="row").write_parquet(folder / "texts.parquet")
    pl.DataFrame({"a": IDS[:20], "b": IDS[5:25], "odd": IDS[10:30], "rt": [0.4] * 20}).write_csv(folder / "trials.csv")
    (folder / "notes.csv").write_text("todo\nbuy more monitors\n")

    found = guess(folder)
    assert (found.stimuli, found.id_column, found.category_column) == (folder / "list.csv", "face", "expression")
    assert list(found.ids) == IDS
    assert found.captions == (folder / "texts.parquet", "face", "text")
    assert (found.media, found.n_media) == (folder / "images", {"images": 30})
    assert found.judgments == (folder / "trials.csv",)
    assert [path.name for path, _ in found.unknown] == ["notes.csv"]
    wide, several = sorted(found.ratings, key=lambda one: one.file.name, reverse=True)
    assert (wide.columns, wide.scale, wide.several) == (("warmth", "age"), (-3, 3), False)
    assert (several.name_column, several.score_column, several.scale) == ("emotion", "score", (0, 1))
    assert several.several

    raw = params_of(folder, tmp_path / "lake")
    assert raw["study"] == "my-faces"
    sources = raw["sources"]
    assert isinstance(sources, dict)
    by_family = {one["family"]: one for one in sources["ratings"]}
    assert by_family["traits"]["neutral"] == 0
    assert by_family["raters"]["aggregate"] == "mean"
    assert sources["media"] == "../My Faces/images"
    assert isinstance(raw["agents"], dict)
    assert list(raw["agents"]) == ["ratings-raters", "ratings-traits", "caption-tfidf", "people"]
    assert any("affectlake import people" in line for line in from_folder.summary_of(found))


def test_media_alone(tmp_path: Path) -> None:
    media(tmp_path / "clips", IDS)
    found = guess(tmp_path)
    assert (found.stimuli, list(found.ids)) == (None, IDS)
    lake = tmp_path / "lake"
    lake.mkdir()
    from_folder.write_list(found, lake)
    assert pl.read_csv(lake / from_folder.LIST)["stimulus"].to_list() == IDS


def test_a_list_of_words(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("word\n" + "\n".join(f"w{at}" for at in range(8)))
    found = guess(tmp_path)
    assert (found.id_column, found.ratings, found.captions, found.media) == ("word", (), None, None)
    assert params_of(tmp_path, tmp_path / "lake")["agents"] == {"people": {"kind": "judgments", "l1": "auto"}}


def test_ratings_in_the_list_itself(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item": [f"i{at}" for at in range(12)], "valence": np.linspace(1, 9, 12)})
    frame.write_csv(tmp_path / "items.csv")
    found = guess(tmp_path)
    assert [(one.file.name, one.id_column, one.columns, one.scale) for one in found.ratings] == [
        ("items.csv", "item", ("valence",), (1, 9))
    ]
    params_of(tmp_path, tmp_path / "lake")


@pytest.mark.parametrize("n", [3, 10, 11, 20, 2182, 40_000])
def test_any_number_of_stimuli_gives_valid_parameters(tmp_path: Path, n: int) -> None:
    pl.DataFrame({"id": [f"s{at}" for at in range(n)], "kind": ["a", "b"] * (n // 2) + ["a"] * (n % 2)}).with_columns(
        score=pl.Series(rng().random(n))
    ).write_csv(tmp_path / "stimuli.csv")
    raw = params_of(tmp_path, tmp_path / "lake")
    wanted = raw["triplets"]
    assert isinstance(wanted, dict)
    main = wanted.get("n") or 3 * n * (n - 1) // 2
    assert main <= from_folder.MOST_TRIPLETS
    assert wanted["noise_ceiling"] <= 0.1 * main + 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.rmdir(), "there is no folder"),
        (lambda _folder: None, "an empty folder"),
        (lambda folder: (folder / "a.txt").write_text("x"), r"a\.txt"),
        (lambda folder: (folder / "a.csv").write_text("x,y\n1.5,2.5\n1.5,2\n"), "lists stimuli"),
    ],
)
def test_folders_without_stimuli(tmp_path: Path, make: object, said: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    make(folder)  # type: ignore[operator]
    with pytest.raises(SourceError, match=said):
        guess(folder)


def test_judgments_without_ratings_need_no_sampled_triplets(tmp_path: Path) -> None:
    pl.DataFrame({"image": IDS}).write_csv(tmp_path / "images.csv")
    pl.DataFrame({"a": IDS[:20], "b": IDS[5:25], "odd": IDS[10:30]}).write_csv(tmp_path / "trials.csv")
    raw = params_of(tmp_path, tmp_path / "lake")
    assert raw["agents"] == {"people": {"kind": "judgments", "l1": "auto"}}
    wanted = raw["triplets"]
    assert isinstance(wanted, dict)
    assert (wanted["n"], wanted["noise_ceiling"]) == (0, 0)


def test_ids_that_are_numbers_are_not_taken_for_judgments_nor_scores_for_ids(tmp_path: Path) -> None:
    generator = rng()
    ages = generator.integers(1, 8, 40)
    rated = {f"q{at}": generator.integers(1, 8, 40) for at in range(5)}
    pl.DataFrame({"age": ages, "stimulus": range(1, 41)} | rated).write_csv(tmp_path / "ratings.csv")
    pl.DataFrame({"stimulus": range(1, 41), "file": [f"f{at}" for at in range(40)]}).write_csv(tmp_path / "list.csv")
    found = guess(tmp_path)
    assert (found.judgments, found.id_column, found.stimuli) == ((), "stimulus", tmp_path / "list.csv")
    (ratings,) = found.ratings
    assert (ratings.id_column, ratings.columns) == ("stimulus", ("age", *rated))


def test_decimal_commas_and_infinite_numbers(tmp_path: Path) -> None:
    lines = ["word;score;odd", *(f"w{at};{at / 4!s};inf" for at in range(12))]
    (tmp_path / "words.csv").write_text("\n".join(lines).replace(".", ","))
    (ratings,) = guess(tmp_path).ratings
    assert (ratings.columns, ratings.range, ratings.scale) == (("score",), (0.0, 2.75), (0.0, 3.0))


def test_each_cell_is_looked_at_once(tmp_path: Path) -> None:
    """All columns of a table are looked at once, not once for each of the others."""
    wide = {f"t{at}": rng().random(200).round(3) for at in range(300)}
    pl.DataFrame({"id": [f"s{at}" for at in range(200)]} | wide).write_csv(tmp_path / "wide.csv")
    looked: list[str] = []
    plain = guessing.clean
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guessing, "clean", lambda text: looked.append(text) or plain(text))
        assert len(guess(tmp_path).ratings[0].columns) == 300
    assert len(looked) == 301 * 200
