"""Regions: the paper's list, the published groups, and the way from columns to voxels and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affectlake.brain.recordings import regions
from affectlake.errors import SourceError


def test_the_papers_regions_are_all_there() -> None:
    found = regions.regions()
    cortical = [key for key, region in found.items() if region.group == "cortical"]
    assert " ".join(cortical) == "VC TPJ IPL PC STS TE TF MTC MST Insula DLPFC DMPFC VLPFC VMPFC ACC OFC"
    assert len(found) - len(cortical) == 10
    assert {region.source for region in found.values()} == {"roiInf", "area", "ours"}


@pytest.mark.realdata
def test_columns_are_the_published_ones(real_data: Path) -> None:
    from scipy.io import loadmat

    path = real_data / "horikawa_rois" / "roiInf.mat"
    published = loadmat(path, squeeze_me=True, struct_as_record=False)["roiInf"]
    names = set(published.hcp360.roiName)
    for region in regions.regions().values():
        if region.group == "cortical":
            assert set(region.columns) <= names
    groups = dict(zip(published.individual.roiDescrip, published.individual.roiName, strict=True))
    groups["ACC"], groups["Insula"] = groups["Insula"], groups["ACC"]  # the file's names of these two are exchanged
    for key, columns in groups.items():
        assert set(regions.regions()[key].columns) == set(columns)
    assert "hcp180_r_lh.L_p24_ROI" in regions.regions()["ACC"].columns
    assert "hcp180_r_rh.R_AAIC_ROI" in regions.regions()["Insula"].columns


@pytest.mark.parametrize(
    ("label", "region"),
    [
        ("hcp180_r_rh.R_V1_ROI", "VC"),
        ("L_TF_ROI", "TF"),
        ("VC", "VC"),
        ("Left-Thalamus-Proper", "thalamus"),
        ("Right-Accumbens-area", "accumbens"),
        ("Brain-Stem", "brainstem"),
        ("Left-Cerebellum-Cortex", "cerebellum"),
        ("Left-Cerebellum-White-Matter", None),
        ("L_???_ROI", None),
        ("", None),
    ],
)
def test_labels_of_an_atlas_find_their_region(label: str, region: str | None) -> None:
    column = regions.column_of(label)
    assert (column is None) == (region is None)
    if column and region:
        member = regions.membership({column: np.array([True])}, 1)
        assert region in member.keys


def test_membership_is_any_of_the_columns() -> None:
    left, right = (np.arange(6) == i for i in (0, 1))
    columns = {"hcp180_r_lh.L_TF_ROI": left, "hcp180_r_rh.R_TF_ROI": right, "amygdala": np.arange(6) > 3, "x": left}
    found = regions.membership(columns, 6)
    assert found.keys == ("TF", "amygdala")
    assert found.voxels.tolist() == [[True, True, False, False, False, False], [False] * 4 + [True] * 2]
    assert len(found.absent) == 24
    again = regions.from_words(regions.words(found))
    assert again.keys == found.keys
    assert np.array_equal(again.voxels, found.voxels)
    with pytest.raises(SourceError, match="region TF has another length"):
        regions.membership(columns, 7)
