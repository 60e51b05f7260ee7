"""Editing with models of the shape of Stable Diffusion 1.x whose weights are random, saved by diffusers."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from affectlake.editing.edit import EditSettings, edit_clip, edit_inverted, encode, invert_clip, n_evaluations
from affectlake.editing.inversion import denoise, relative_error, steps_up
from affectlake.editing.parts import load_parts
from affectlake.editing.schedule import schedule_of
from affectlake.editing.together import frames_together
from affectlake.errors import UsageError

pytest.importorskip("diffusers", reason="needs diffusers: pip install 'affectlake[editing]'")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

SETTINGS = EditSettings(steps=4, iterations=2, guidance=3.0, together="none", frames_at_once=2)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Save a tiny model, and return its folder."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    made = tmp_path_factory.mktemp("tiny-diffusion")
    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    ).save_pretrained(made / "vae")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    ).save_pretrained(made / "unet")
    CLIPTextModel(
        CLIPTextConfig(
            hidden_size=12,
            intermediate_size=24,
            num_attention_heads=2,
            num_hidden_layers=1,
            vocab_size=6,
            max_position_embeddings=7,
            bos_token_id=4,
            eos_token_id=5,
            pad_token_id=5,
        )
    ).save_pretrained(made / "text_encoder")
    words = {"j": 0, "o": 1, "y</w>": 2, "jo": 3, "<|startoftext|>": 4, "<|endoftext|>": 5}
    (made / "words").mkdir()
    (made / "words" / "vocab.json").write_text(json.dumps(words))
    (made / "words" / "merges.txt").write_text("#version: 0.2\nj o\n")
    CLIPTokenizer.from_pretrained(made / "words").save_pretrained(made / "tokenizer")
    PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
        skip_prk_steps=True,
    ).save_pretrained(made / "scheduler")
    return made


@pytest.fixture(scope="session")
def parts(folder):
    """Return the loaded model."""
    return load_parts(str(folder), folder.parent)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tokens(parts):
    """Return the tokens of an embedding and of an edited one."""
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.randn(2, parts.n_positions, parts.width, generator=generator) * 3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_way_down_is_that_of_ddimscheduler(prediction, spacing):
    from diffusers import DDIMScheduler

    for kind in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        theirs = DDIMScheduler(
            beta_schedule=kind,
            steps_offset=1,
            set_alpha_to_one=False,
            prediction_type=prediction,
            timestep_spacing=spacing,
            clip_sample=False,
        )
        theirs.set_timesteps(9)
        schedule = schedule_of(theirs.config, "model")
        latents = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
        steps = steps_up(schedule, 9, 1.0)
        assert [s.level for s in reversed(steps)] == theirs.timesteps.tolist()
        wanted = latents
        for level in theirs.timesteps:
            wanted = theirs.step(torch.sin(wanted), level, wanted).prev_sample
        found = denoise(latents, lambda x, _: torch.sin(x), schedule, steps)
        # theirs are float32, whose first levels of the cosine schedule are near 0
        assert relative_error(found, wanted) < (1e-3 if kind == "squaredcos_cap_v2" else 1e-5)


def test_one_step_down_is_that_of_ddimscheduler():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(clip_sample=False)
    theirs.set_timesteps(50)
    latents = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    for step in schedule_of(theirs.config, "model").steps(50):
        wanted = theirs.step(torch.sin(latents), step.level, latents).prev_sample
        assert relative_error(step.down(latents, torch.sin(latents)), wanted) < 1e-6


def test_the_parts_of_a_folder_are_loaded_as_they_were_saved(parts, folder):
    from transformers import CLIPTextModel

    from affectlake.encoders.torch_models import digest

    assert (parts.n_positions, parts.width, parts.factor) == (7, 12, 2)
    assert parts.schedule.clean == parts.schedule.alphas[0] and parts.schedule.offset == 1
    assert digest(parts.text_encoder) == digest(CLIPTextModel.from_pretrained(folder / "text_encoder"))
    two = parts.tokens(["joy", ""])
    assert two.shape == (2, 7, 12) and not torch.equal(two[0], two[1])
    assert load_parts(folder.name, folder.parent).sha256 == parts.sha256


def test_the_round_trip_is_exact_at_50_steps_and_8_iterations(parts, frames, tokens):
    settings = replace(SETTINGS, steps=50, tolerance=0.0)
    with torch.inference_mode():
        unit = replace(parts, scaling=parts.scaling / float(encode(frames[:1], parts).square().mean().sqrt()))
    errors = [invert_clip(frames[:1], tokens[0], unit, replace(settings, iterations=n)).roundtrip_error for n in (0, 8)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3


@pytest.mark.parametrize("together", ["none", "first", "first-and-previous"])
def test_a_null_edit_at_guidance_1_is_the_round_trip(parts, frames, tokens, together):
    settings = replace(SETTINGS, guidance=1.0, together=together)
    edited = edit_clip(frames, tokens[0], tokens[0], parts, settings)
    assert edited.psnr_inside_db == edited.source.roundtrip_psnr_db
    assert edited.psnr_outside_db is None


def test_unchanged_tokens_are_the_null_edit_and_other_tokens_are_not(parts, frames, tokens):
    source = invert_clip(frames, tokens[0], parts, SETTINGS)
    null, again, edited = (edit_inverted(source, t, parts, SETTINGS) for t in (tokens[0], tokens[0].clone(), tokens[1]))
    assert null.frames.tobytes() == again.frames.tobytes()
    assert (null.frames != edited.frames).any()


def test_a_frame_depends_neither_on_the_batch_nor_on_the_order(parts, frames, tokens):
    def edited(some, at_once):
        return edit_clip(some, *tokens, parts, replace(SETTINGS, frames_at_once=at_once)).frames.astype(int)

    wanted = edited(frames, 3)
    assert np.abs(edited(frames, 1) - wanted).max() <= 1
    assert np.abs(edited(frames[::-1].copy(), 2)[::-1] - wanted).max() <= 1


def test_frames_together_change_the_network_and_leave_it_as_it_was(parts):
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    tokens = torch.zeros(3, 7, 12)

    def found(some):
        with torch.inference_mode():
            return parts.unet(some, 10, encoder_hidden_states=tokens[: len(some)]).sample

    alone = found(latents)
    with frames_together(parts.unet, "first-and-previous"):
        tied = found(latents)
        same = found(latents[:1].expand(3, -1, -1, -1))
    torch.testing.assert_close(tied[0], alone[0])  # it reads itself three times, which weighs nothing differently
    assert (tied[1:] - alone[1:]).abs().max() > 1e-4
    torch.testing.assert_close(same[2], alone[0])
    torch.testing.assert_close(found(latents), alone, rtol=0, atol=0)


def test_pixels_outside_the_mask_keep_the_codec(parts, frames, tokens):
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[:, :2, :2] = True
    free = edit_clip(frames, *tokens, parts, SETTINGS)
    kept = edit_clip(frames, *tokens, parts, SETTINGS, mask)
    assert kept.psnr_outside_db > free.psnr_inside_db
    none = edit_clip(frames, *tokens, parts, SETTINGS, np.zeros_like(mask))
    assert none.psnr_inside_db is None
    assert none.psnr_outside_db == pytest.approx(none.source.codec_psnr_db, abs=0.01)


def test_lower_precision_of_the_way_down_stays_near(parts, frames, tokens):
    source = invert_clip(frames[:2], tokens[0], parts, SETTINGS)
    wanted, found = (
        edit_inverted(source, tokens[1], parts, replace(SETTINGS, dtype=dtype)) for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(wanted.frames.astype(int) - found.frames).mean() < 12


def test_evaluations_of_the_network_are_counted(parts, frames, tokens, monkeypatch):
    calls = []
    handle = parts.unet.register_forward_hook(lambda *_: calls.append(1))
    settings = replace(SETTINGS, tolerance=0.0, frames_at_once=3)
    edit_clip(frames, *tokens, parts, settings)
    handle.remove()
    assert len(calls) == n_evaluations(settings, 1) == 4 * (3 + 1 + 2)


def test_frames_and_tokens_of_other_shapes_are_refused(parts, frames, tokens):
    with pytest.raises(UsageError, match="frames do not have a shape"):
        edit_clip(frames[:, :15], *tokens, parts, SETTINGS)
    with pytest.raises(UsageError, match="tokens do not fit") as raised:
        edit_clip(frames, tokens[0][:, :8], tokens[1], parts, SETTINGS)
    assert raised.value.wanted == "7 positions of 12 features"


def _copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def _without(file, key, value=None):
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    taken = weights.pop(key)
    if value is not None:
        weights[key] = value(taken)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("part", "file", "key"),
    [
        ("unet", "diffusion_pytorch_model.safetensors", "conv_in.weight"),
        ("vae", "diffusion_pytorch_model.safetensors", "decoder.conv_in.weight"),
        ("text_encoder", "model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_a_missing_weight_is_refused(folder, tmp_path, part, file, key):
    from safetensors.torch import load_file

    made = _copy(folder, tmp_path)
    full = next(name for name in load_file(made / part / file) if name.endswith(key))
    _without(made / part / file, full)
    with pytest.raises(UsageError, match=f"the {part} of .* lacks 1 of its weights") as raised:
        load_parts("model", tmp_path)
    assert key in raised.value.found


def test_a_text_encoder_of_another_width_is_refused(folder, tmp_path):
    made = _copy(folder, tmp_path)
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig.from_pretrained(made / "text_encoder")
    config.hidden_size = 16
    CLIPTextModel(config).save_pretrained(made / "text_encoder")
    with pytest.raises(UsageError, match="same number of token features") as raised:
        load_parts("model", tmp_path)
    assert raised.value.found == "text_encoder: 16, unet: 12"


def test_a_prediction_type_is_the_models(folder, tmp_path):
    made = _copy(folder, tmp_path)
    file = made / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "prediction_type": "v_prediction"}))
    assert load_parts("model", tmp_path).schedule.prediction == "v_prediction"
    file.write_text(json.dumps({**config, "prediction_type": "sample"}))
    with pytest.raises(UsageError, match="scheduler of 'model' is not supported"):
        load_parts("model", tmp_path)


def test_a_folder_of_another_layout_is_refused(folder, tmp_path):
    made = _copy(folder, tmp_path)
    shutil.rmtree(made / "tokenizer")
    with pytest.raises(UsageError, match="layout of Stable Diffusion") as raised:
        load_parts("model", tmp_path)
    assert raised.value.found == "tokenizer is missing"


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setattr("affectlake.editing.parts.find_spec", lambda name: None if name == "diffusers" else 1)
    with pytest.raises(UsageError, match="the diffusers package cannot be imported") as raised:
        load_parts(str(folder), folder.parent)
    assert raised.value.todo == "pip install 'affectlake[editing]'"
