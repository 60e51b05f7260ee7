"""Inversion and the way down, on a small network of plain torch."""

import numpy as np
import pytest
import torch

from affectlake.editing.inversion import denoise, guided, invert, relative_error, steps_up
from affectlake.editing.masks import keep_outside, mask_of_map, resize_mask
from affectlake.editing.measures import flicker_ratio, psnr_db
from affectlake.editing.schedule import Schedule, schedule_of
from affectlake.editing.together import across
from affectlake.errors import SourceError, UsageError

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def network(latents, level):
    """Return a prediction that depends on the latents in a nonlinear way, of about unit size."""
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(4, 4, generator=generator)
    return torch.tanh(torch.einsum("nchw,dc->ndhw", latents, mixing) + level / 1000)


@pytest.fixture(scope="module")
def latents():
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_way_down_undoes_a_converged_inversion_and_not_a_plain_one(latents, prediction):
    schedule = schedule_of({**STABLE_DIFFUSION, "prediction_type": prediction}, "model")
    errors = []
    for iterations in (0, 1, 2, 4, 8):
        found = invert(latents, network, schedule, steps_up(schedule, 50, 1.0), iterations, tolerance=0)
        errors.append(relative_error(denoise(found.noisy, network, schedule, found.steps), latents))
        assert found.n_calls == 50 * (iterations + 1)
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.03 and errors[-1] < 1e-3


def test_iterations_end_when_the_residual_is_below_the_tolerance(latents):
    schedule = schedule_of(STABLE_DIFFUSION, "model")
    found = invert(latents, network, schedule, steps_up(schedule, 50, 1.0), 100, tolerance=1e-4)
    assert found.residual < 1e-4 and found.n_calls < 50 * 30


def test_a_depth_inverts_the_lowest_steps():
    schedule = schedule_of(STABLE_DIFFUSION, "model")
    assert [s.level for s in steps_up(schedule, 10, 0.4)] == [1, 101, 201, 301]


def test_latents_that_diverge_are_refused(latents):
    schedule = schedule_of(STABLE_DIFFUSION, "model")
    with pytest.raises(SourceError, match="did not converge"):
        invert(latents, lambda x, _: x * torch.inf, schedule, steps_up(schedule, 5, 1.0))


def test_guidance_extrapolates_from_the_unconditioned_prediction(latents):
    one, other = (lambda x, _: x + 1), (lambda x, _: x)
    assert guided(one, other, 1) is one
    torch.testing.assert_close(guided(one, other, 3)(latents, 0), latents + 3)


def test_a_schedule_is_that_of_its_betas():
    schedule = schedule_of({"trained_betas": [0.1, 0.2, 0.5], "set_alpha_to_one": False}, "model")
    np.testing.assert_allclose(schedule.alphas, [0.9, 0.72, 0.36])
    assert [(s.level, s.lower) for s in schedule.steps(3)] == [(2, schedule.alphas[1]), (1, 0.9), (0, 0.9)]


@pytest.mark.parametrize(
    ("key", "value"),
    [("prediction_type", "sample"), ("timestep_spacing", "other"), ("rescale_betas_zero_snr", True)],
)
def test_schedules_of_other_kinds_are_refused(key, value):
    with pytest.raises(UsageError, match="not supported") as raised:
        schedule_of({key: value}, "model")
    assert key in raised.value.found


def test_more_steps_than_levels_are_refused():
    with pytest.raises(UsageError, match="number of steps"):
        Schedule(np.linspace(0.9, 0.1, 10)).steps(11)


def test_latents_outside_the_mask_end_where_they_began(latents):
    schedule = schedule_of(STABLE_DIFFUSION, "model")
    found = invert(latents, network, schedule, steps_up(schedule, 10, 1.0))
    mask = np.zeros((3, 5, 5), dtype=bool)
    mask[:, 1:3, 2:4] = True
    edited = denoise(found.noisy, lambda x, _: -x, schedule, found.steps, keep_outside(found.path, mask))
    inside = torch.from_numpy(mask)[:, None].expand_as(latents)
    assert torch.equal(edited[~inside], latents[~inside])
    assert (edited[inside] - latents[inside]).abs().min() > 0
    with pytest.raises(UsageError, match="mask does not fit"):
        keep_outside(found.path, mask[:1])


def test_a_mask_holds_the_share_of_the_positive_mass():
    maps = np.array([[[4.0, 1.0], [-9.0, 3.0]], [[0.0, -1.0], [0.0, 0.0]]])
    assert mask_of_map(maps, 0.5)[0].tolist() == [[True, False], [False, False]]
    assert mask_of_map(maps, 0.6)[0].tolist() == [[True, False], [False, True]]
    assert mask_of_map(maps, 1.0)[0].tolist() == [[True, True], [False, True]]
    assert not mask_of_map(maps, 1.0)[1].any()
    with pytest.raises(UsageError, match="share"):
        mask_of_map(maps, 0)


def test_a_cell_of_a_resized_mask_is_inside_if_any_part_is():
    mask = np.zeros((1, 7, 7), dtype=bool)
    mask[0, 3, 6] = True
    assert np.argwhere(resize_mask(mask, 14, 14)[0]).tolist() == [[6, 12], [6, 13], [7, 12], [7, 13]]
    assert np.argwhere(resize_mask(mask, 2, 2)[0]).tolist() == [[0, 1], [1, 1]]


def test_psnr_and_flicker_of_planted_differences():
    before = np.zeros((3, 2, 2, 3), dtype=np.uint8)
    before[1] = 10
    after = before + np.uint8(5)
    after[1] = 30
    where = np.zeros((3, 2, 2), dtype=bool)
    where[0] = True
    assert psnr_db(before, after, where) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr_db(before, before) == np.inf
    assert psnr_db(before, after, np.zeros_like(where)) is None
    assert flicker_ratio(before, after) == pytest.approx(2.5)
    assert flicker_ratio(before[:1], after[:1]) is None and flicker_ratio(before[::2], after[::2]) is None
    with pytest.raises(UsageError, match="same shape"):
        psnr_db(before, after[:2])


def test_frames_read_the_first_frame_and_the_one_before():
    states = torch.arange(3.0).view(3, 1, 1)
    assert across(states, "none").flatten(1).tolist() == [[0], [1], [2]]
    assert across(states, "first").flatten(1).tolist() == [[0, 0], [1, 0], [2, 0]]
    assert across(states, "first-and-previous").flatten(1).tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 1]]
