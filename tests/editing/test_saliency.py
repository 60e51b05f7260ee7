"""Grad-CAM with planted truth: a tiny network trained on scenes, completeness, finite differences, captum, layers."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from affectlake.editing.localising import deletion, points_at
from affectlake.editing.saliency import gradient_maps, pooled_maps
from affectlake.encoders.layers import feature_layer
from affectlake.encoders.taps import Tap
from affectlake.encoders.vision import VisionModel, load_vision_model
from affectlake.errors import UsageError
from tests.judge.test_vision import clip, resnet, vision, vit

SIDE = 32


class Pooled(nn.Module):
    """A CNN whose features are the mean of its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(inplace=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean(dim=(2, 3))


def scenes(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float64]]:
    """Grey pictures with a red or a green square, each or none, and always a white one; masks of both; presence."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(90, 130, (n, SIDE, SIDE, 3)).astype(np.uint8)
    masks, there = np.zeros((n, 2, SIDE, SIDE), bool), rng.integers(0, 2, (n, 2)).astype(np.float64)
    for at in range(n):
        places = rng.permutation(9)[:3]
        for what, colour in enumerate(((210, 30, 30), (30, 200, 40), (240, 240, 240))):
            y, x = 10 * (places[what] // 3) + 2, 10 * (places[what] % 3) + 2
            if what == 2 or there[at, what]:
                pictures[at, y : y + 7, x : x + 7] = colour
                if what < 2:
                    masks[at, what, y : y + 7, x : x + 7] = True
    return pictures, masks, there


def tensors(pictures: NDArray[np.uint8]) -> torch.Tensor:
    return torch.tensor(pictures.transpose(0, 3, 1, 2) / 255.0, dtype=torch.float32)


@pytest.fixture(scope="module")
def trained() -> tuple[Pooled, torch.Tensor]:
    """A network and its readouts of red and green, trained in seconds."""
    torch.manual_seed(0)
    net, readout = Pooled(), nn.Linear(16, 2)
    pictures, _, there = scenes(512, 1)
    x, y = tensors(pictures), torch.tensor(there, dtype=torch.float32)
    optimiser = torch.optim.Adam([*net.parameters(), *readout.parameters()], 0.01)
    for step in range(240):
        part = slice(64 * (step % 8), 64 * (step % 8) + 64)
        optimiser.zero_grad()
        nn.functional.mse_loss(readout(20 * net(x[part])), y[part]).backward()
        optimiser.step()
    return net.requires_grad_(False).eval(), 20 * readout.weight.detach()


def maps_of(net: Pooled, pictures: NDArray[np.uint8], weights: torch.Tensor) -> NDArray[np.float32]:
    with Tap(net.body[3]) as tap:
        return gradient_maps(lambda x: tap(net, x), lambda a: a, tensors(pictures), weights)[0].numpy()


def hits(maps: NDArray[np.floating], masks: NDArray[np.bool_]) -> float:
    shown = [at for at in range(len(masks)) if masks[at].any()]
    return float(np.mean([points_at(maps[at], masks[at], 2.0) for at in shown]))


def test_the_map_points_at_the_object_that_drives_the_readout(trained: tuple[Pooled, torch.Tensor]) -> None:
    net, weights = trained
    pictures, masks, _ = scenes(120, 2)
    maps = maps_of(net, pictures, weights)
    for own, other in ((0, 1), (1, 0)):
        assert hits(maps[:, own], masks[:, own]) >= 0.75
        assert hits(maps[:, other], masks[:, own]) <= 0.25
    trained_hits = np.mean([hits(maps[:, at], masks[:, at]) for at in (0, 1)])
    torch.manual_seed(5)
    for _ in range(20):  # above all of 20 networks with permuted weights: p = 1/21
        permuted = Pooled().requires_grad_(False)
        for mine, its in zip(permuted.parameters(), net.parameters(), strict=True):
            mine.copy_(its.flatten()[torch.randperm(its.numel())].reshape(its.shape))
        random = maps_of(permuted, pictures, weights[:, torch.randperm(16)])
        assert np.mean([hits(random[:, at], masks[:, at]) for at in (0, 1)]) < trained_hits


def test_deleting_the_peak_lowers_the_value_faster_than_random_patches(trained: tuple[Pooled, torch.Tensor]) -> None:
    net, weights = trained
    pictures, _, there = scenes(40, 3)
    maps, rng, areas = maps_of(net, pictures, weights), np.random.default_rng(0), []

    def score(shown: NDArray[np.uint8]) -> NDArray[np.floating]:
        return (net(tensors(shown)) @ weights[0]).numpy()

    for at in np.flatnonzero(there[:, 0]):
        orders = np.argsort(-maps[at, 0].ravel()), rng.permutation(64)
        curves = [deletion(score, pictures[at], order, (8, 8)) for order in orders]
        areas.append([np.mean((curve - curve[-1]) / (curve[0] - curve[-1])) for curve in curves])
    by_map, by_chance = np.median(areas, axis=0)
    assert by_map < 0.25
    assert by_chance > 0.35


def test_maps_are_complete_and_equal_to_the_closed_form_and_do_not_depend_on_others(
    trained: tuple[Pooled, torch.Tensor],
) -> None:
    net, weights = trained
    x = tensors(scenes(6, 4)[0])
    with Tap(net.body[3]) as tap:
        maps, features = gradient_maps(lambda one: tap(net, one), lambda a: a, x, weights)
        closed, _ = pooled_maps(lambda one: tap(net, one), lambda a: a, x, weights)
        alone, _ = gradient_maps(lambda one: tap(net, one), lambda a: a, x[2:3], weights[1:])
    assert not net.body[3]._forward_hooks
    torch.testing.assert_close(maps.sum(dim=(2, 3)), features @ weights.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(maps, closed, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps[2:3, 1:], alone, rtol=1e-5, atol=1e-6)
    opposite = maps_of(net, scenes(6, 4)[0], -weights)  # maps are not rectified
    np.testing.assert_allclose(opposite, -maps.numpy(), atol=1e-6)


def test_maps_equal_those_of_captum(trained: tuple[Pooled, torch.Tensor]) -> None:
    captum = pytest.importorskip("captum.attr")
    net, weights = trained
    x = tensors(scenes(3, 5)[0])

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, one: torch.Tensor) -> torch.Tensor:
            return self.net(one) @ weights.T

    expected = captum.LayerGradCam(Scored(), net.body[3]).attribute(x.requires_grad_(True), target=1)
    with Tap(net.body[3]) as tap:
        maps, _ = gradient_maps(lambda one: tap(net, one), lambda a: a, x.detach(), weights)
    torch.testing.assert_close(maps[:, 1], expected[:, 0].detach(), rtol=1e-5, atol=1e-6)


def loaded(make: Callable[[Path], Path], folder: Path) -> VisionModel:
    torch.manual_seed(0)
    return load_vision_model(vision("transformers", make(folder)), Path())


def test_the_gradient_at_a_vit_s_patches_equals_finite_differences(tmp_path: Path) -> None:
    model = loaded(clip, tmp_path / "clip")
    layer = feature_layer(model)
    assert layer.name == "vision_model.encoder.layers.1.layer_norm1"
    assert (layer.height, layer.width, layer.n_before, layer.is_pooled) == (4, 4, 1, False)
    net = model.network.double()
    x, w = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64), torch.rand(1, 16, dtype=torch.float64)

    def forward(one: torch.Tensor) -> torch.Tensor:
        return net.get_image_features(pixel_values=one).pooler_output

    with Tap(layer.module, layer.call) as tap:
        features, output = tap(forward, x)
        maps, _ = gradient_maps(lambda one: tap(forward, one), layer.grid, x, w)
    change, step = torch.randn_like(output), 1e-6
    handle = layer.module.register_forward_hook(lambda _m, _i, out: out + step * change)
    with torch.no_grad():
        moved = forward(x)
    handle.remove()
    (gradient,) = torch.autograd.grad((features @ w[0]).sum(), output)
    slope = float(((moved - features.detach()) @ w[0]).sum()) / step
    assert slope == pytest.approx(float((gradient * change).sum()), rel=1e-5)
    tokens, slopes = output.detach()[0, 1:], gradient[0, 1:]  # without the class token
    expected = (tokens @ slopes.mean(dim=0)).reshape(4, 4)
    torch.testing.assert_close(maps[0, 0], expected)


@pytest.mark.parametrize(
    ("make", "name", "pooled"),
    [(resnet, "encoder.stages.1", True), (vit, "layers.1.layernorm_before", False)],
)
def test_the_layer_of_each_architecture(make: Any, name: str, pooled: bool, tmp_path: Path) -> None:
    layer = feature_layer(loaded(make, tmp_path / "model"))
    assert layer.name.removeprefix("encoder.").startswith(name.removeprefix("encoder.")), layer.name
    assert layer.is_pooled == pooled and layer.height == layer.width > 1


def test_a_layer_without_gradient_or_map_is_refused(tmp_path: Path) -> None:
    model = loaded(clip, tmp_path / "clip")
    with pytest.raises(UsageError, match="every map would be zero"):
        feature_layer(model, "vision_model.encoder.layers.1")
    with pytest.raises(UsageError, match="every map would be zero"):
        feature_layer(model, "vision_model.encoder.layers.1.layer_norm2")
    with pytest.raises(UsageError, match=r"has no layer 'vision_model\.encoder\.layer\.1'"):
        feature_layer(model, "vision_model.encoder.layer.1")
    with pytest.raises(UsageError, match="has no map of the picture"):
        feature_layer(model, "visual_projection")
    assert feature_layer(model, "vision_model.encoder.layers.0.layer_norm1").height == 4


def test_a_broken_torchvision_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Broken(types.ModuleType):
        __file__ = "broken"

    monkeypatch.setattr("affectlake.encoders.torch_models.find_spec", lambda _name: object())
    import builtins

    real = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *args, **kwargs)

    folder = clip(tmp_path / "clip")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(UsageError, match="built for another version of torch") as error:
        load_vision_model(vision("transformers", folder), Path())
    assert "pip uninstall torchvision" in str(error.value)
