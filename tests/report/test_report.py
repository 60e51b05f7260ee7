"""The report: its numbers are the tables' numbers, it is one safe self-contained file, and it says what is missing."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import polars as pl
import pytest
from markupsafe import escape

from affectlake.report import ReportInputs, VersionFacts, render
from affectlake.report.number_format import NBSP

CATEGORIES, SCALES = ("anger", "fear", "joy"), ("arousal", "valence")
NASTY = (
    '</script><script>alert(1)</script><img src=x onerror=alert(2)> & \u2028 "quoted" {{ 7 * 7 }} https://example.org'
)
VOID = {"meta", "br", "img", "link", "input", "hr"}


def metric_rows(agent: str, seed: int, rng: np.random.Generator, n_dimensions: int) -> Iterator[dict[str, object]]:
    row: dict[str, object] = {
        "agent": agent,
        "seed": seed,
        "dimension": None,
        "rating": None,
        "setting": None,
        "note": None,
    }
    held_out = {"value": 0.98714, "ci_low": 0.98687, "ci_high": 0.98740, "chance": 1 / 3, "p_value": None, "n": 712_533}
    yield row | {"analysis": "held_out", "measure": "accuracy"} | held_out
    for top, value in ((1, 0.61234), (3, 0.98523)):
        found = {
            "value": value,
            "ci_low": value - 0.005,
            "ci_high": value + 0.004,
            "chance": 0.07198,
            "p_value": 1 / 1001,
        }
        yield row | {"analysis": "nearest_centroid", "measure": f"top{top}_accuracy", "n": 2167} | found
    for dimension in range(1, n_dimensions + 1):
        for column, rating in enumerate((*CATEGORIES, *SCALES)):
            r = {(1, 2): 0.961, (2, 0): 0.871, (3, 1): -0.99}.get((dimension, column), rng.uniform(-0.5, 0.5))
            ends = {"value": None if dimension == 4 else r, "ci_low": r - 0.01, "ci_high": min(1.0, r + 0.01)}
            named = {"dimension": dimension, "rating": rating, "chance": None, "p_value": None, "n": 24}
            yield row | {"analysis": "rating_correlation", "measure": "pearson_r"} | named | ends


def fit_tables(agents: tuple[str, ...], n: int, n_dimensions: int) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(0)
    metrics: list[dict[str, object]] = []
    parts: dict[str, list[pl.DataFrame]] = {"embeddings": [], "layouts": [], "learning_curves": []}
    for agent in agents:
        metrics += metric_rows(agent, 0, rng, n_dimensions)
        key = {"agent": agent, "seed": 0}
        weights = {"dimension": np.repeat(np.arange(1, n_dimensions + 1), n), "weight": rng.random(n * n_dimensions)}
        parts["embeddings"].append(
            pl.DataFrame(key | {"stimulus_index": np.tile(np.arange(n), n_dimensions)} | weights)
        )
        parts["layouts"].append(
            pl.DataFrame(key | {"stimulus_index": np.arange(n), "x": rng.normal(size=n), "y": rng.normal(size=n)})
        )
        curve = {"train_loss": [None, 0.5, 0.2], "test_loss": [1.0986, 0.4321, 0.1357]}
        accuracy = {"test_accuracy": [0.3339, 0.9, 0.98714], "n_dimensions": [4, 4, 4], "lapse": [0.0, 0.0, 0.0]}
        parts["learning_curves"].append(pl.DataFrame(key | {"epoch": [0, 1, 2]} | curve | accuracy))
    return {
        "metrics": pl.DataFrame(metrics, infer_schema_length=None).cast({"note": pl.String, "setting": pl.Float64}),
        "representatives": pl.DataFrame({"agent": agents, "seed": [0] * len(agents)}),
        **{name: pl.concat(frames) for name, frames in parts.items()},
    }


def make_inputs(**changes: object) -> ReportInputs:
    n = 24
    rng = np.random.default_rng(1)
    agents = ("human-category", "caption-tfidf")
    names = [f"{at:04d}.mp4" for at in range(n)]
    labels = [None if at == 0 else CATEGORIES[at % 3] for at in range(n)]
    positions = [
        (agent, "cosine", "main", at, n_at, 5) for agent in agents for at, n_at in ((1, 400), (2, 350), (3, 250))
    ]
    inputs = ReportInputs(
        study="emotion",
        synthetic=False,
        version=VersionFacts("v3", "0123456789abcdef" * 2, "2026-11-21T04:10:00+00:00", "Ada", "0.1.0", "choices: new"),
        params={"agents": {agent: {"kind": "ratings"} for agent in agents}, "spose": {"seeds": [0]}},
        tables=pl.DataFrame(
            [("choices", "human-category", 1000, 2, 65_200_000, "77c1a9d4" * 4), ("stimuli", "", n, 1, 900, "ff" * 16)],
            schema=["table", "partition", "n_rows", "n_files", "n_bytes", "digest"],
            orient="row",
        ),
        stimuli=pl.DataFrame(
            {"stimulus_index": range(n), "stimulus_id": names, "category": labels, "n_captions": [2] * n}
        ),
        ratings=pl.DataFrame(
            [
                (at, rating, family, rng.random())
                for at in range(n)
                for family, ratings in (("category", CATEGORIES), ("dimension", SCALES))
                for rating in ratings
            ],
            schema=["stimulus_index", "rating", "family", "score"],
            orient="row",
        ),
        captions=pl.DataFrame(
            [(at, caption, f"caption {caption} of {at}") for at in range(n) for caption in (1, 0)],
            schema=["stimulus_index", "caption_index", "caption"],
            orient="row",
        ),
        exclusions=pl.DataFrame(
            {
                "source": ["ratings"],
                "stimulus_id": ["0859.mp4"],
                "reason": ["duplicate of another video"],
                "n_rows": [1],
            }
        ),
        trial_counts=pl.DataFrame(
            [("main", "train", 6_412_797), ("main", "test", 712_533), ("validation", "test", 214_500)],
            schema=["trial_set", "split", "n_triplets"],
            orient="row",
        ),
        choice_counts=pl.DataFrame(
            positions, schema=["agent", "protocol", "trial_set", "position", "n_choices", "n_tied"], orient="row"
        ),
        **fit_tables(agents, n, 4),
    )
    return replace(inputs, **changes)  # type: ignore[arg-type]


class Page(HTMLParser):
    """Checks that elements close in order; collects text, attributes and the embedded data."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.data = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert len(given) == len(attrs)
        assert not any(name.startswith("on") for name in given)
        self.ids += [str(given["id"])] if "id" in given else []
        self.links += [str(given[name]) for name in ("href", "src", "action", "srcset") if name in given]
        if tag not in VOID:
            self.open.append(tag)
        self.is_data = given.get("id") == "data"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data += data if self.is_data else ""
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def prose(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text).replace(NBSP, " "))


@pytest.fixture(scope="module")
def html() -> str:
    return render(make_inputs())


def test_the_page_is_well_formed_and_its_inner_links_lead_somewhere(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    images = ("data:image/png;base64,", "data:image/webp;base64,")
    own = ("data:text/csv;charset=utf-8;base64,", "data:application/gzip;base64,", *images)
    inner = [link for link in page.links if not link.startswith(own)]
    assert inner and all(link.removeprefix("#") in page.ids for link in inner)
    labelled = re.findall(r'aria-labelledby="([^"]+)"', html)
    assert labelled and set(labelled) <= set(page.ids)
    assert html.count('role="img" aria-label="') == html.count("<svg") - html.count('<svg class="key"')


def test_numbers_are_those_of_the_tables(html: str) -> None:
    prose = Page(html).prose
    for number in (
        "98.71 %",  # held-out accuracy
        "95 % CI 98.69 to 98.74 %",
        "chance 33.33 %",
        "98.52 %",  # top 3
        "95 % CI 98.02 to 98.92 %",
        "chance 7.20 %, p = 0.001",
        "7,339,830",  # triplets
        "2,000",  # choices of both agents
        "65.2 MB",
        "77c1a9d4",
        "0859.mp4",
        "with r above 0.95 for at least one rating is 1; with r above 0.8 it is 2",
        "is that of dimension 3 with fear (r = −0.990, 95 % CI −1.000 to −0.980)",
        "40.0 %, 35.0 % and 25.0 % of cases; 15 choices were ties",
        "from 1.099 to 0.136 nats and the accuracy from 33.39 % to 98.71 %",
        "61.23 % of the 2,167 stimuli",
        "v3",
        "0123456789",
    ):
        assert number in prose, number


def test_embedded_data_are_those_of_the_tables(html: str) -> None:
    inputs = make_inputs()
    data = json.loads(Page(html).data)
    assert data["stimuli"]["id"] == inputs.stimuli["stimulus_id"].to_list()
    assert data["stimuli"]["caption"] == [f"caption 0 of {at}" for at in range(24)]
    names = [data["categories"][at] if at >= 0 else None for at in data["stimuli"]["category"]]
    assert names == inputs.stimuli["category"].to_list()
    heat = data["heat"]["human-category"]
    assert heat["columns"] == [*CATEGORIES, *SCALES]
    assert heat["r"][heat["rows"].index(1)][2] == 961
    assert heat["r"][heat["rows"].index(4)] == [None] * 5
    assert heat["rows"] == [2, 3, 1, 4]  # anger, fear, joy, then the one without correlations
    assert html.count('data-i="') == 2 * 24


def test_same_inputs_same_text_in_any_row_order(html: str) -> None:
    inputs = make_inputs()
    frames = {name: value for name, value in vars(inputs).items() if isinstance(value, pl.DataFrame)}
    assert render(inputs) == html
    assert render(replace(inputs, **{name: frame.reverse() for name, frame in frames.items()})) == html


def test_nothing_comes_from_the_network(html: str) -> None:
    plain = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\((?!#)", plain)
    assert {"link", "img", "iframe", "object", "embed", "form"}.isdisjoint(Page(html).tags)
    assert "default-src 'none'" in html


def test_text_from_data_cannot_become_markup(html: str) -> None:
    plain = make_inputs()
    words = {"title": NASTY, "question": NASTY, "ratings": NASTY, "families": {"category": NASTY}}
    everywhere = {"category": pl.col("category").replace("joy", NASTY)}
    inputs = replace(
        plain,
        study=NASTY,
        version=replace(plain.version, author=NASTY, message=NASTY, name=NASTY, created_iso=NASTY),
        params=dict(plain.params) | {NASTY: {NASTY: [NASTY]}, "wording": words},
        captions=plain.captions.with_columns(caption=pl.lit(NASTY)),
        stimuli=plain.stimuli.with_columns(**everywhere, stimulus_id=pl.col("stimulus_id") + NASTY),
        ratings=plain.ratings.with_columns(rating=pl.col("rating").replace("joy", NASTY)),
        metrics=plain.metrics.with_columns(rating=pl.col("rating").replace("joy", NASTY)),
        exclusions=plain.exclusions.with_columns(reason=pl.lit(NASTY), stimulus_id=pl.lit(NASTY)),
        choice_counts=plain.choice_counts.with_columns(protocol=pl.lit(NASTY), trial_set=pl.lit(NASTY)),
    )
    written = render(inputs)
    page = Page(written)
    assert "img" not in page.tags and page.tags.count("script") == Page(html).tags.count("script")
    assert "49" not in page.prose.replace("{{ 7 * 7 }}", "")
    assert set("<>&").isdisjoint(page.data)
    assert json.loads(page.data)["stimuli"]["caption"][0] == NASTY
    assert NASTY in unescape(written)


def test_the_strongest_stimuli_are_pictures_where_there_are_frames() -> None:
    inputs = make_inputs(embeddings=make_inputs().embeddings.filter(pl.col("agent") == "human-category"))
    strongest = inputs.embeddings.filter(pl.col("dimension") == 1).sort("weight", descending=True)["stimulus_index"][0]
    page = render(replace(inputs, thumbnails={strongest: b"\xff\xd8pixels"}))
    caption = inputs.captions.filter(pl.col("stimulus_index") == strongest).sort("caption_index")["caption"][0]
    data = b64encode(b"\xff\xd8pixels").decode()
    assert f'<img src="data:image/jpeg;base64,{data}" alt="{escape(caption)}"' in page
    assert "<img" not in render(inputs)
    Page(page)


def test_long_captions_are_shortened() -> None:
    inputs = make_inputs()
    long = replace(inputs, captions=inputs.captions.with_columns(caption=pl.lit("word " * 100)))
    caption = json.loads(Page(render(long)).data)["stimuli"]["caption"][0]
    assert len(caption) <= 200 and caption.endswith("word…")


def test_synthetic_data_are_named_as_such_at_every_figure(html: str) -> None:
    assert "SYNTHETIC" not in html
    written = render(make_inputs(synthetic=True))
    assert Page(written).prose.count("synthetic data") == written.count("<figure") > 8
    assert '<div class="banner" role="note"><strong>SYNTHETIC demo data.</strong>' in written
    assert "<title>SYNTHETIC" in written


def test_answers_of_a_real_model_about_synthetic_stimuli_are_named_as_such() -> None:
    def said(**kinds: object) -> str:
        agents = {"human-category": {"kind": "ratings"}, "caption-tfidf": kinds}
        return Page(render(make_inputs(synthetic=True, params={"agents": agents}))).prose

    real = said(kind="chat", servers=["http://127.0.0.1:8000/v1"])
    assert "SYNTHETIC stimuli, answers of a real model." in real and "synthetic stimuli" in real
    assert "those of caption-tfidf were given by a model that was asked" in real
    assert "choice on this page was made by a seeded simulation" not in real and "synthetic data" not in real
    assert "SYNTHETIC stimuli, answers of people." in said(kind="judgments")
    assert "choice on this page was made by a seeded simulation" in said(kind="features")


def test_results_come_before_bookkeeping_and_every_figure_has_an_anchor(html: str) -> None:
    sections = re.findall(r'<section[^>]* id="([^"]+)"', html)
    assert sections[:2] == ["headline", "together"] and sections[-3:] == ["run", "provenance", "files"]
    figures = re.findall(r'<figure class="[^"]+" id="([^"]+)"', html)
    contents = re.search(r'<details class="contents".*?</details>', html, re.DOTALL)
    assert contents is not None and len(figures) > 8
    assert all(f'<a href="#{name}">' in contents[0] for name in figures)
    assert {"all-accuracy", "human-category-heatmap", "caption-tfidf-roses"} <= set(figures)


def test_long_tables_of_numbers_are_compressed(html: str) -> None:
    packed = re.findall(r'download="([^"]+)" href="data:application/gzip;base64,([^"]+)"', html)
    assert all(name.endswith(".csv.gz") for name, _ in packed)
    for _, data in packed:
        rows = pl.read_csv(gzip.decompress(b64decode(data)))
        assert len(rows) > 0


def test_an_agent_without_a_fit_is_said_in_words() -> None:
    inputs = make_inputs()
    gone = {
        name: getattr(inputs, name).filter(pl.col("agent") != "caption-tfidf")
        for name in ("metrics", "embeddings", "layouts", "learning_curves")
    }
    page = Page(render(replace(inputs, **gone)))
    assert page.prose.count("not measured") == 2
    for words in ("no stimulus map of this agent", "no correlations of this agent", "no embedding was fitted"):
        assert page.prose.count(words) == 1


def test_the_agreement_of_participants_is_among_the_numbers() -> None:
    numbers = {"ci_low": 0.6, "ci_high": 0.7, "chance": 1 / 3, "p_value": None, "n": 12, "note": None}
    rows = pl.DataFrame(
        [
            {"agent": "human-category", "measure": "within_participants", "value": 0.654, **numbers},
            {"agent": "human-category", "measure": "between_participants", "value": None, **numbers}
            | {"ci_low": None, "ci_high": None, "note": "no participants are named"},
        ]
    )
    page = Page(render(make_inputs(analyses={"reliability": rows})))
    assert page.prose.count("Agreement within participants") == 1
    assert "65.40" in page.prose and "no participants are named" in page.prose


def test_why_nothing_was_classified_is_said() -> None:
    inputs = make_inputs()
    reason = "1 of the categories have 10 stimuli or more; two are needed"
    top3 = pl.col("measure") == "top3_accuracy"
    metrics = inputs.metrics.with_columns(
        value=pl.when(top3).then(None).otherwise("value"), note=pl.when(top3).then(pl.lit(reason)).otherwise("note")
    )
    page = Page(render(replace(inputs, metrics=metrics)))
    assert page.prose.count(reason) == 3  # in the summary, the section, and in place of the figure


def test_fits_without_weights_and_places_still_have_their_figures() -> None:
    plain = make_inputs()
    page = render(
        make_inputs(
            embeddings=plain.embeddings.with_columns(weight=pl.lit(0.0)),
            layouts=plain.layouts.with_columns(x=pl.lit(0.0), y=pl.lit(0.0)),
            learning_curves=plain.learning_curves.filter(pl.col("epoch") == 0),
            stimuli=plain.stimuli.with_columns(category=pl.lit(None, pl.String)),
        )
    )
    for name in ("roses", "stimulus-map", "learning-curves", "heatmap"):
        assert f'id="human-category-{name}"' in page and f'class="figure-{name}"' in page


def test_a_version_with_nothing_in_it_still_has_a_page() -> None:
    inputs = make_inputs(params={})
    empty = {name: value.clear() for name, value in vars(inputs).items() if isinstance(value, pl.DataFrame)}
    prose = Page(render(replace(inputs, **empty))).prose
    for words in ("This version has no agents", "No triplets were drawn", "No agent has answered", "has no tables"):
        assert words in prose


def test_the_fit_that_stands_for_the_agent_is_shown_and_others_are_its_range() -> None:
    inputs = make_inputs()
    frames = {}
    for name in ("metrics", "embeddings", "learning_curves"):
        frame = getattr(inputs, name)
        frames[name] = pl.concat([frame, frame.with_columns(seed=pl.lit(1, dtype=frame["seed"].dtype))])
    other = (pl.col("seed") == 1) & (pl.col("measure") == "accuracy")
    frames["metrics"] = frames["metrics"].with_columns(value=pl.when(other).then(0.9).otherwise("value"))
    for name in ("layouts", "representatives"):
        frames[name] = getattr(inputs, name).with_columns(seed=pl.lit(1, dtype=pl.Int64))
    prose = Page(render(replace(inputs, **frames))).prose
    assert "90.00 % 95 % CI" in prose and "90.00 % to 98.71 % over 2 seeds" in prose
    assert "seed 1 of 2 fits" in prose


def test_what_a_fit_takes_for_chance_is_said_where_it_was_learned() -> None:
    inputs = make_inputs()
    mine = pl.col("agent") == "human-category"
    learned = inputs.learning_curves.with_columns(lapse=pl.when(mine).then(0.0987).otherwise("lapse"))
    for curves, n in ((learned, 1), (inputs.learning_curves, 0), (inputs.learning_curves.drop("lapse"), 0)):
        prose = Page(render(replace(inputs, learning_curves=curves))).prose
        assert prose.count("estimates that 9.87 % of the judgments were made by chance") == n


def test_choices_of_agents_that_were_asked_are_not_called_simulated() -> None:
    prose = Page(
        render(make_inputs(params={"agents": {"human-category": {"kind": "chat"}, "caption-tfidf": {}}}))
    ).prose
    assert "was not shown stimuli in any order" not in prose
    assert "language model" in prose and "unknown kind" in prose


@pytest.mark.parametrize(
    ("entry", "is_simulated"),
    [
        ({"kind": "ratings"}, True),
        ({"kind": "random"}, True),  # a kind that the report was never told of
        ({"kind": "chat", "servers": ["http://127.0.0.1:8000/v1"]}, False),
        ({"kind": "llm", "servers": ["http://127.0.0.1:8000/v1"]}, False),
        ({}, False),
    ],
)
def test_every_agent_that_was_asked_nothing_has_its_chosen_positions(
    entry: dict[str, object], is_simulated: bool
) -> None:
    page = render(make_inputs(params={"agents": {"human-category": entry, "caption-tfidf": {"kind": "chat"}}}))
    assert ("was not shown stimuli in any order" in page) is is_simulated


def test_print_hides_no_part_of_a_figure(html: str) -> None:
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    printed = style[1].split("@media print", 1)[1]
    hidden = [rule.strip() for rules in re.findall(r"([^{}]+){ display: none; }", printed) for rule in rules.split(",")]
    used = {
        name
        for drawn in re.findall(r"<svg.*?</svg>", html, re.DOTALL)
        for name in re.findall(r'class="([^"]+)"', drawn)
    }
    classes = {name for names in used for name in names.split()}
    wanted = [".sections", ".skip", "#tip", ".chooser", ".rows", ".live", ".switch"]
    assert hidden == wanted and "bar" in classes
    assert classes.isdisjoint(rule.removeprefix(".") for rule in hidden)


def test_templates_are_package_data() -> None:
    folder = resources.files("affectlake.report") / "templates"
    wanted = {"comparison.html.j2", "page.html.j2", "page.js", "style.css", "viewer.js"}
    assert {one.name for one in folder.iterdir()} == wanted
