"""What the pages show, compared with the tables; versions of older code; pages that are cut by position."""

from __future__ import annotations

import csv
import io
import re
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

from affectlake.lake.open import open_lake
from affectlake.ui.index import Index, Indexes
from affectlake.ui.judgments import Filter, page_of
from affectlake.ui.opened import OpenVersion, Versions
from tests.support.pages import entered
from tests.support.planted import SCRIPT, caption_of

LINK = re.compile(r'(?:href|src)="(/[^"]*)"')


def opened(lake: Path, at: str = "") -> tuple[OpenVersion, Index]:
    version = Versions(lake).at(at)
    index = Indexes().of(version)
    assert index is not None
    return version, index


@pytest.mark.parametrize("at", ["v1", "v2", "v5"])
def test_every_page_of_an_old_version_can_be_shown(old: Path, at: str) -> None:
    client = entered(old)
    to_visit, seen = [f"/?at={at}"], dict[str, int]()
    while to_visit:
        address = to_visit.pop(0)
        page = address.partition("?")[0]
        if seen.get(page, 0) >= 4:  # of each kind
            continue
        seen[page] = seen.get(page, 0) + 1
        answer = client.get(address)
        assert answer.status_code == 200, (address, answer.text[-400:])
        if "html" in answer.headers["content-type"]:
            to_visit += [unescape(found) for found in LINK.findall(answer.text) if found not in to_visit]
    pages = {"/", "/judgments", "/judgment", "/stimuli", "/stimulus", "/similarity", "/versions", "/stages", "/sql"}
    assert pages | {"/collections", "/frame", "/matrix", "/compare"} <= set(seen)


@pytest.mark.parametrize(
    "wanted",
    [Filter(), Filter(agent="tiny"), Filter(outcome="none"), Filter(stimulus=4), Filter(agreement="differ"),
     Filter(agent="tiny", stimulus=3, agreement="agree"), Filter(trial_set="noise_ceiling")],
)  # fmt: skip
def test_pages_forwards_and_backwards_have_each_judgment_once(old: Path, wanted: Filter) -> None:
    _, index = opened(old)
    pages, after = [], -1
    while True:
        page = page_of(index, wanted, after=after, size=50)
        pages.append([row["place"] for row in page.rows])
        if page.after is None:
            break
        after = page.after
    places = [place for some in pages for place in some]
    assert len(places) == page.n == len(set(places)) > 0 and places == sorted(places)
    for at in range(len(pages) - 1, 0, -1):
        back = page_of(index, wanted, before=pages[at][0], size=50)
        assert [row["place"] for row in back.rows] == pages[at - 1]
        assert (back.before is None) == (at == 1)


def test_judgments_are_those_of_the_tables(old: Path) -> None:
    _, index = opened(old, "v5")
    lake = open_lake(old)
    where = "trial_set, i, j, k, agent, protocol, repeat"
    chosen = lake.sql(f"SELECT {where}, odd FROM choices ORDER BY ALL").fetchall()
    assert len(chosen) > 1000
    columns = f"SELECT {where}, odd FROM judgments WHERE reason IS NULL ORDER BY ALL"
    assert [tuple(row.values()) for row in index.rows(columns, [])] == chosen
    unread = lake.sql(f"SELECT {where}, unparsed_reason FROM unparsed ORDER BY ALL").fetchall()
    columns = f"SELECT {where}, reason FROM judgments WHERE reason IS NOT NULL AND reason <> 'no_choice' ORDER BY ALL"
    assert [tuple(row.values()) for row in index.rows(columns, [])] == unread
    differs = lake.sql(
        "SELECT i, j, k FROM choices GROUP BY ALL HAVING count(DISTINCT odd) > 1 ORDER BY ALL"
    ).fetchall()
    columns = "SELECT DISTINCT i, j, k FROM judgments WHERE differs ORDER BY ALL"
    assert [tuple(row.values()) for row in index.rows(columns, [])] == differs


def test_answers_without_choices_yet_are_shown_as_such(old: Path) -> None:
    _, index = opened(old, "v2")  # answers were published, and `affectlake run` was not run
    page = page_of(index, Filter(agent="tiny"))
    assert page.n > 300 and {row["reason"] for row in page.rows} <= {"no_choice", "error"}


def test_a_judgment_shows_the_prompt_the_marked_answer_and_what_others_chose(planted: Path) -> None:
    client = entered(planted)
    key = {"agent": "tiny", "set": "main", "protocol": "", "i": 0, "j": 1, "k": 2, "repeat": 0}
    row = next(
        r for r in page_of(opened(planted)[1], Filter(agent="tiny")).rows if (r["i"], r["j"], r["k"]) == (0, 1, 2)
    )
    key["protocol"] = row["protocol"]
    text = client.get("/judgment", params=key).text
    assert "<mark>Video 1</mark>" in text and "<mark>noticeably different</mark>" in text
    assert "[Video_1: planted-caption-0-‹script›" in text.replace("&#39;", "'")  # neutralised, as it was sent
    assert "other" in text and re.search(r'<tr><th scope="row">other.*?<b>1</b>', text)
    assert client.get("/judgment", params=key | {"k": 3}).status_code == 200
    assert client.get("/judgment", params=key | {"agent": "nemo"}).status_code == 404


def test_captions_and_answers_are_texts_on_every_page(planted: Path) -> None:
    client = entered(planted)
    asked = "SELECT caption, '<script>' AS \"<b>\" FROM captions"
    pages = [client.get(path) for path in ("/judgments", "/stimuli", "/stimulus?index=2", f"/stimuli?q={SCRIPT}")]
    pages.append(client.post("/sql", content=urlencode({"sql": asked})))
    pages.append(client.get("/judgments", params={"stimulus": SCRIPT}))
    for page in pages:
        assert SCRIPT not in page.text and "<script>document" not in page.text
        assert page.text.count("<script") == 1 and "&lt;script&gt;" in page.text


def test_sql_gives_rows_and_all_rows_as_csv(planted: Path) -> None:
    client = entered(planted)
    sql = "SELECT stimulus_index, caption FROM captions ORDER BY 1"
    assert "planted-caption-11" in client.post("/sql", content=urlencode({"sql": sql})).text
    answer = client.post("/sql.csv", content=urlencode({"sql": sql, "at": "v1"}))
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == ["stimulus_index", "caption"]
    assert [row[1] for row in rows[1:]] == [caption_of(at) for at in range(12)]
    many = client.post("/sql", content=urlencode({"sql": "SELECT * FROM range(5000)"})).text
    assert "The first 200 rows" in many


def test_neighbours_and_dimensions_are_those_of_the_embedding(old: Path) -> None:
    from affectlake.ui.stimulus import places_of

    version, _ = opened(old)
    place = next(one for one in places_of(version, version.stimulus(3)) if one.agent == "human-category")
    rsm = open_lake(old).rsm("human-category")[3]
    order = [int(at) for at in np.argsort(-rsm, kind="stable") if at != 3]
    assert [near.stimulus.index for near in place.neighbours] == order[:8]
    weights = open_lake(old).embedding("human-category")[3]
    assert place.weights[0].dimension == int(weights.argmax()) + 1
    assert place.weights[0].weight == pytest.approx(float(weights.max()))


def test_measured_similarities_are_those_that_the_metrics_compare(old: Path) -> None:
    from affectlake.ui.similarity import agreement, matrices, order_of

    version, _ = opened(old)
    found = matrices(version, "human-dimension")
    assert [one.kind for one in found] == ["predicted", "measured", "expected"]
    assert len(found[1].stimuli) == 3  # one prototype of each category
    sql = "SELECT value FROM metrics WHERE analysis = 'generalisation' AND agent = 'human-dimension'"
    values = [value for (value,) in open_lake(old).sql(sql).fetchall()]
    assert any(value == pytest.approx(agreement(found), abs=1e-6) for value in values)
    for order in ("similarity", "category", "index"):
        assert sorted(order_of(version, order)) == list(range(30))


def test_the_timeline_has_names_and_notes_and_versions_are_compared(old: Path) -> None:
    from affectlake.lake.store.version_names import add_name, remove_name
    from affectlake.lake.store.versions import resolve

    add_name(old, "submitted", resolve(old, "v4").commit, "to <b>the</b> journal")
    try:
        client = entered(old)
        text = client.get("/versions").text
        assert "submitted" in text and "to &lt;b&gt;the&lt;/b&gt; journal" in text
        assert "v4 of demo" in client.get("/?at=submitted").text
        rows = client.get("/compare?before=v1&after=v2").text
        assert "responses/tiny" in rows and '<td class="num">380</td>' in rows
    finally:
        remove_name(old, "submitted")


def test_a_damaged_table_is_named_and_other_pages_work(old: Path, tmp_path: Path) -> None:
    import shutil

    lake = shutil.copytree(old, tmp_path / "lake", symlinks=True)
    version = Versions(lake).at("v1")
    (file,) = version.manifest.files(version.outputs["captions"][0])
    file.cached.chmod(0o644)
    file.cached.write_bytes(b"damaged")
    client = entered(lake)
    assert "captions cannot be read" in client.get("/?at=v1").text
    assert client.get("/stimulus?at=v1&index=1").status_code == 200
