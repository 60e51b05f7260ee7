"""Mistakes in families of ratings: one message for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from affectlake.errors import UsageError
from affectlake.pipelines.params import from_folder
from affectlake.pipelines.params.study import parse
from affectlake.stimuli.guessing import guess

Raw = dict[str, Any]


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    """Parameters of a study with two families of ratings."""
    ids = [f"s{at}" for at in range(20)]
    pl.DataFrame({"id": ids}).write_csv(tmp_path / "stimuli.csv")
    pl.DataFrame({"id": ids, "warm": [1, 5] * 10}).write_csv(tmp_path / "traits.csv")
    pl.DataFrame({"id": ids, "joy": [0.5, 1] * 10}).write_csv(tmp_path / "moods.csv")
    found: Raw = yaml.safe_load(from_folder.params_from(guess(tmp_path), tmp_path / "lake"))
    assert [one["family"] for one in found["sources"]["ratings"]] == ["moods", "traits"]
    return found


def changed(raw: Raw, path: str, value: object) -> str:
    *folders, last = path.split(".")
    place: Any = raw
    for word in folders:
        place = place[int(word)] if word.isdigit() else place[word]
    place[last] = value
    return yaml.safe_dump(raw, sort_keys=False)


MISTAKES: dict[str, tuple[str, object, str]] = {
    "a scale from high to low": ("sources.ratings.0.scale", [1, 0], r"sources.ratings\[0\].scale is empty: 1 to 0"),
    "one end of a scale": ("sources.ratings.0.scale", [1], r"sources.ratings\[0\].scale"),
    "a neutral score outside": ("sources.ratings.1.neutral", 6, r"ratings\[1\].neutral 6 is outside the scale"),
    "a family named like its column": ("sources.ratings.0.family", "id", "'id' is a column of the file"),
    "a family named like all": ("sources.ratings.0.family", "concatenated", "'concatenated' stands for all families"),
    "two scales of one family": ("sources.ratings.1.family", "moods", r"ratings\[1\].scale is not that of the other"),
    "names without scores": ("sources.ratings.0.name_column", "what", r"ratings\[0\].score_column is missing beside"),
    "an agent of no family": ("agents.ratings-moods.ratings", "mood", r"no 'mood' ratings[\s\S]*moods, traits, conc"),
    "an agent of a list": ("agents.ratings-moods.ratings", ["moods", "trait"], "no 'trait' ratings"),
    "a scaling of no family": ("agents.ratings-moods.scaling", {"dimension": "raw"}, "no 'dimension' ratings"),
    "both numbers of triplets": ("triplets.n", 100, r"triplets.per_dyad has no effect"),
    "no number of triplets": ("triplets.per_dyad", None, "triplets.per_dyad is missing, and so is triplets.n"),
    "a key of the emotion study": ("sources.videos", "media", r"sources.videos is not a known key[\s\S]*media"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(raw: Raw, name: str) -> None:
    path, value, said = MISTAKES[name]
    with pytest.raises(UsageError, match=said):
        parse(changed(raw, path, value))


def test_two_families_of_categories(raw: Raw) -> None:
    changed(raw, "sources.ratings.0.are_categories", True)
    with pytest.raises(UsageError, match="several families of categories: moods, traits"):
        parse(changed(raw, "sources.ratings.1.are_categories", True))


def test_no_triplets_leave_none_to_repeat(raw: Raw) -> None:
    del raw["triplets"]["per_dyad"]
    with pytest.raises(UsageError, match=r"noise_ceiling[\s\S]*set triplets.noise_ceiling: 0"):
        parse(changed(raw, "triplets.n", 0))
    raw["triplets"]["noise_ceiling"] = 0
    assert parse(yaml.safe_dump(raw)).triplets.n == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: changed(raw, "agents.ratings-moods.ratings", "concatenated"),
        lambda raw: changed(raw, "agents.ratings-moods.ratings", ["traits", "moods"]),
        lambda raw: changed(raw, "agents.ratings-moods.scaling", {"moods": "centred"}),
        lambda raw: changed(raw, "sources.ratings.0.scale", [0, 1.5]),
        lambda raw: changed(raw, "wording", {"title": "How do objects differ?", "families": {"moods": "felt moods"}}),
    ],
)
def test_what_is_allowed(raw: Raw, change: Callable[[Raw], str]) -> None:
    parse(change(raw))
