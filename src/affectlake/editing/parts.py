"""The parts of a latent diffusion model, from a folder in the layout of the Hugging Face hub or from a name there.

The layout is that of Stable Diffusion 1.x: the folders ``vae``, ``unet``, ``text_encoder``, ``tokenizer`` and
``scheduler``. The loop over noise levels is :mod:`affectlake.editing.inversion`; a safety checker is not loaded.
Torch, transformers and diffusers are imported when a model is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectlake.editing.schedule import Schedule, schedule_of
from affectlake.encoders.torch_models import digest, first_line, quiet, refuse_torchvision_of_another_build
from affectlake.errors import AffectlakeError, UsageError
from affectlake.extras import install

if TYPE_CHECKING:
    from torch import Tensor

OWN_AUTOENCODERS = {"PatchAutoencoder": "affectlake.editing.tiny.autoencoder"}
"""Modules of autoencoders that are not in diffusers, by the ``_class_name`` in ``vae/config.json``.

Such a class is made from the other keys of the configuration, has the weights of
``vae/diffusion_pytorch_model.safetensors``, and has the methods of AutoencoderKL:
``encode(images).latent_dist.mode()``, ``decode(latents).sample``, and a ``config`` with ``scaling_factor``,
``latent_channels`` and ``patch``, its pixels per latent along one side."""


@dataclass(frozen=True)
class Parts:
    """A loaded latent diffusion model; all weights are float32.

    Parameters
    ----------
    vae : torch.nn.Module
        Has ``encode(images).latent_dist.mode()`` and ``decode(latents).sample`` for images (n, 3, height, width) with
        values from -1 to 1.
    unet : torch.nn.Module
        Takes latents (n, channels, height, width), a noise level and tokens (n, n_positions, width); returns an object
        with ``sample`` (n, channels, height, width).
    text_encoder : torch.nn.Module
        Takes token numbers (n, n_positions), and returns an object with ``last_hidden_state``.
    tokenizer : callable
        Takes texts as a tokenizer of transformers does.
    schedule : Schedule
        Noise levels.
    scaling : float
        Factor between the autoencoder's latents and those of the UNet.
    factor : int
        Pixels per latent, along one side.
    sha256 : str
        Hash of the weights of all parts, which identifies the model regardless of its source.
    name : str
        As it was asked for.
    device : str
        Torch device of the weights.
    """

    vae: Any
    unet: Any
    text_encoder: Any
    tokenizer: Any
    schedule: Schedule
    scaling: float
    factor: int
    sha256: str
    name: str
    device: str = "cpu"

    @property
    def n_positions(self) -> int:
        """Number of tokens of a text."""
        return int(self.text_encoder.config.max_position_embeddings)

    @property
    def width(self) -> int:
        """Number of features of a token."""
        return int(self.unet.config.cross_attention_dim)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Return the token features of texts: the text encoder's last hidden states after its final LayerNorm.

        Returns
        -------
        float32 (n_texts, n_positions, width)
        """
        import torch

        numbers = self.tokenizer(
            list(texts), padding="max_length", max_length=self.n_positions, truncation=True, return_tensors="pt"
        )["input_ids"]
        with torch.inference_mode():
            states: Tensor = self.text_encoder(numbers.to(self.device)).last_hidden_state
        return states.float().clone()


def load_parts(model: str, home: Path, device: str = "cpu") -> Parts:
    """Load a latent diffusion model.

    Parameters
    ----------
    model : str
        A folder (relative to `home`) in the layout of the hub, or a name on the hub, such as
        ``stable-diffusion-v1-5/stable-diffusion-v1-5``, whose weights are downloaded.
    home : pathlib.Path
        Folder to which relative folders are relative.
    device : str
        Torch device, ``cpu`` or ``cuda``.

    Raises
    ------
    UsageError
        If a package or the model is not available, a weight is missing, torchvision was built for another torch, or the
        model does not have the shape of Stable Diffusion 1.x.
    """
    folder = home / model
    place = str(folder) if folder.is_dir() else model
    if folder.is_dir():
        _refuse_other_layouts(folder, model)
    try:
        with quiet():
            refuse_torchvision_of_another_build()
            parts = _load(place, model, device)
    except ImportError as error:
        missing = next((name for name in ("diffusers", "transformers") if find_spec(name) is None), None)
        raise UsageError(
            f"the {missing or 'diffusers'} package cannot be imported",
            wanted=f"the package, to load {model!r}",
            found="it is not installed" if missing else first_line(error),
            todo=install("editing"),
        ) from error
    except AffectlakeError:
        raise
    except Exception as error:  # these libraries raise exceptions of any type; their message is shown
        raise UsageError(
            f"the diffusion model {model!r} cannot be loaded",
            wanted="a folder in the layout of Stable Diffusion 1.x, or the name of one that can be downloaded",
            found=f"{type(error).__name__}: {first_line(error)}",
            todo="correct editing.model",
        ) from error
    _check_shapes(parts)
    return parts


FOLDERS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
"""Folders of a model; each has a configuration, all but the tokenizer and the scheduler have weights."""


def _refuse_other_layouts(folder: Path, model: str) -> None:
    absent = [name for name in FOLDERS if not (folder / name).is_dir()]
    if absent:
        raise UsageError(
            f"{model!r} does not have the layout of Stable Diffusion 1.x",
            wanted=f"the folders {', '.join(FOLDERS)}",
            found=f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing",
            todo="choose a folder that diffusers saved, or a name on the hub",
        )


def _load(place: str, model: str, device: str) -> Parts:
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import AutoTokenizer, CLIPTextModel

    vae = _autoencoder(place, model)
    unet, report = UNet2DConditionModel.from_pretrained(place, subfolder="unet", output_loading_info=True)
    _refuse_missing("unet", report, model)
    text_encoder, report = CLIPTextModel.from_pretrained(place, subfolder="text_encoder", output_loading_info=True)
    _refuse_missing("text_encoder", report, model)
    tokenizer = AutoTokenizer.from_pretrained(place, subfolder="tokenizer")
    config = DDIMScheduler.load_config(place, subfolder="scheduler")
    modules = {"vae": vae, "unet": unet, "text_encoder": text_encoder}
    joined = hashlib.sha256()
    for name, module in modules.items():
        module.to(device).float().eval().requires_grad_(False)
        joined.update(f"{name} {digest(module)}\n".encode())
    return Parts(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        schedule=schedule_of(config, model),
        scaling=float(vae.config.scaling_factor),
        factor=_factor(vae),
        sha256=joined.hexdigest(),
        name=model,
        device=device,
    )


def _autoencoder(place: str, model: str) -> Any:
    """Return AutoencoderKL, or the class of :data:`OWN_AUTOENCODERS` that ``vae/config.json`` names."""
    from diffusers import AutoencoderKL
    from safetensors.torch import load_file

    file = Path(place) / "vae" / "config.json"
    config: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    name = str(config.get("_class_name", "AutoencoderKL"))
    if name not in OWN_AUTOENCODERS:
        vae, report = AutoencoderKL.from_pretrained(place, subfolder="vae", output_loading_info=True)
        _refuse_missing("vae", report, model)
        return vae
    own = getattr(import_module(OWN_AUTOENCODERS[name]), name)
    vae = own(**{key: value for key, value in config.items() if not key.startswith("_")})
    found = vae.load_state_dict(load_file(file.with_name("diffusion_pytorch_model.safetensors")), strict=False)
    _refuse_missing("vae", {"missing_keys": found.missing_keys, "unexpected_keys": found.unexpected_keys}, model)
    return vae


_DERIVED = ("position_ids",)
"""Buffers that old files hold or lack; they are not weights."""


def _refuse_missing(part: str, report: Mapping[str, Any], model: str) -> None:
    """Raise if weights are missing or of another shape: diffusers would draw them at random, with a warning."""
    missing = [key for key in sorted(report["missing_keys"]) if not key.endswith(_DERIVED)]
    other = sorted(str(one[0] if isinstance(one, tuple) else one) for one in report.get("mismatched_keys", ()))
    for keys, what in ((missing, "lacks"), (other, "has other shapes for")):
        if keys:
            raise UsageError(
                f"the {part} of {model!r} {what} {len(keys):,} of its weights",
                found=", ".join(keys[:3]),
                todo="choose a folder or model with complete weights",
            )


def _factor(vae: Any) -> int:
    own = getattr(vae.config, "patch", None)
    return int(own) if own is not None else int(2 ** (len(vae.config.block_out_channels) - 1))


def _check_shapes(parts: Parts) -> None:
    """Raise unless the parts fit each other."""
    pairs = [
        ("latent channels", "vae", parts.vae.config.latent_channels, "unet", parts.unet.config.in_channels),
        ("channels", "unet's output", parts.unet.config.out_channels, "unet's input", parts.unet.config.in_channels),
        ("token features", "text_encoder", parts.text_encoder.config.hidden_size, "unet", parts.width),
    ]
    for what, one, own, other, theirs in pairs:
        if own != theirs:
            raise UsageError(
                f"the parts of {parts.name!r} do not have the same number of {what}",
                found=f"{one}: {own}, {other}: {theirs}",
                wanted="a model of the shape of Stable Diffusion 1.x, which is not an inpainting model",
                todo="choose another model",
            )
