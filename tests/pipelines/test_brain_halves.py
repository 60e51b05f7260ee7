"""Repeated presentations from the files to the selected stimuli: the planted reliable ones, and no others."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.lake.tables import rules
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.parts import write_parts
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.pipelines.steps import brain, brain_selection, stimuli
from tests.brain.test_halves import explicit
from tests.support import null_brains
from tests.support.null_brains import AGENTS, lazy

N, SHAPE = 90, (6, 5, 4)
RELIABLE = np.arange(0, N, 3)
"""Stimuli whose patterns are the same in both presentations of a subject: 30, as many as are selected."""


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """A study of three subjects whose images have two presentations of each stimulus, in other orders.

    What is reliable differs between subjects: their agreement does not find it. The last subject did not see the last
    five stimuli again.
    """
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    raw = yaml.safe_load(yaml.safe_dump(null_brains.settings("auto", 4).model_dump(mode="json", exclude_unset=True)))
    ids = stimuli.ingest({}, null_brains.settings("auto", 4), null_brains.context(folder))["stimuli"]["stimulus_id"]
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4)), folder / "mask.nii.gz")
    subjects = {}
    for name in ("S1", "S2", "S3"):
        own = np.zeros((N, *SHAPE))
        own[RELIABLE] = rng.normal(size=(len(RELIABLE), *SHAPE))
        order = np.concatenate([rng.permutation(N), rng.permutation(N - 5 * (name == "S3"))])
        bold = 100 + 3 * rng.normal(size=SHAPE) + own[order] + 0.7 * rng.normal(size=(len(order), *SHAPE))
        nib.save(nib.Nifti1Image(np.moveaxis(bold, 0, -1).astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
        lines = [f"{ids[int(at)]} {1 + number // 30}" for number, at in enumerate(order)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
        files = {"bold": f"{name}.nii.gz", "mask": "mask.nii.gz", "attributes": f"{name}.txt"}
        subjects[name] = {key: str(folder / value) for key, value in files.items()}
    raw["brain"]["sources"] = {"kind": "images", "subjects": subjects}
    return parse(yaml.safe_dump(raw, sort_keys=False))


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def tables(params: Params, said: list[str], tmp_path_factory: pytest.TempPathFactory) -> OutputTables:
    folder = tmp_path_factory.mktemp("lake")
    context = StepContext("", folder, folder, 1, said.append, lambda _: None, agents=AGENTS)
    found = stimuli.ingest({}, params, context)
    found |= brain.ingest_brains(lazy(found), params, context)
    found |= null_brains.fitted(found, params, 0)
    found |= brain_selection.share_stimuli(lazy(found), params, context)
    return found | brain_selection.select_stimuli(lazy(found), params, context)


def images(params: Params, name: str) -> tuple[np.ndarray, list[str]]:
    """A subject's volumes as rows, and their labels."""
    files = params.raw["brain"]["sources"]["subjects"][name]
    volumes = nib.load(files["bold"]).get_fdata(dtype=np.float32)  # type: ignore[attr-defined]
    labels = [line.split()[0] for line in Path(files["attributes"]).read_text().splitlines()]
    return volumes.reshape(-1, volumes.shape[-1]).T, labels


def test_betas_hold_the_agreement_of_halves(
    params: Params, tables: OutputTables, said: list[str], tmp_path: Path
) -> None:
    ids = tables["stimuli"].sort("stimulus_index")["stimulus_id"].to_list()
    for name in ("S1", "S2", "S3"):
        patterns, labels = images(params, name)
        rows = tables["betas"].filter(pl.col("subject") == name).sort("stimulus_index")
        expected = explicit(patterns, np.array([ids.index(label) for label in labels]))
        np.testing.assert_allclose(rows["split_half_r"].fill_null(np.nan).to_numpy(), expected, atol=1e-6)
        assert rows["split_half_r"].null_count() == (5 if name == "S3" else 0)
        assert (rows["split_half_r"].is_null() == (rows["n_presentations"] == 1)).all()
    assert any("S3: 90 stimuli" in line and "85 stimuli shown repeatedly (averaged; median r" in line for line in said)
    written = write_parts(tables["betas"], contract("betas"), tmp_path / "betas")
    assert rules.check(contract("betas"), written, {"stimuli": tables["stimuli"].lazy()}) == []


def test_reliable_stimuli_are_selected_where_subjects_do_not_agree(
    params: Params, tables: OutputTables, tmp_path: Path
) -> None:
    found = tables["stimulus_reliability"]
    assert set(found["selection"]) == {"halves"}
    for (name,), rows in found.group_by("subject", maintain_order=True):
        seen_again = np.arange(0, N - 5 if name == "S3" else N, 3)
        assert np.flatnonzero(rows.sort("stimulus_index")["selected"]).tolist() == seen_again.tolist()
        assert rows.filter("selected")["reliability"].min() > 0.3  # type: ignore[operator]
    body = params.model_dump(mode="json", exclude_unset=True)
    body["brain"]["searchlight"]["selection"] = "others"
    by_subjects = parse(yaml.safe_dump(body, sort_keys=False))
    other = brain_selection.select_stimuli(lazy(tables), by_subjects, null_brains.context(tmp_path))
    mine = other["stimulus_reliability"].filter(pl.col("subject") == "S1", "selected")["stimulus_index"]
    assert len(np.intersect1d(mine, RELIABLE)) < 20
