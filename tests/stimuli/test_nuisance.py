"""Nuisance features of planted captions and frames."""

from __future__ import annotations

import io
from typing import get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from affectlake.pipelines.params.brain import PartitionParams
from affectlake.stimuli.nuisance import NUISANCE, caption_length, frame_change, luminance


def jpeg(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=100)
    return file.getvalue()


def plain(level: int) -> NDArray[np.uint8]:
    return np.full((32, 32, 3), level, np.uint8)


def frames(*rows: tuple[int, int, NDArray[np.uint8]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(stimulus, frame, jpeg(image)) for stimulus, frame, image in rows],
        schema={"stimulus_index": pl.Int32, "frame_index": pl.Int16, "jpeg": pl.Binary},
        orient="row",
    )


def test_captions_are_counted_in_characters_and_words() -> None:
    captions = pl.DataFrame({"stimulus_index": [0, 0, 2], "caption": ["a dog", "two big dogs", "süß"]})
    found = caption_length(captions, 3)
    assert np.array_equal(found, [[8.5, 2.5], [np.nan, np.nan], [3.0, 1.0]], equal_nan=True)


def test_luminance_is_mean_luma_and_its_spread_within_frames() -> None:
    halves = plain(0)
    halves[:16] = 200
    green = np.zeros((32, 32, 3), np.uint8)
    green[..., 1] = 255
    found = luminance(frames((0, 0, plain(100)), (0, 1, plain(50)), (1, 0, halves), (3, 0, green)), 4)
    assert np.allclose(found[[0, 1, 3]], [[75, 0], [100, 100], [0.587 * 255, 0]], atol=1.5)
    assert np.isnan(found[2]).all()


def test_change_is_between_frames_in_their_order() -> None:
    found = frame_change(frames((1, 2, plain(90)), (1, 0, plain(10)), (1, 1, plain(30)), (0, 0, plain(7))), 2)
    assert np.array_equal(found[0], [0, 0])
    assert np.allclose(found[1], [40, 60], atol=1)


def test_every_feature_that_a_study_can_name_is_computed() -> None:
    (named,) = (one for one in get_args(PartitionParams.model_fields["nuisance"].annotation) if get_args(one))
    assert set(get_args(named)) == set(NUISANCE)
