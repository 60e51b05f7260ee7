"""Brain maps on the inflated cortex of fsaverage5, as an image and an interactive page; for maps in MNI space only."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affectlake.errors import LakeError
from affectlake.extras import install

Array = NDArray[np.floating]

DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Depths at which a map is sampled, from the white matter (0) to the pia (1)."""

VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "lateral"), ("right", "medial"))


def draw_surfaces(image: Path, brain: Path | None = None, shown: str = "") -> list[Path]:
    """Write ``NAME.png`` (four views) and ``NAME.html`` (interactive, offline) beside a map; return their paths.

    :func:`sample` defines the value of a vertex; vertices without a value are grey.

    Parameters
    ----------
    image : Path
        ``NAME.nii.gz``, a 3-D image in MNI space, NaN for voxels without a value.
    brain : Path, optional
        Image of the same grid that is not masked (see :func:`sample`).
    shown : str, optional
        Which voxels the map has, written above the pictures.

    Returns
    -------
    list of Path
        Paths of the image and of the page.

    Raises
    ------
    LakeError
        If nilearn or plotly is not installed.
    """
    try:
        import plotly  # noqa: F401  # for nilearn's interactive pages
        from nilearn import datasets, plotting
        from nilearn.surface import SurfaceImage
    except ImportError as error:
        raise LakeError("surfaces are drawn by nilearn and plotly", todo=install("surfaces")) from error
    import matplotlib.pyplot as plt

    values = _on_surface(image, brain)
    inflated = datasets.load_fsaverage("fsaverage5")["inflated"]
    found = SurfaceImage(mesh=inflated, data=values)
    folds = datasets.load_fsaverage_data(mesh="fsaverage5", data_type="sulcal", mesh_type="inflated")
    highest = float(np.nan_to_num(np.abs(np.concatenate(list(values.values())))).max()) or 1.0
    name = image.name.removesuffix(".nii.gz")
    settings = {"bg_map": folds, "vmax": highest, "cmap": "RdBu_r"}
    figure, axes = plt.subplots(1, 4, figsize=(14, 4), subplot_kw={"projection": "3d"})
    for (side, view), place in zip(VIEWS, axes, strict=True):
        last = view == "medial" and side == "right"
        plotting.plot_surf_stat_map(
            stat_map=found, hemi=side, view=view, axes=place, figure=figure, colorbar=last, title=f"{side}, {view}",
            **settings,
        )  # fmt: skip
    title = f"{name}: {shown}" if shown else name
    figure.suptitle(title)
    picture, page = image.with_name(f"{name}.png"), image.with_name(f"{name}.html")
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    plotting.view_surf(surf_map=found, hemi="both", symmetric_cmap=True, title=title, **settings).save_as_html(page)
    return [picture, page]


def sample(image: Path, white: Array, pial: Array, brain: Path | None = None) -> Array:
    """Return the map's value at every vertex of a cortex: the mean over five depths of the nearest voxel's value.

    The nearest voxel is one of the brain, whether the map has a value there or not: a mask does not grow.

    Parameters
    ----------
    image : Path
        A 3-D image, NaN for voxels without a value.
    white, pial : float (n_vertices, 3)
        Positions of the vertices, in the image's mm.
    brain : Path, optional
        Image on the same grid whose voxels with a value are the brain; by default `image`.

    Returns
    -------
    float32 (n_vertices,)
        The values; NaN if at every depth the nearest voxel of the brain has no value, or is farther than the diagonal
        of a voxel.
    """
    import nibabel as nib
    from scipy.spatial import cKDTree

    volume = nib.load(image)
    values = np.asarray(volume.dataobj, dtype=np.float32)
    whole = values if brain is None else np.asarray(nib.load(brain).dataobj, dtype=np.float32)
    inside = np.argwhere(np.isfinite(whole))
    affine = np.asarray(volume.affine, dtype=np.float64)
    tree = cKDTree(inside @ affine[:3, :3].T + affine[:3, 3])
    limit = float(np.linalg.norm(affine[:3, :3].sum(axis=1)))
    known = np.append(
        values[tuple(inside.T)], np.float32(np.nan)
    )  # the tree returns the last index if no voxel is near enough
    found = [known[tree.query(white + depth * (pial - white), distance_upper_bound=limit)[1]] for depth in DEPTHS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a vertex without any value
        return np.asarray(np.nanmean(np.stack(found), axis=0), dtype=np.float32)


def _on_surface(image: Path, brain: Path | None) -> dict[str, Array]:
    from nilearn import datasets

    white, pial = (datasets.load_fsaverage("fsaverage5")[name].parts for name in ("white_matter", "pial"))
    return {side: sample(image, white[side].coordinates, pial[side].coordinates, brain) for side in ("left", "right")}
