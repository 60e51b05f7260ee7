"""Dimensions in the brain: the figures show a planted dimension in its voxels with its sign, in every subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

import affectlake
from affectlake import figures
from affectlake.brain.encoding.crossvalidation import encode
from affectlake.brain.encoding.folds import nested_folds
from affectlake.errors import FigureError
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import Lake
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.tables.writing import write_outputs
from affectlake.pipelines.outputs import report
from affectlake.pipelines.params import templates
from affectlake.pipelines.steps.rows import to_table

AGENT, SUBJECTS, SIDE, N_STIMULI = "human-category", ("S1", "S2"), 6, 300
SCALES = (1.0, 3.0, 0.5, 2.0)
STRONGEST = (2, 4, 1)  # by total weight
CELLS = np.argwhere(np.ones((SIDE,) * 3))
LEFT, FRONT = CELLS[:, 0] < 2, (CELLS[:, 0] >= 4) & (CELLS[:, 1] >= 3)
"""Voxels that follow dimension 2, and voxels that dimension 4 suppresses."""


def tables(with_weights: bool = True) -> dict[Output, pl.DataFrame]:
    """A fit of four dimensions, and encoding models of voxels of which some follow one of them."""
    rng = np.random.default_rng(0)
    embedding = rng.gamma(1.0, size=(N_STIMULI, 4)) * SCALES
    unit = (embedding - embedding.mean(axis=0)) / embedding.std(axis=0)
    n = len(CELLS)
    voxels, maps, weights = [], [], []
    for subject in SUBJECTS:
        patterns = rng.normal(size=(N_STIMULI, n))
        patterns[:, LEFT] += 1.5 * unit[:, [1]]
        patterns[:, FRONT] -= 1.5 * unit[:, [3]]
        fit = encode(embedding, (patterns - patterns.mean(axis=0)) / patterns.std(axis=0),
                     nested_folds(N_STIMULI, 3, 3, rng))  # fmt: skip
        key = {"agent": AGENT, "subject": subject}
        found = np.where(LEFT | FRONT, 0.001, 0.5)
        maps += [key | {"basis": "embedding", "voxel_index": at, "encoding_r": fit.r[at], "p_null_fdr": found[at],
                        "n_stimuli": N_STIMULI} for at in range(n)]  # fmt: skip
        weights += [key | {"seed": 0, "dimension": at + 1, "voxel_weights": fit.weights[at].astype(np.float32).tolist()}
                    for at in range(4)]  # fmt: skip
        voxels.append(pl.DataFrame(
            {"subject": [subject] * n, "voxel_index": np.arange(n, dtype=np.int32)}
            | {f"voxel_{axis}": CELLS[:, i].astype(np.int32) for i, axis in enumerate("ijk")}
            | {f"{axis}_mm": 3.0 * CELLS[:, i].astype(np.float32) for i, axis in enumerate("xyz")}
            | {"regions": ["VC"] * n, "usable": [True] * n}
            | {f"grid_{axis}": np.full(n, SIDE, dtype=np.int32) for axis in "ijk"}
        ))  # fmt: skip
    fitted = [{"agent": AGENT, "seed": 0, "dimension": d + 1, "stimulus_index": at, "weight": embedding[at, d]}
              for d in range(4) for at in range(N_STIMULI)]  # fmt: skip
    chosen = {"agent": AGENT, "seed": 0, "n_dimensions": 4, "representative": True}
    score = {"agent": AGENT, "subject": "S1", "basis": "embedding", "method": "encoding", "region": "VC",
             "region_score": 0.3, "n_voxels": n, "n_stimuli": N_STIMULI}  # fmt: skip
    stimuli = [{"stimulus_index": at, "stimulus_id": f"{at:04d}.mp4", "n_captions": 0} for at in range(N_STIMULI)]
    rows = {"embeddings": fitted, "fits": [chosen], "encoding_maps": maps, "roi_scores": [score]}
    rows |= {"encoding_weights": weights} if with_weights else {}
    made = {Output(name, AGENT): to_table(name, some) for name, some in rows.items()}
    made[Output("stimuli")] = to_table("stimuli", stimuli)
    return {Output("voxels"): pl.concat(voxels), Output("group_stats"): to_table("group_stats", []), **made}


def published(root: Path, with_weights: bool = True) -> Lake:
    repository.init(root, templates.starting_params("demo"))
    frames = tables(with_weights)
    write_outputs(root, "made", frames, {})
    outs = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in frames]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": {"cmd": "affectlake step made", "outs": outs}}}))
    record_done(root, "made")
    assert repository.publish(root) is not None
    return affectlake.open(root)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return published(tmp_path_factory.mktemp("dimensions") / "lake")


@pytest.mark.parametrize("name", ["dimension_weights", "dimension_patterns"])
def test_a_planted_dimension_is_seen_in_its_voxels_with_its_sign(lake: Lake, name: str) -> None:
    figure = figures.draw(name, lake, AGENT)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 2 * 3 * 2  # subjects, dimensions, views
    titles = [ax.get_title("left") for ax in panels[:6]]
    assert [title.split()[0] for title in titles[::2]] == [str(one) for one in STRONGEST]
    assert [ax.get_ylabel() for ax in panels[::6]] == list(SUBJECTS)
    for subject in range(2):
        above = {d: colours_of(panels[subject * 6 + 2 * at + 1]) for at, d in enumerate(STRONGEST)}  # rows: y from top
        left, front = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
        left[:, :2], front[:3, 4:] = True, True
        assert (above[2][left] == 1).all() and (above[4][front] == -1).all()
        assert (above[2][~left & ~front] == 0).all()  # not significant: grey
    strong = figure.data.filter(pl.col("significant"), pl.col("dimension") == 2)
    values = strong.filter(pl.col("voxel_index").is_in(np.flatnonzero(LEFT)))[name.split("_")[1].removesuffix("s")]
    np.testing.assert_allclose(values.to_numpy(), 1.5 / np.sqrt(1 + 1.5**2), atol=0.15)  # of z-scored responses
    assert "does not depend on the brain" in figure.caption
    assert "Haufe et al. 2014" in figure.caption and "Only significant voxels are coloured" in figure.caption


def colours_of(ax: object) -> np.ndarray:
    """Return 1 for red, -1 for blue and 0 for grey in each cell of a picture."""
    rgba = np.asarray(ax.images[0].get_array(), int)  # type: ignore[attr-defined]
    difference = rgba[..., 0] - rgba[..., 2]
    return np.asarray(np.where(np.abs(difference) < 3, 0, np.sign(difference)))


def test_both_colours_have_one_symmetric_scale_with_its_unit_in_both_pictures(lake: Lake) -> None:
    limits = []
    for voxels in ("significant", "all"):
        figure = figures.dimension_weights(lake, AGENT, voxels=voxels)
        (bar,) = [ax for ax in figure.axes if not ax.images]
        assert "s.d. of the response" in bar.get_ylabel()
        limits.append(bar.get_ylim())
        assert limits[-1][0] == -limits[-1][1]
    assert limits[0] == limits[1]
    assert "All voxels are shown, significant or not" in figure.caption
    grey = [(colours_of(ax) == 0).mean() for ax in figure.axes if ax.images]
    assert max(grey) < 0.5


def test_the_page_has_the_weights_with_a_switch_and_the_files_have_the_patterns(lake: Lake, tmp_path: Path) -> None:
    html = report.write_report(lake.root, pictures=False).read_text(encoding="utf-8")
    assert f'id="{AGENT}-dimension-weights"' in html and "dimension-patterns" not in html
    figure = html.split(f'id="{AGENT}-dimension-weights"', 1)[1].split("</figure>", 1)[0]
    assert 'data-control="voxels"' in figure and figure.count("<svg") == 2
    names = {path.stem for path in report.write_figures(lake.root, "v1", tmp_path)}
    ends = ("dimension-weights", "dimension-weights-all", "dimension-patterns", "dimension-patterns-all")
    assert {f"{AGENT}-{end}" for end in ends} <= names


def test_a_version_without_weights_has_a_report_without_the_figure(tmp_path: Path) -> None:
    older = published(tmp_path / "lake", with_weights=False)
    with pytest.raises(FigureError, match="no weights of encoding models"):
        figures.dimension_weights(older, AGENT)
    html = report.write_report(older.root, pictures=False).read_text(encoding="utf-8")
    assert "This version has no weights of encoding models of this agent." in html


def test_a_study_without_a_brain_does_not_miss_the_figure() -> None:
    from affectlake.report import render
    from tests.report.test_report import make_inputs

    assert "Dimensions in the brain" not in render(make_inputs())
