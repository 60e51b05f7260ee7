"""Real fMRI: half a slice of one subject of Haxby et al. 2001, where category structure is known to be strong."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import detrend

from affectlake.brain.searchlight.search import search
from affectlake.brain.searchlight.spheres import make_spheres, sphere_offsets
from affectlake.rsm import correlation_rsm, pairs, pearson

pytestmark = pytest.mark.realdata


class Slice(NamedTuple):
    """Mean patterns of the eight categories in odd and even runs (8, v), and where the voxels are."""

    odd: NDArray[np.float64]
    even: NDArray[np.float64]
    voxels: NDArray[np.int32]


@pytest.fixture(scope="module")
def haxby(real_data: Path) -> Slice:
    folder = real_data / "haxby2001_slice"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    mask = np.asarray(nib.load(folder / "mask.nii.gz").dataobj).astype(bool)
    mask = mask.reshape(mask.shape[:3])
    bold = np.asarray(nib.load(folder / "bold.nii.gz").dataobj, dtype=np.float64)[mask].T  # (volumes, voxels)
    rows = [line.split() for line in (folder / "attributes_literal.txt").read_text().splitlines() if line.strip()]
    labels, runs = np.array([row[0] for row in rows]), np.array([int(row[1]) for row in rows])
    for run in np.unique(runs):  # linear trend out, z-scored by the volumes of rest, as the peers' tutorials do
        here, rest = bold[runs == run], labels[runs == run] == "rest"
        here = detrend(here, axis=0)
        bold[runs == run] = (here - here[rest].mean(0)) / here[rest].std(0)
    names = sorted(set(labels) - {"rest"})
    halves = [np.stack([bold[(labels == n) & (runs % 2 == half)].mean(0) for n in names]) for half in (1, 0)]
    return Slice(halves[0], halves[1], np.argwhere(mask))


def test_odd_and_even_runs_have_one_geometry(haxby: Slice) -> None:
    found = pearson(pairs(correlation_rsm(haxby.odd)), pairs(correlation_rsm(haxby.even)))
    assert found == pytest.approx(0.83, abs=0.02)


def test_searchlight_reliability_peaks_above_nine_tenths(haxby: Slice) -> None:
    spheres = make_spheres(haxby.voxels, sphere_offsets(3))
    found = np.full(spheres.n_voxels, np.nan)
    for centre in np.flatnonzero(spheres.counts() >= 10):
        odd, even = (correlation_rsm(half[:, spheres.members(centre)]) for half in (haxby.odd, haxby.even))
        found[centre] = pearson(pairs(odd), pairs(even))
    assert np.nanmax(found) > 0.9
    assert np.nanmean(found) > 0.2


def test_the_searchlight_finds_the_slices_geometry_in_the_other_half(haxby: Slice) -> None:
    spheres = make_spheres(haxby.voxels, sphere_offsets(3))
    model = correlation_rsm(haxby.even)
    rho = search(haxby.odd, spheres, model[None], min_voxels=10, ranks="exact").rho[0]
    assert np.nanmax(rho) > 0.7
    shuffled = np.stack([model[np.ix_(order, order)] for order in (np.roll(np.arange(8), k) for k in (2, 3, 5))])
    null = search(haxby.odd, spheres, shuffled, min_voxels=10, ranks="exact").rho
    assert np.nanmean(rho) > np.nanmean(null) + 0.1
