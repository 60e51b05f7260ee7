"""The comparison of positions: a lake whose agents are biased as planted, its command, its figure, its section."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from affectlake import figures
from affectlake.cli.main import cli
from affectlake.errors import AffectlakeError, FigureError, UsageError
from affectlake.judge.requests.answers import Answer, Reply, answered
from affectlake.judge.responses.position_bias import position_shares
from affectlake.judge.trials.questions import Question
from affectlake.lake import repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.versions import resolve
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.planning import keep_answers, plan_questions
from affectlake.pipelines.outputs import report
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, override
from affectlake.report.order_effects import POSITIONS, compared
from tests.flows.test_chat_lake import odd_of
from tests.report.test_report import make_inputs
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS, build_steps
from tests.support.figures import figure_of

AGENTS = {  # protocol, and the share of answers that name the third position whatever is shown
    "template-1": ("naive-least-similar", 0.6),
    "template-2": ("naive-describe", 0.3),
    "paper": ("describe-then-choose", 0.0),
    "never-asked": ("naive-precautions", 0.0),
}


def says(question: Question, share_third: float) -> str:
    """An answer that names the third position in a share of trials, else the planted odd one."""
    members = (question.i, question.j, question.k)
    shown = [members[member - 1] for member in question.order]
    third = int.from_bytes(question.key[:4], "big") / 2**32 < share_third
    position = 3 if third else shown.index(odd_of(question)) + 1
    return f"1. Video {position} is noticeably different from the other two. 2. The location is Video {position}."


def answer(question: Question, share_third: float) -> Answer:
    return answered(question, Reply(says(question, share_third), "stop", None, 90, 20, 0, "tiny-llama"), 1, 0.5)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published lake with three agents that answered, each asked by a protocol of its own, and one that did not."""
    root = tmp_path_factory.mktemp("positions") / "lake"
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    chat = {name: ENTRY | {"protocol": protocol, "l1": 0.004} for name, (protocol, _) in AGENTS.items()}
    raw["agents"] = {"human-category": raw["agents"]["human-category"]} | chat
    repository.init(root, yaml.safe_dump(raw, sort_keys=False))
    build_steps(root, "ingest", "sample", "decode")
    for name, (_, share) in AGENTS.items():
        for trial_set in ("main", "noise_ceiling") if name != "never-asked" else ():
            plan = plan_questions(root, load(root), name, trial_set)
            with repository.writing(root, "test"):
                keep_answers(root, plan.agent, [answer(q, share) for q in plan.questions()])
    build_steps(root, "choose_by_chat")
    with repository.writing(root, "test"):
        assert repository.publish(root) is not None
    return root


def run(*words: str) -> str:
    found = CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
    return found.stdout


def test_planted_biases_are_found_in_their_order(lake: Path) -> None:
    found = json.loads(run("positions", "--lake", str(lake), "--json"))
    main = {row["agent"]: row for row in found if row["trial_set"] == "main"}
    assert list(main) == ["template-1", "template-2", "paper"]
    thirds = {agent: row["shares"]["third"] for agent, row in main.items()}
    for agent, (_, planted) in AGENTS.items():
        if agent in main:
            expected = planted + (1 - planted) / 3
            assert thirds[agent]["ci_low"] - 0.02 < expected < thirds[agent]["ci_high"] + 0.02
    assert main["template-1"]["p_value"] < 1e-12 < main["paper"]["p_value"]
    assert main["template-1"]["protocol"] == "naive-least-similar/caption/1"


def test_the_numbers_are_those_of_the_choices(lake: Path) -> None:
    """Counted anew from the responses, by the position that each answer names."""
    rows = {(row.agent, row.trial_set): row for row in report.positions(lake).rows}
    for agent in ("template-1", "paper"):
        answers = read_output(lake, Output("responses", agent)).filter(pl.col("trial_set") == "main").collect()
        named = answers["answer"].str.extract(r"^1\. Video (\d)").cast(pl.Int8).to_numpy()
        counted = position_shares(named)
        row = rows[agent, "main"]
        assert row.n == counted.n == 435
        assert [share.value for share in row.shares] == pytest.approx((counted.counts / counted.n).tolist())
        assert (row.chi_square, row.p_value) == pytest.approx((counted.chi_square, counted.p_value))


def test_flips_tell_a_biased_agent_from_a_steady_one(lake: Path) -> None:
    rows = {row.agent: row for row in report.positions(lake).rows if row.trial_set == "noise_ceiling"}
    assert rows["paper"].other_order.value == 0.0
    assert rows["template-1"].other_order.value is not None and rows["template-1"].other_order.value > 0.2
    assert rows["paper"].other_order.n == 10


def test_the_table_says_who_has_not_answered(lake: Path) -> None:
    found = CliRunner().invoke(cli, ("positions", "--lake", str(lake)), catch_exceptions=False, standalone_mode=False)
    assert "no choices yet: never-asked" in found.stderr
    head, *lines = found.stdout.splitlines()
    assert head.split()[:4] == ["set", "agent", "protocol", "n"]
    assert len(lines) == 6
    assert lines[0].startswith("main           template-1")


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_figure_is_drawn(lake: Path, tmp_path: Path, ending: str) -> None:
    place = tmp_path / f"positions.{ending}"
    run("positions", "--lake", str(lake), "--figure", str(place))
    first = place.read_bytes()
    if ending == "svg":
        text = first.decode()
        assert "template-1" in text and "naive-describe/caption/1" in text and "share of choices" in text
    elif ending == "pdf":
        assert first.startswith(b"%PDF-")
    else:
        from io import BytesIO

        from matplotlib.image import imread

        pixels = imread(BytesIO(first))
        assert pixels.shape[1] == 2160 and pixels.std() > 0.05
        names = pixels[120:, :320, :3].mean(axis=2)  # agents and protocols
        assert (names < 0.5).mean() > 0.01
    run("positions", "--lake", str(lake), "--figure", str(place))
    assert place.read_bytes() == first


def test_the_figure_has_the_table_s_shares_and_intervals(lake: Path) -> None:
    figure = figures.order_effects(lake)
    shares, flips = figure.axes
    rows = [row for row in report.positions(lake).rows if row.n]
    assert [text.get_text().split("\n")[0] for text in shares.get_yticklabels()] == [row.agent for row in rows]
    lines = [line for line in shares.lines if line.get_label() in ("first", "second", "third")]
    for at, line in enumerate(lines):
        assert line.get_xdata() == pytest.approx([row.shares[at].value for row in rows])
        ends = [segment[:, 0].tolist() for segment in shares.collections[at].get_segments()]
        assert ends == pytest.approx(np.array([[row.shares[at].ci_low, row.shares[at].ci_high] for row in rows]))
    other = next(line for line in flips.lines if line.get_label() == "other order")
    found = [row.other_order.value for row in rows if row.other_order.value is not None]
    assert other.get_xdata() == pytest.approx(found)
    assert sum(len(note.hints) for note in figure.notes.values()) == 3 * 6 + sum(
        share.value is not None for row in rows for share in (row.other_order, row.same_order)
    )


def test_a_figure_of_another_kind_is_refused(lake: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.svg, \.png, \.pdf"):
        run("positions", "--lake", str(lake), "--figure", str(tmp_path / "positions.docx"))
    with pytest.raises(UsageError, match="cannot be written"):
        run("positions", "--lake", str(lake), "--figure", str(tmp_path / "none" / "positions.svg"))


def test_a_version_without_answers_says_so(published: Path) -> None:
    (published / "params.yaml").write_text(templates.starting_params("demo"))
    with repository.writing(published, "test"):
        repository.publish(published)
    with pytest.raises(AffectlakeError, match="no chat agent has choices in v3"):
        run("positions", "--lake", str(published))


def test_the_report_has_the_section_where_chat_agents_answered(lake: Path) -> None:
    inputs = report.gather(lake, report.resolve(lake, ""))
    page = report.render(inputs)
    assert 'id="order"' in page and "Position bias" in page and 'href="#order"' in page
    section = page[page.index('id="order"') : page.index('class="agent"')]
    assert (
        section.count("<svg") == 1
        and section.count("<tr>") == 7
        and 'aria-label="Chosen positions and flip rates' in section
    )
    assert "template-1, which chooses the third position in" in section
    without = report.render(_without(inputs))
    assert 'id="order"' not in without and 'href="#order"' not in without


def _without(inputs: report.ReportInputs) -> report.ReportInputs:
    from dataclasses import replace

    return replace(inputs, analyses={})


def test_rows_without_a_number_are_drawn_without_it() -> None:
    row = {"agent": "a", "protocol": "p", "trial_set": "main", "ci_low": None, "ci_high": None, "p_value": None}
    rows = [
        row | {"measure": "chosen_first", "value": 1.0, "n": 3},
        row | {"measure": "chi_square", "value": None, "n": 3},
    ]
    effects = pl.DataFrame(rows).with_columns(n=pl.lit(3))
    (one,) = compared(effects)
    assert one.shares[1].value is None and one.other_order.value is None
    inputs = make_inputs(analyses={"order_effects": effects})
    figure = figure_of("order_effects", inputs)
    assert [len(line.get_xdata()) for line in figure.axes[0].lines if line.get_label() in POSITIONS] == [1, 0, 0]
    with pytest.raises(FigureError, match="no chat agent"):
        figure_of("order_effects", make_inputs())


def test_the_report_names_agents_whose_answers_depend_on_the_position(lake: Path) -> None:
    gathered = report.gather(lake, resolve(lake, ""))
    assert list(gathered.verdicts) == ["template-1", "template-2"]
    words = gathered.verdicts["template-1"]
    assert words.startswith("chose position 3 in 7") and words.endswith("they depend on the order shown")
    page = report.write_report(lake).read_text(encoding="utf-8")
    assert page.count(f"template-1 {words}") >= 2  # in the table of results, and at the head of its section
    assert "paper chose position" not in page
