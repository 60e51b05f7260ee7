"""Labels of recordings: a number that is part of a name is not the name of a stimulus."""

from __future__ import annotations

import numpy as np
import pytest

from affectlake.brain.recordings.labels import StimulusLabels
from affectlake.brain.recordings.subjects import Recording, align
from affectlake.errors import SourceError

IDS = [f"{number:04d}.mp4" for number in range(1, 21)]


def recording(labels: list[str], others: tuple[str, ...] = ()) -> Recording:
    n = len(labels)
    voxels = np.stack([np.arange(3), np.zeros(3), np.zeros(3)], axis=1).astype(np.int32)
    patterns = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    return Recording(patterns, labels, None, voxels, voxels.astype(np.float32), {}, others=others)


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("0012.mp4", 11), ("12", 11), ("0012", 11), ("12.0", 11), ("12.avi", 11), ("stimuli/0012.mp4", 11),
        ("0012__001", None), ("0012_rep2", None), ("rest3", None), ("run-2", None), ("12.5", None), ("1e1", None),
        ("0012.mp4 (2)", None), ("-3", None), ("99", None), ("", None), ("n/a", None),
    ],
)  # fmt: skip
def test_only_a_label_that_is_a_number_is_matched_by_its_number(label: str, index: int | None) -> None:
    assert StimulusLabels(IDS).index_of(label) == index


def test_names_are_matched_with_and_without_their_extension_unless_two_stimuli_have_them() -> None:
    stimuli = StimulusLabels(["cat.mp4", "dog.mp4", "dog.avi", "7.mp4", "07.avi"])
    assert [stimuli.index_of(label) for label in ("cat", "cat.mov", "dog", "dog.avi", "7", "07.avi", "007")] == [
        0, 0, None, 2, 3, 4, None,
    ]  # fmt: skip


def test_rest_is_not_averaged_into_stimuli_and_is_counted() -> None:
    labels = [*IDS[:3], *(f"rest{number}" for number in range(1, 21)), "0002_rep2"]
    found = align(recording(labels, ("button",)), IDS)
    assert found.stimulus_index.tolist() == [0, 1, 2]
    assert found.n_presentations.tolist() == [1, 1, 1]
    assert found.patterns[:, 0].tolist() == [0, 3, 6]
    assert len(found.unknown) == 22
    assert "22 labels of other stimuli ignored ('rest1', 'rest2', 'rest3', …)" in found.account("s1")


def test_labels_that_only_contain_numbers_are_refused() -> None:
    with pytest.raises(SourceError, match="no label of the recording is a stimulus"):
        align(recording([f"rest{number}" for number in range(1, 21)]), IDS)


def test_files_of_one_name_in_two_folders_are_not_averaged() -> None:
    assert align(recording(["a/0001.mp4", "a/0001.mp4"]), IDS).n_presentations.tolist() == [2]
    with pytest.raises(SourceError, match="the same stimulus by their file name, but not by their folder"):
        align(recording(["a/0001.mp4", "b/0001.mp4"]), IDS)
