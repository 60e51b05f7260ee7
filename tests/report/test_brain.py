"""The brain's section of the report: its numbers are the tables' numbers, and what is missing is said in words."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from affectlake.report import BrainInputs, figure_files, make_volume, render
from affectlake.report.figures.brain_maps import figures
from tests.report.test_report import Page, make_inputs

AGENTS = ("human-category", "caption-tfidf")
REGIONS = (("VC", "cortical", "visual cortex"), ("OFC", "cortical", "orbitofrontal cortex"),
           ("amygdala", "subcortical", "amygdala"))  # fmt: skip
SCORES = {"VC": (0.31, 0.12), "OFC": (0.05, 0.17)}


def brains() -> BrainInputs:
    """Three subjects, two agents, two cortical regions; a 5 × 5 × 5 grid of which one voxel has no value."""
    rows = [
        (agent, f"S{subject}", "embedding", method, region, SCORES[region][at] + shift, 20)
        for at, agent in enumerate(AGENTS)
        for subject, shift in ((1, -0.01), (2, 0.0), (3, 0.01))
        for method in ("encoding", "searchlight")
        for region in SCORES
    ]
    names = ["agent", "subject", "basis", "method", "region", "region_score", "n_voxels"]
    pairs = [
        ("searchlight", "VC", *AGENTS, 0.19, 9.0, 0.001, 0.004, 3, 1.0),
        ("searchlight", "VC", *AGENTS[::-1], -0.19, -9.0, 0.001, 0.004, 3, 0.0),
        ("searchlight", "OFC", *AGENTS[::-1], 0.12, 2.0, 0.2, 0.3, 3, 0.8),
    ]
    grid = np.argwhere(np.ones((5, 5, 5))) * 10.0 - 20
    rng = np.random.default_rng(0)
    voxels = pl.DataFrame(
        {"voxel_index": np.arange(125), "regions": ["VC" if at < 50 else "" for at in range(125)]}
        | dict(zip(("voxel_i", "voxel_j", "voxel_k"), np.argwhere(np.ones((5, 5, 5))).T, strict=True))
        | dict(zip(("x_mm", "y_mm", "z_mm"), grid.T, strict=True))
    )
    maps = pl.concat(
        pl.DataFrame(
            {"agent": agent, "method": method, "voxel_index": np.arange(125)}
            | {"value": np.where(np.arange(125) == 7, np.nan, rng.random(125) * (at + 1))}
        ).with_columns(pl.col("value").fill_nan(None))
        for at, agent in enumerate(AGENTS)
        for method in ("encoding", "searchlight")
    )
    stats = ["method", "region", "agent", "other_agent", "difference", "t", "p", "p_fdr", "n_subjects", "share_won"]
    ceilings = {"region": ["VC", "OFC"], "ceiling_low": [0.2, 0.9], "ceiling_high": [0.25, 0.95]}
    return BrainInputs(
        scores=pl.DataFrame(rows, schema=names, orient="row"),
        stats=pl.DataFrame(pairs, schema=stats, orient="row"),
        ceilings=pl.DataFrame(ceilings),
        regions=REGIONS,
        subject="S1",
        maps=maps,
        volumes=(make_volume("S1", voxels, maps), make_volume("S2", voxels, maps)),
    )


def bodies(inputs: BrainInputs) -> dict[str, str]:
    return {name: str(figure.body) or figure.missing for name, _, figure in figures(inputs, AGENTS)}


def test_bars_dots_and_stars_are_those_of_the_tables() -> None:
    drawn = bodies(brains())["searchlight-cortical"]
    assert "human-category, visual cortex: 0.310 ± 0.010" in drawn
    assert "caption-tfidf, orbitofrontal cortex: 0.170 ± 0.010" in drawn
    assert drawn.count('class="subject"') == 2 * 2 * 3
    assert drawn.count('class="star"') == 1  # VC alone differs from the best; the pair of OFC has p_fdr 0.3
    assert drawn.count('class="ceiling"') == 1  # that of OFC lies above the scale
    higher = re.findall(r'<rect x="[\d.]+" y="([\d.]+)" width="8" height="([\d.]+)"', drawn)
    assert len(higher) == 4
    assert np.isclose(float(higher[0][1]) / float(higher[1][1]), 0.31 / 0.12, rtol=0.01)


def test_what_is_missing_is_said() -> None:
    found = bodies(brains())
    assert found["searchlight-subcortical"] == (
        "No voxel of this version's subjects lies in a named one of the subcortical regions."
    )
    alone = replace(brains(), maps=brains().maps.filter(pl.col("agent") == AGENTS[0]))
    assert bodies(alone)["encoding-voxels"] == "There is only one agent with a brain map."
    one = brains().volumes[0]
    below = replace(brains(), volumes=(replace(one, values={key: -values for key, values in one.values.items()}),))
    assert bodies(below)["encoding-glass"] == "No voxel of this version has a value above 0."
    assert bodies(below)["explore"] == "No voxel of this version has a value above 0."
    assert figures(None, AGENTS) == []
    assert figures(brains(), ["an-agent-without-maps"]) == []


def test_histograms_count_every_voxel_that_both_maps_have() -> None:
    inputs = brains()
    wide = inputs.maps.filter(pl.col("method") == "encoding").pivot("agent", index="voxel_index", values="value")
    share = wide.drop_nulls().select((pl.col("caption-tfidf") > pl.col("human-category")).mean()).item()
    assert f"{share:.0%} above" in bodies(inputs)["encoding-voxels"]  # the agent with the higher mean stands upwards


def test_glass_brains_show_every_line_of_sight_and_no_voxel_without_a_value() -> None:
    drawn = bodies(brains())["encoding-glass"]
    assert drawn.count("<svg") == 2 * 3
    assert drawn.count('class="inside"') == 6
    first = drawn[: drawn.index("</svg>")]
    inside, hot = first[: first.index("<g")], first[first.index("<g") :]
    assert covered(inside) == covered(hot) == 25  # the outline of 5 × 5 and a value in every line of sight


def covered(drawn: str) -> int:
    """Return how many cells the runs of a drawing's paths cover."""
    return sum(int(run) for run in re.findall(r"h(\d+)v1", drawn))


def test_the_page_has_the_section_and_stays_well_formed() -> None:
    html = render(make_inputs(brain=brains()))
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert "brain-title" in page.ids
    assert "#brain" in page.links
    assert "brain-searchlight-cortical.csv" in html
    assert 'id="brain"' not in render(make_inputs())


def test_figures_are_files_with_their_rows(tmp_path: Path) -> None:
    names = {path.name for path in figure_files(make_inputs(brain=brains()), tmp_path)}
    assert {"brain-searchlight-cortical.svg", "brain-searchlight-cortical.png", "brain-encoding-glass-6.svg"} <= names
    rows = pl.read_csv(tmp_path / "brain-searchlight-cortical.csv")
    assert rows.height == 12
    assert rows.filter(pl.col("region") == "VC", pl.col("agent") == AGENTS[0])["region_score"].sort().to_list() == [
        0.30, 0.31, 0.32,
    ]  # fmt: skip
    with Image.open(tmp_path / "brain-searchlight-cortical.png") as image:
        below = np.asarray(image.convert("L"))[430:]  # where the regions' names stand
    assert (below < 200).sum() > 100
    assert "node k0" in (tmp_path / "brain-searchlight-cortical.svg").read_text()
    assert ".node.k0{fill: #1f77b4" in (tmp_path / "brain-searchlight-cortical.svg").read_text().replace("; }", "}")
