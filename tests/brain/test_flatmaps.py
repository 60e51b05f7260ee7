"""Flat maps on a subject's own cortex: a made-up one of two half-spheres, drawn by pycortex where it is there."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectlake.brain.recordings.volumes import write_map
from affectlake.errors import LakeError, SourceError
from affectlake.pipelines.outputs.flatmaps import draw_flatmap
from affectlake.pipelines.params.brain import PycortexSurfaces

RINGS, SPOKES = 24, 48
CENTRES = {"lh": -40.0, "rh": 40.0}


def mesh(side: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The outward half of a sphere, cut open along its rim, and the disc that it flattens to."""
    ring, spoke = np.meshgrid(np.arange(1, RINGS + 1) / RINGS, np.arange(SPOKES) * 2 * np.pi / SPOKES, indexing="ij")
    tilt, turn = np.append(0.0, ring.ravel() * np.pi / 2), np.append(0.0, spoke.ravel())
    outward = np.cos(tilt) * np.sign(CENTRES[side])
    unit = np.column_stack([outward, np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn)])
    flat = np.column_stack([tilt * np.cos(turn), tilt * np.sin(turn), np.zeros(len(tilt))]) * 40
    centre = np.array([CENTRES[side], 0.0, 0.0])
    at = 1 + np.arange(RINGS * SPOKES).reshape(RINGS, SPOKES)
    after = np.roll(at, -1, axis=1)
    cap = np.column_stack([np.zeros(SPOKES, int), at[0], after[0]])
    first = np.column_stack([at[:-1].ravel(), at[1:].ravel(), after[1:].ravel()])
    second = np.column_stack([at[:-1].ravel(), after[1:].ravel(), after[:-1].ravel()])
    places = {"wm": centre + 30 * unit, "pia": centre + 33 * unit, "inflated": centre + 40 * unit, "flat": flat}
    return places, np.vstack([cap, first, second]).astype(np.int32)


def make_subject(store: Path, name: str, skip: str = "") -> None:
    """Write the surfaces as pycortex keeps them."""
    import nibabel as nib

    folder = store / name / "surfaces"
    for part in ("surfaces", "transforms", "anatomicals", "cache", "surface-info", "views"):
        (store / name / part).mkdir(parents=True)
    for side in CENTRES:
        places, faces = mesh(side)
        for kind, points in places.items():
            if kind != skip:
                arrays = [
                    nib.gifti.GiftiDataArray(points.astype(np.float32), "NIFTI_INTENT_POINTSET"),
                    nib.gifti.GiftiDataArray(faces, "NIFTI_INTENT_TRIANGLE"),
                ]
                nib.save(nib.gifti.GiftiImage(darrays=arrays), folder / f"{kind}_{side}.gii")


def image(folder: Path) -> Path:
    """A map that is 1 on the right and -1 on the left."""
    voxels = np.argwhere(np.ones((50, 25, 25)))
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-98, -48, -48]
    path = folder / "map.nii.gz"
    write_map(np.sign(voxels @ affine[:3, :3].T + affine[:3, 3])[:, 0], voxels, affine, path)
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    pytest.importorskip("nibabel")
    try:
        import cortex  # noqa: F401
    except ImportError:
        pytest.skip("needs pycortex: pip install pycortex")
    make_subject(tmp_path / "store", "M")
    return tmp_path / "store"


pycortex_warns = pytest.mark.filterwarnings("default")


@pycortex_warns
def test_a_flat_map_has_each_hemisphere_on_its_side(store: Path, tmp_path: Path) -> None:
    from PIL import Image

    (path,) = draw_flatmap(image(tmp_path), PycortexSurfaces(subject="M", filestore="store"), tmp_path)
    assert path.name == "map_flat.png"
    with Image.open(path) as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    middle = pixels[height // 3 : height // 2]
    left, right = middle[:, width // 8 : width * 3 // 8], middle[:, width * 5 // 8 : width * 7 // 8]
    assert np.median(left[..., 2] - left[..., 0]) > 30  # blue
    assert np.median(right[..., 0] - right[..., 2]) > 30  # red


@pycortex_warns
def test_a_transform_takes_the_cortex_to_the_images(store: Path, tmp_path: Path) -> None:
    import cortex

    made = image(tmp_path)
    import nibabel as nib

    moved = nib.load(made)
    affine = moved.affine.copy()
    affine[0, 3] += 500  # the images' mm are elsewhere: only the voxels' numbers lead there
    nib.save(nib.Nifti1Image(np.asarray(moved.dataobj), affine), made)
    wanted = PycortexSurfaces(subject="M", filestore="store")
    with pytest.raises(SourceError, match="no vertex of the cortex"):
        draw_flatmap(made, wanted, tmp_path)
    cortex.db.filestore = str(store)
    cortex.db.reload_subjects()
    to_voxels = np.linalg.inv(np.array([[4.0, 0, 0, -98], [0, 4, 0, -48], [0, 0, 4, -48], [0, 0, 0, 1]]))
    cortex.db.save_xfm("M", "task", to_voxels, xfmtype="coord", reference=str(made))
    assert draw_flatmap(made, wanted.model_copy(update={"transform": "task"}), tmp_path)[0].stat().st_size > 5000
    with pytest.raises(SourceError, match="no transform 'rest'") as caught:
        draw_flatmap(made, wanted.model_copy(update={"transform": "rest"}), tmp_path)
    assert caught.value.allowed == "task"


@pycortex_warns
def test_what_is_not_there_is_named(store: Path, tmp_path: Path) -> None:
    made = image(tmp_path)
    with pytest.raises(SourceError, match="has no subject 'N'") as caught:
        draw_flatmap(made, PycortexSurfaces(subject="N", filestore="store"), tmp_path)
    assert caught.value.allowed == "M"
    make_subject(store, "uncut", skip="flat")
    with pytest.raises(SourceError, match="lacks surfaces") as caught:
        draw_flatmap(made, PycortexSurfaces(subject="uncut", filestore="store"), tmp_path)
    assert caught.value.wanted == "flat" and "pia" in caught.value.found
    with pytest.raises(SourceError, match="no pycortex filestore"):
        draw_flatmap(made, PycortexSurfaces(subject="M", filestore="nowhere"), tmp_path)


def test_without_pycortex_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "cortex":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LakeError, match="drawn by pycortex") as caught:
        draw_flatmap(tmp_path / "map.nii.gz", PycortexSurfaces(subject="M"), tmp_path)
    assert caught.value.todo == "pip install pycortex"
