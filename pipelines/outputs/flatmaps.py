"""Brain maps on a subject's own flattened cortex, drawn with pycortex from the subject's surfaces."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import LakeError, SourceError, nearest
from affectlake.pipelines.outputs.surfaces import sample
from affectlake.pipelines.params.brain import PycortexSurfaces

Array = NDArray[np.floating]


class Cortex(NamedTuple):
    """A subject's cortex, both hemispheres together: white and pial vertices, float64 (n, 3), in the images' mm."""

    white: Array
    pial: Array


def draw_flatmap(
    image: Path, surfaces: PycortexSurfaces, lake: Path, brain: Path | None = None, shown: str = ""
) -> list[Path]:
    """Write ``NAME_flat.png`` beside a map and return its path.

    :func:`affectlake.pipelines.outputs.surfaces.sample` defines the value of a vertex.

    Parameters
    ----------
    image : Path
        ``NAME.nii.gz``, NaN for voxels without a value.
    surfaces : PycortexSurfaces
        The cortex, from ``brain.surfaces`` in ``params.yaml``.
    lake : Path
        Root of the lake, to which `filestore` is relative.
    brain : Path, optional
        Image on the same grid that is not masked (see :func:`affectlake.pipelines.outputs.surfaces.sample`).
    shown : str, optional
        Which voxels the map has, written above the picture.

    Returns
    -------
    list of Path
        The path of the image.

    Raises
    ------
    LakeError
        If pycortex is not installed.
    SourceError
        If the filestore lacks the subject, its flat surfaces or the transform.

    Notes
    -----
    pycortex caches its computations about a subject in the filestore, which must be writable.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from pycortex and its dependencies, not about the map
        cortex = _cortex(surfaces, lake)
        vertices = _vertices(cortex, surfaces, image)
        values = sample(image, *vertices, brain)
        if np.isnan(values).all() and (brain is None or np.isnan(sample(brain, *vertices)).all()):
            raise SourceError(
                f"no vertex of the cortex of {surfaces.subject!r} is near a voxel of {image.name}",
                wanted="surfaces in the images' space",
                todo="set `transform` in brain.surfaces to the transform from this cortex to the images",
            )
        return [_drawn(cortex, surfaces.subject, values, image, shown)]


def _cortex(surfaces: PycortexSurfaces, lake: Path) -> Any:
    try:
        import cortex
    except ImportError as error:
        raise LakeError("flat maps are drawn by pycortex", todo="pip install pycortex") from error
    if surfaces.filestore:
        store = lake / surfaces.filestore
        if not store.is_dir():
            raise SourceError(f"there is no pycortex filestore {store}", todo="correct brain.surfaces in params.yaml")
        cortex.db.filestore = str(store)
        cortex.db.reload_subjects()
    known = sorted(cortex.db.subjects)
    if surfaces.subject not in known:
        raise SourceError(
            f"pycortex has no subject {surfaces.subject!r} in {cortex.db.filestore}",
            allowed=", ".join(known) or "none exists",
            todo=nearest(surfaces.subject, known) or "import it with cortex.freesurfer, or correct brain.surfaces",
        )
    there = sorted(cortex.db.get_paths(surfaces.subject)["surfs"])
    missing = [name for name in ("wm", "pia", "flat") if name not in there]
    if missing:
        raise SourceError(
            f"the pycortex subject {surfaces.subject!r} lacks surfaces",
            wanted=", ".join(missing),
            found=", ".join(there),
            todo="cut and flatten it: cortex.segment.cut_surface",
        )
    return cortex


def _vertices(cortex: Any, surfaces: PycortexSurfaces, image: Path) -> Cortex:
    import nibabel as nib

    white, pial = (
        np.vstack([vertices for vertices, _ in cortex.db.get_surf(surfaces.subject, name)]) for name in ("wm", "pia")
    )
    if not surfaces.transform:
        return Cortex(white, pial)
    known = sorted(cortex.db.get_paths(surfaces.subject)["xfms"])
    if surfaces.transform not in known:
        raise SourceError(
            f"the pycortex subject {surfaces.subject!r} has no transform {surfaces.transform!r}",
            allowed=", ".join(known) or "none exists",
        )
    affine = np.asarray(nib.load(image).affine, dtype=np.float64)
    to_voxels = cortex.db.get_xfm(surfaces.subject, surfaces.transform)  # anatomical mm to i, j, k of its reference
    return Cortex(*(to_voxels(part) @ affine[:3, :3].T + affine[:3, 3] for part in (white, pial)))


def _drawn(cortex: Any, subject: str, values: Array, image: Path, shown: str) -> Path:
    import matplotlib.pyplot as plt

    highest = float(np.nan_to_num(np.abs(values)).max()) or 1.0
    shown = cortex.Vertex(values, subject, vmin=-highest, vmax=highest, cmap="RdBu_r")
    figure = cortex.quickflat.make_figure(
        shown, with_rois=False, with_labels=False, with_curvature=True, with_colorbar=True
    )
    name = image.name.removesuffix(".nii.gz")
    figure.suptitle(f"{name}: {shown}" if shown else name)
    path = image.with_name(f"{name}_flat.png")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
