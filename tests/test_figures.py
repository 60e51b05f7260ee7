"""Figures as objects: every one drawn from a real lake, its numbers those of the tables, its files the same twice."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

import affectlake
from affectlake import figures
from affectlake.cli.main import main
from affectlake.errors import FigureError, UsageError
from affectlake.lake import repository
from affectlake.lake.open import Lake
from affectlake.lake.tables.contracts import contracts
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.outputs import report
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override
from affectlake.report.figures import catalogue
from affectlake.report.figures.canvas import Drawn
from affectlake.report.figures.catalogue import FIGURES, Entry
from affectlake.report.figures.html_figure import HtmlFigure
from tests.judge.test_vision import clip
from tests.support.chat_lakes import build_steps
from tests.support.lakes import ROOT

AGENT = "human-category"
SETTINGS = (
    "sources.n_stimuli=60",
    "triplets.noise_ceiling=40",
    "triplets.thirds_per_pair=10",
    "spose.max_epochs=30",
    "spose.dimensions=6",
    "geometry.permutations=20",
    "geometry.resamples=20",
    "vice={dimensions: 6, max_epochs: 40}",
    "sweeps.dimensions=[1, 6]",
    "sweeps.judgments=[500, 4000]",
    "sweeps.n_judgments=3000",
    "sweeps.max_epochs=10",
    "agents.caption-tfidf.encoder.n_components=20",
    "brain.sources={kind: synthetic, n_subjects: 2, voxel_mm: 24.0}",
    "brain.searchlight={n_stimuli: 40, radius_voxels: 1.5, min_voxels: 5, ranks: counted, permutations: 19}",
    "brain.encoding.permutations=19",
    "brain.contributions={}",
    "brain.generalisation={resamples: 100, relabellings: 9}",
    "brain.crossnobis={}",
    "attribution={encoder: {library: transformers, model: clip}, folds: 3, permutations: 199}",
)
FIRST = ("ingest", "sample", "encode", "choose_by_ratings", "choose_by_features")
VARIANTS = [(entry.name, chosen) for entry in FIGURES for chosen in entry.variants()]

NOT_HERE = {  # this small study has no chat agent, too few of a category, and shows stimuli once
    "order_effects", "nearest_centroids", "explained_parts"
}  # fmt: skip
DRAWN_OTHERWISE = {  # read by the page, or by SQL, for the figures and their hints
    "choices", "triplets", "frames", "videos", "voxels", "roi_scores", "group_stats", "noise_ceilings", "rsa_maps",
    "encoding_maps", "encoding_weights", "fits", "families", "reliability", "anchored_choices", "unparsed",
    "partition_winners", "group_maps",
}  # fmt: skip
NOT_DRAWN = {
    "betas": "millions of rows that no figure could show; the maps are made from them",
    "features": "the vectors behind `choices`",
    "frame_features": "the vectors from which `readouts` are fitted",
    "proposals": "triplets to ask, not results",
    "sessions": "when participants came and went; `affectlake experiment status` counts them",
    "excluded_judgments": "judgments that are not used; `participants` counts them",
    "attention": "one row per person; `participants` has the rule that they break",
    "participants": "one row per person; `reliability` summarises them",
    "trials": "the triplets of `choices`, with their splits",
    "easy_trials": "a list of trials; `easy_scores` is in the table of each agent's results",
    "responses": "raw text; `order_effects` and `choices` are drawn",
    "soft_choices": "the probabilities of `choices`, from which fits learn",
    "shared_stimuli": "a choice of stimuli; maps and scores name their number",
    "motion": "a nuisance feature of the stimuli, not a result",
    "partition_maps": "parts of voxels; regions and winners are drawn",
    "voxel_reliability": "one number per voxel; parts of regions are drawn as shares of it",
    "brain_generalisation_pairs": "intervals over subjects and stimuli; read by queries",
    "crossnobis_distances": "pairs of stimuli in every region; read by queries",
    "crossnobis_reliability": "one test for each subject and region; read by queries",
    "crossnobis_scores": "subjects one by one, of repeated stimuli alone; read by queries",
    "closeness_pairs": "differences of pairs of agents; `closeness` has the ranks that follow from them",
    "vice_embeddings": "intervals of single weights; `fit_methods` is drawn",
    "encoding_nulls": "null distributions, from which levels follow",
    "rsa_nulls": "null distributions, from which levels follow",
    "stimulus_reliability": "a choice of stimuli; the ceilings are drawn",
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of the demo study: choices alone in v1, everything in v2."""
    root = tmp_path_factory.mktemp("figures") / "lake"
    repository.init(root, override(templates.starting_params("demo"), SETTINGS))
    clip(root / "clip")
    for steps in (FIRST, tuple(STEPS)):
        build_steps(root, *steps)
        with repository.writing(root, "test"):
            assert repository.publish(root) is not None
    return affectlake.open(root)


def draw(lake: Lake, name: str, at: str = "", **options: Any) -> Any:
    (entry,) = [one for one in FIGURES if one.name == name]
    agent = AGENT if entry.section == "agent" else ""
    return figures.draw(name, lake, agent, at, **options)


@pytest.mark.parametrize(("name", "chosen"), [one for one in VARIANTS if one[0] not in NOT_HERE])
def test_every_figure_is_drawn_with_its_rows(lake: Lake, name: str, chosen: Mapping[str, str]) -> None:
    made = draw(lake, name, **chosen)
    assert isinstance(made, Figure | HtmlFigure)
    assert made.caption.endswith((".", ")")) and len(made.data) > 0
    assert figures.data(name, lake, AGENT if "agent" in inspect.signature(getattr(figures, name)).parameters else "",
                        **chosen).equals(made.data)  # fmt: skip
    if isinstance(made, HtmlFigure):
        assert made._repr_html_().startswith("<iframe srcdoc=")
    else:
        shown = imread(BytesIO(made._repr_png_()))
        assert shown[..., :3].std() > 0.02  # something is drawn


def saved(figure: Any, kind: str) -> bytes:
    file = BytesIO()
    figure.savefig(file, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
@pytest.mark.parametrize("name", ["heatmap", "stimulus_map", "emotion_graph", "brain_regions", "saturation"])
def test_the_same_figure_is_the_same_bytes_whatever_the_user_s_style(lake: Lake, name: str, kind: str) -> None:
    once = saved(draw(lake, name), kind)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert saved(draw(lake, name), kind) == once
    assert mpl.rcParams["svg.fonttype"] == mpl.rcParamsDefault["svg.fonttype"]  # and the user's is left as it was


def test_files_keep_their_text(lake: Lake) -> None:
    figure = draw(lake, "learning_curves")
    svg = saved(figure, "svg").decode()
    assert ">cross-entropy (nats)</text>" in svg and f"<title>{figure.label}</title>" in svg
    assert b"/FontFile2" in saved(figure, "pdf")  # a TrueType font: text that can be found and edited


def test_the_heat_map_s_cells_are_the_table_s_correlations(lake: Lake) -> None:
    figure = figures.heatmap(lake, AGENT)
    ax = figure.axes[0]
    drawn = np.hstack([image.get_array() for image in ax.images])
    columns = [text.get_text() for text in ax.get_xticklabels()]
    rows = [int(text.get_text()) for text in ax.get_yticklabels()]
    found = lake.sql(
        f"SELECT dimension, rating, value FROM metrics WHERE agent = '{AGENT}' AND analysis = 'rating_correlation' "
        "AND seed = (SELECT any_value(seed) FROM layouts WHERE agent = 'human-category')"
    ).fetchall()
    assert len(found) == drawn.size
    for dimension, rating, value in found:
        assert drawn[rows.index(dimension), columns.index(rating)] == pytest.approx(value)


def test_accuracy_bars_are_the_table_s(lake: Lake) -> None:
    ax = figures.accuracy(lake).axes[0]
    names = [text.get_text() for text in ax.get_yticklabels()]
    found = dict(lake.sql(
        "SELECT agent, value FROM metrics JOIN (SELECT DISTINCT agent, seed FROM layouts) USING (agent, seed) "
        "WHERE analysis = 'held_out' AND measure = 'accuracy'"
    ).fetchall())  # fmt: skip
    assert dict(zip(names, (bar.get_width() for bar in ax.patches), strict=True)) == pytest.approx(found)


def test_figures_are_composed_in_axes_of_the_user(lake: Lake) -> None:
    own = Figure(figsize=(12, 8))
    axes = own.subplots(2, 2)
    axes[1, 0].plot([0, 1])
    assert figures.learning_curves(lake, AGENT, axes=axes[0]) is own
    assert figures.components(lake, AGENT, axes=axes[1, 1]) is own
    assert [ax.get_ylabel() for ax in axes.ravel()] == [
        "cross-entropy (nats)",
        "validation accuracy",
        "",
        "held-out accuracy",
    ]
    with pytest.raises(UsageError, match="2 panels"):
        figures.learning_curves(lake, AGENT, axes=axes[0, 0])


def test_figures_are_restyled_before_they_are_saved(lake: Lake) -> None:
    figure = figures.learning_curves(lake, AGENT)
    figure.axes[0].lines[0].set_color("#123456")
    figure.axes[0].set_title("mine")
    svg = saved(figure, "svg").decode()
    assert "#123456" in svg and ">mine</text>" in svg


def test_versions_without_the_tables_say_so(lake: Lake) -> None:
    assert "first, second and third" in figures.chosen_positions(lake, AGENT, "v1").caption
    for name in ("heatmap", "stimulus_map", "gallery", "accuracy", "agreement", "brain_regions", "saturation"):
        with pytest.raises(FigureError):
            draw(lake, name, "v1")
    with pytest.raises(FigureError, match="no learning curves of this agent"):
        figures.learning_curves(lake, AGENT, at="v1")
    with pytest.raises(FigureError, match="no chat agent has choices in this version"):
        figures.order_effects(lake)


def test_what_does_not_exist_is_refused_with_what_does(lake: Lake) -> None:
    with pytest.raises(UsageError, match="did you mean 'human-category'"):
        figures.heatmap(lake, "human-categry")
    with pytest.raises(UsageError, match="did you mean 'heatmap'"):
        figures.draw("heatmp", lake, AGENT)
    with pytest.raises(AttributeError, match="did you mean 'heatmap'"):
        figures.heatmp  # noqa: B018
    with pytest.raises(UsageError, match="searchlight, encoding"):
        figures.glass_brains(lake, method="other")
    with pytest.raises(UsageError, match="figure of all agents"):
        figures.draw("accuracy", lake, AGENT)


def test_every_figure_is_a_function_with_help() -> None:
    assert figures.names() == [entry.name for entry in FIGURES]
    for name in figures.names():
        function = getattr(figures, name)
        assert name in dir(figures) and function.__name__ == name
        parameters = list(inspect.signature(function).parameters)
        text = inspect.getdoc(function) or ""
        for section in (
            "Parameters\n---",
            "Returns\n---",
            "Raises\n---",
            "Examples\n---",
            f">>> affectlake.figures.{name}(",
        ):
            assert section in text
        assert parameters[0] == "lake" and all(f"\n{one} : " in text for one in parameters)


def test_the_page_on_figures_has_every_one() -> None:
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == figures.names()


def test_the_examples_run(lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(affectlake, "open", lambda: lake)
    said = StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    parser = doctest.DocTestParser()
    for name in ("", "names", "draw", "data", *(one for one in figures.names() if one not in NOT_HERE)):
        text = inspect.getdoc(getattr(figures, name) if name else figures) or ""
        if name in figures.names():  # what such a line shows is an object with an address
            text = text.replace(">>> ", ">>> _ = ")
        test = parser.get_doctest(text, {"affectlake": affectlake, "lake": lake}, name, None, 0)
        assert test.examples
        runner.run(test, out=said.write)
    assert runner.failures == 0, said.getvalue()
    assert (tmp_path / "learning.pdf").read_bytes().startswith(b"%PDF-")


class Recording(Mapping[str, pl.DataFrame]):
    """Tables that remember which of them were asked for."""

    def __init__(self, tables: Mapping[str, pl.DataFrame]) -> None:
        self.tables, self.asked = tables, set[str]()

    def __getitem__(self, name: str) -> pl.DataFrame:
        self.asked.add(name)
        return self.tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)


def test_every_table_is_drawn_or_is_left_out_for_a_reason(lake: Lake) -> None:
    inputs = report.gather(lake.root, report.resolve(lake.root, ""))
    tables = Recording(inputs.analyses)
    report.render(replace(inputs, analyses=tables))
    drawn = tables.asked | set(report.WHOLE) | DRAWN_OTHERWISE
    neither, both = set(contracts()) - drawn - set(NOT_DRAWN), drawn & set(NOT_DRAWN)
    assert not neither, "draw it, or give a reason in NOT_DRAWN"
    assert not both, "it is drawn: remove it from NOT_DRAWN"
    assert drawn | set(NOT_DRAWN) == set(contracts())


def test_no_agent_is_ranked_by_equation_4(lake: Lake) -> None:
    """Today's caption ranks by the halves; that of a version that has only equation 4 ranks no agent."""
    inputs = report.gather(lake.root, report.resolve(lake.root, ""), pictures=False, brain=False)

    def caption(table: pl.DataFrame) -> str:
        old = replace(inputs, analyses={**inputs.analyses, "comparisons": table})
        return " ".join(report.render(old).split())

    rows = inputs.analyses["comparisons"]
    today = caption(rows)
    best = rows.filter(pl.col("measure") == "halves_r").drop_nulls("value").sort("value", descending=True)["value"][0]
    assert f"{best:.3f}" in today and "for any number of trials. The highest is that of" in today
    earlier = rows.filter(pl.col("measure") != "halves_r").with_columns(
        pl.col("measure").replace({"equation_4_r": "corrected_r"})
    )
    said = caption(earlier)
    assert "This correction favours agents that judged fewer trials" in said
    assert "(the paper's equation 4)" in said.replace("&#39;", "'").replace("&#x27;", "'")
    assert "different numbers of trials cannot be compared." in said


def test_a_figure_that_misspells_a_table_fails_loudly(lake: Lake) -> None:
    def wrong(inputs: Any, facts: Any, canvas: Any) -> Drawn:
        return Drawn("", "", inputs.table("comparison"))

    inputs = report.gather(lake.root, report.resolve(lake.root, ""), pictures=False, brain=False)
    with pytest.raises(UsageError, match="did you mean 'comparisons'"):
        Entry(wrong, "", "together").made(inputs, [])


def test_a_figure_that_fails_is_named(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def careless(inputs: Any, facts: Any, canvas: Any) -> Drawn:
        return Drawn("", "", None + 1)  # type: ignore[operator]

    monkeypatch.setattr(catalogue, "FIGURES", (Entry(careless, "", "together"),))
    with pytest.raises(SystemExit) as ended:
        main(["report", "--lake", str(lake.root)])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("affectlake: TypeError: ") and ", while drawing the figure careless\n" in said


def test_matplotlib_is_loaded_only_to_draw() -> None:
    program = (
        "import sys, affectlake, affectlake.pipelines.outputs.report; affectlake.figures.names; "
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def media_width_mm(pdf: bytes) -> float:
    """Return the width of the first page of a PDF, from its MediaBox in points."""
    box = re.search(rb"/MediaBox \[\s*([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)\s*\]", pdf)
    assert box is not None
    return (float(box[3]) - float(box[1])) / 72 * 25.4


@pytest.mark.parametrize(("name", "agent"), [("accuracy", ""), ("components", AGENT), ("prototype_rsms", AGENT)])
def test_a_figure_of_a_paper_has_its_exact_width(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, agent: str
) -> None:
    place = tmp_path / "new" / f"{name}.pdf"
    options = ["--agent", agent] if agent else []
    main(["figure", name, str(place), "--lake", str(lake.root), "--width", "89mm", *options])
    assert capsys.readouterr().out.strip() == str(place)
    assert media_width_mm(place.read_bytes()) == pytest.approx(89, abs=0.01)
    figure = figures.draw(name, lake, agent, width_mm=89)
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 6 and figure.get_figwidth() == pytest.approx(89 / 25.4)
    assert (
        figure.stamp.get_text() == "synthetic stimuli" and ">synthetic stimuli</text>" in saved(figure, "svg").decode()
    )
    width = imread(BytesIO(saved(figure, "png"))).shape[1]
    assert width == pytest.approx(89 / 25.4 * 200, abs=1)


def test_a_figure_that_cannot_be_read_in_a_width_is_refused(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*options: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["figure", *options, "--lake", str(lake.root)])
        assert ended.value.code == 2
        return capsys.readouterr().err

    out = str(tmp_path / "figure.pdf")
    found = said("heatmap", out, "--agent", AGENT, "--width", "60mm")
    assert "cannot be read in 60 mm" in found and "try --width" in found
    wide = re.search(r"--width (\d+)mm", found)
    assert wide is not None and int(wide[1]) > 60
    assert "is not a width" in said("accuracy", out, "--width", "wide")
    assert "40 to 500 mm" in said("accuracy", out, "--width", "9mm")
    assert "cards or a table" in said("gallery", out, "--agent", AGENT)
    assert "has no value" in said("brain_regions", out, "--choose", "method")
    assert not Path(out).exists()


def test_the_format_of_a_figure_is_chosen(lake: Lake, tmp_path: Path) -> None:
    for kind, first in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        main(["figure", "accuracy", str(tmp_path / "one"), "--format", kind, "--lake", str(lake.root)])
        assert (tmp_path / f"one.{kind}").read_bytes().startswith(first)


def test_similarities_of_prototypes_are_those_of_the_metric(lake: Lake) -> None:
    for agent in (AGENT, "caption-tfidf"):
        rows = figures.data("prototype_rsms", lake, agent)
        found = lake.sql(
            f"SELECT value FROM metrics JOIN (SELECT agent, seed FROM fits WHERE representative) USING (agent, seed) "
            f"WHERE agent = '{agent}' AND analysis = 'generalisation' AND measure = 'rsm_pearson_r'"
        ).fetchall()[0][0]
        known = rows.filter(pl.col("measured").is_not_nan(), pl.col("predicted").is_not_nan())
        assert np.corrcoef(known["predicted"], known["measured"])[0, 1] == pytest.approx(found, abs=1e-6)
        figure = draw(lake, "prototype_rsms") if agent == AGENT else figures.prototype_rsms(lake, agent)
        images = [ax.images[0].get_array() for ax in figure.axes[:2]]
        upper = np.triu_indices(len(images[0]), k=1)
        np.testing.assert_allclose(np.asarray(images[1].filled(np.nan))[upper], rows["measured"])


def test_bars_of_meaning_and_overlaps_are_the_table_s(lake: Lake) -> None:
    chosen = "JOIN (SELECT agent, seed FROM fits WHERE representative) USING (agent, seed)"
    top3 = dict(lake.sql(f"SELECT agent, value FROM metrics {chosen} WHERE measure = 'top3_accuracy'").fetchall())
    known = {agent: value for agent, value in top3.items() if value is not None}
    if known:
        ax = figures.nearest_centroids(lake).axes[0]
        names = [text.get_text() for text in ax.get_yticklabels()]
        assert dict(zip(names, (bar.get_width() for bar in ax.patches), strict=True)) == pytest.approx(known)
    left, right = figures.label_shares(lake).axes
    names = [text.get_text() for text in left.get_yticklabels()]
    for measure, widths in (
        ("interpretable_share", [bar.get_width() for bar in left.patches]),
        ("mixed_share", [bar.get_width() for bar in right.patches[2::3]]),
    ):
        found = dict(lake.sql(f"SELECT agent, value FROM metrics {chosen} WHERE measure = '{measure}'").fetchall())
        assert dict(zip(names, widths, strict=True)) == pytest.approx({agent: found[agent] or 0.0 for agent in names})
    cells = figures.community_matrix(lake).axes[0].images[0].get_array().compressed()
    drawn = lake.sql("SELECT r FROM community_overlaps").fetchall()
    np.testing.assert_allclose(np.sort(cells), sorted(r for (r,) in drawn if r is not None))
