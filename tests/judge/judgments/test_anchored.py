"""Exports of Salmon and tripletTools: the same judgments from each layout, and a reason for each unusable row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.errors import SourceError
from affectlake.judge.judgments.layouts import read_raw
from affectlake.judge.judgments.options import ReadingOptions
from affectlake.judge.judgments.resolving import SHOWN, Judgments, resolve
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.settings import Settings
from affectlake.user_tables.catalogue import Catalogue

NAMES = ["ant.png", "bee.png", "cat.png", "dog.png"]
ANSWERS = [  # head, left, right, winner, participant, seconds
    (0, 1, 2, 1, "p-1", 1.25),
    (3, 0, 2, 2, "p-1", 0.9),
    (2, 3, 1, 3, "p-2", 2.5),
]


def salmon_records() -> list[dict[str, object]]:
    """Records with the keys of Salmon's /responses."""
    records = []
    for n, (head, left, right, winner, participant, seconds) in enumerate(ANSWERS):
        loser = right if winner == left else left
        record: dict[str, object] = {
            "head": head, "winner": winner, "left": left, "right": right, "puid": participant,
            "response_time": seconds, "network_latency": 0.03, "time_received": 1.6e9 + n, "loser": loser,
            "start_time": 1.6e9, "alg_ident": "RandomSampling", "score": -9999,
            "time_received_since_start": 10.0 * n, "datetime_received": "2020-09-13T12:26:40",
        }  # fmt: skip
        for role, at in {"head": head, "left": left, "right": right, "winner": winner, "loser": loser}.items():
            record[f"{role}_html"] = f'<img src="/static/targets/set 1/{NAMES[at]}"/>'.replace(" 1", "1")
            record[f"{role}_filename"] = NAMES[at]
        records.append(record)
    return records


def triplettools_table() -> pl.DataFrame:
    """Columns of tripletTools' cleaned data."""
    names = [name.removesuffix(".png") for name in NAMES]
    rows = [
        {
            "head": head, "winner": winner, "loser": right if winner == left else left, "worker_id": participant,
            "rt": round(1000 * seconds), "Center": names[head], "Left": names[left], "Right": names[right],
            "Answer": names[winner], "sampleAlg": "random", "sampleSet": "train",
        }
        for head, left, right, winner, participant, seconds in ANSWERS
    ]  # fmt: skip
    return pl.DataFrame(rows)


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, ids: list[str] = NAMES, **options: object) -> Judgments:
    catalogue, wanted = Catalogue(ids), ReadingOptions(task="anchored", **options)  # type: ignore[arg-type]
    return resolve(read_raw(path, wanted, catalogue), wanted, catalogue)


def rows_of(found: Judgments) -> list[tuple[object, ...]]:
    assert found.bad.is_empty(), found.bad
    return found.frame.select(*SHOWN, "chosen", "participant", "response_ms").rows()


WANTED = [(*answer[:5], 1000 * answer[5]) for answer in ANSWERS]


def test_salmon_s_csv_and_json_are_the_same_judgments(tmp_path: Path) -> None:
    records = salmon_records()
    of_csv = read(written(tmp_path, "responses.csv", pl.DataFrame(records).write_csv()))
    of_json = read(written(tmp_path, "responses.json", json.dumps(records)))
    assert of_csv.raw.layout == of_json.raw.layout == "salmon"
    assert rows_of(of_csv) == rows_of(of_json) == WANTED
    assert of_csv.frame["source_row"].to_list() == of_json.frame["source_row"].to_list() == [1, 2, 3]
    assert of_csv.frame["asked_at"].to_list() == ["2020-09-13T12:26:40.000"] * 3
    assert of_csv.frame["answer"].to_list() == ["bee.png", "cat.png", "dog.png"]
    assert of_csv.raw.order_known
    assert not of_csv.frame["is_catch"].any()


@pytest.mark.parametrize("dropped", [["_filename"], ["_filename", "loser"], ["loser"]])
def test_names_from_html_and_losers_from_sides(tmp_path: Path, dropped: list[str]) -> None:
    """Earlier releases of Salmon export neither file names nor losers."""
    kept = [
        {key: value for key, value in one.items() if not any(part in key for part in dropped)}
        for one in salmon_records()
    ]
    assert rows_of(read(written(tmp_path, "responses.json", json.dumps(kept)))) == WANTED


def test_numbers_of_another_tool_are_not_ids(tmp_path: Path) -> None:
    """Salmon counts its own list of targets from 0: 1 is not the stimulus 0001."""
    ids = [f"{at:04d}.png" for at in range(1, 9)]
    bare = [
        {key: value for key, value in one.items() if not key.endswith(("_filename", "_html"))}
        for one in salmon_records()
    ]
    path = written(tmp_path, "bare.json", json.dumps(bare))
    with pytest.raises(SourceError, match=r"column 'head' of .* does not name stimuli of the catalogue") as caught:
        read(path, ids)
    assert "'0001.png'" in caught.value.wanted and "numbers of stimuli" in caught.value.wanted
    with pytest.raises(SourceError, match="does not name stimuli"):
        read(path, ["1", "2", "3", "4"])  # ids from 1, and numbers from 0
    named = {"head": "head", "left": "left", "right": "right", "winner": "winner"}
    shifted = [{**one, **{key: int(str(one[key])) + 1 for key in named}} for one in bare]
    path = written(tmp_path, "own.json", json.dumps(shifted))
    assert rows_of(read(path, ids, columns=named)) == WANTED  # here the user says that they are


def test_numbers_are_ids_in_other_files_if_all_of_them_are(tmp_path: Path) -> None:
    path = written(tmp_path, "plain.csv", "head,winner,loser\n3,1,2\n1,4,3\n")
    assert rows_of(read(path, ["1", "2", "3", "4"]))[0][:4] == (2, 0, 1, 0)
    with pytest.raises(SourceError, match="does not name stimuli"):
        read(path, ["1", "2", "3", "5"])


def test_a_slash_in_a_text_is_not_a_folder(tmp_path: Path) -> None:
    record = salmon_records()[0]
    shown = {"head": "his/her", "left": "<b>a/b</b>", "winner": "<b>a/b</b>", "right": "c", "loser": "c"}
    for role, name in shown.items():
        record |= {f"{role}_filename": name, f"{role}_html": name}
    found = read(written(tmp_path, "responses.json", json.dumps([record])), ["c", "<b>a/b</b>", "his/her"])
    assert rows_of(found)[0][:4] == (2, 1, 0, 1)


def test_triplettools_csv_in_milliseconds(tmp_path: Path) -> None:
    table = triplettools_table()
    found = read(written(tmp_path, "clean.csv", table.write_csv()))
    assert found.raw.layout == "triplettools" and rows_of(found) == WANTED
    assert "matched by the name of the file without its extension" in " ".join(_notes(table, tmp_path))
    legacy = table.select(
        pl.col("worker_id").alias("Participant.ID"), pl.col("Center").alias("target"), pl.col("Left").alias("Option1"),
        pl.col("Right").alias("option_2"), pl.col("Answer").alias("primary"), pl.col("rt").alias("RT"),
    )  # fmt: skip
    for separator, prefix in ((",", b""), (";", b"\xef\xbb\xbf"), ("\t", b"")):
        text = legacy.write_csv(separator=separator).replace("\n", "\r\n").encode()
        path = written(tmp_path, "legacy.csv", prefix + text + b"\r\n")
        assert rows_of(read(path)) == WANTED


def _notes(table: pl.DataFrame, tmp_path: Path) -> list[str]:
    catalogue, wanted = Catalogue(NAMES), ReadingOptions(task="anchored")
    resolve(read_raw(written(tmp_path, "clean.csv", table.write_csv()), wanted, catalogue), wanted, catalogue)
    return catalogue.notes()


def test_winners_and_losers_without_sides_have_no_order(tmp_path: Path) -> None:
    table = triplettools_table()
    losers = [NAMES[right if winner == left else left] for _, left, right, winner, _, _ in ANSWERS]
    plain = table.select("worker_id", pl.col("Center").alias("head"), pl.col("Answer").alias("winner"),
                         pl.Series("loser", losers))  # fmt: skip
    found = read(written(tmp_path, "plain.csv", plain.write_csv()))
    assert not found.raw.order_known
    wanted = [(head, min(a, b), max(a, b), winner) for head, a, b, winner, *_ in ANSWERS]
    assert [row[:4] for row in rows_of(found)] == wanted
    assert found.frame["response_ms"].null_count() == 3


@pytest.mark.parametrize("answers", [["left", "right", "left"], ["1", "2", "1"]])
def test_winners_are_named_by_their_side(tmp_path: Path, answers: list[str]) -> None:
    table = triplettools_table().with_columns(pl.Series("Answer", answers)).drop("head", "winner", "loser")
    assert rows_of(read(written(tmp_path, "sides.csv", table.write_csv()))) == WANTED


def test_attention_checks_may_repeat_the_head(tmp_path: Path) -> None:
    first = pl.int_range(pl.len()) == 0
    table = triplettools_table().with_columns(
        Left=pl.when(first).then(pl.col("Center")).otherwise("Left"),
        Answer=pl.when(first).then(pl.col("Center")).otherwise("Answer"),
    )
    found = read(written(tmp_path, "clean.csv", table.write_csv()))
    assert found.bad.rows() == [(1, "a stimulus is in the triplet twice")]
    checked = table.with_columns(sampleAlg=pl.when(first).then(pl.lit("check")).otherwise("sampleAlg"))
    found = read(written(tmp_path, "clean.csv", checked.write_csv()))
    assert found.frame.select("is_catch", "right_answer").rows() == [(True, 0), (False, None), (False, None)]
    assert rows_of(found)[0][:4] == (0, 0, 2, 0)
    failed = checked.with_columns(Answer=pl.when(first).then(pl.col("Right")).otherwise("Answer"))
    found = read(written(tmp_path, "clean.csv", failed.write_csv()))
    assert found.frame.row(0, named=True)["chosen"] == 2
    same = checked.with_columns(Right=pl.when(first).then(pl.col("Center")).otherwise("Right"))
    found = read(written(tmp_path, "clean.csv", same.write_csv()))
    assert found.bad.rows() == [(1, "the two stimuli beside the head are the same")]


def test_catch_trials_in_a_column_that_the_user_names(tmp_path: Path) -> None:
    table = triplettools_table().with_columns(attention=pl.Series(["yes", "no", "no"]))
    found = read(written(tmp_path, "clean.csv", table.write_csv()), columns={"catch": "attention"})
    assert found.frame["is_catch"].to_list() == [True, False, False]


CHANGES = {
    "winner_filename": ("eel.png", "the winner eel.png is not one of the two stimuli beside the head"),
    "loser_filename": ("bee.png", "the loser bee.png is not the other stimulus"),
    "right_filename": ("", "right is empty"),
    "head_filename": ("eel.png", "the stimulus eel.png is not in the catalogue"),
    "left_filename": ("dog.png", "the loser ant.png is not the other stimulus"),
    "response_time": ("soon", "the response time soon is not a number of seconds or ms"),
}


@pytest.mark.parametrize("column", CHANGES)
def test_rows_that_cannot_be_used_have_a_reason(tmp_path: Path, column: str) -> None:
    value, why = CHANGES[column]
    changed = pl.DataFrame(salmon_records()).with_columns(pl.col(column).cast(pl.String))
    values = changed[column].to_list()
    values[1] = value
    path = written(tmp_path, "responses.csv", changed.with_columns(pl.Series(column, values)).write_csv())
    found = read(path)
    assert found.bad.rows() == [(2, why)]
    assert [row[:4] for row in found.frame.select(*SHOWN, "chosen").rows()] == [WANTED[0][:4], WANTED[2][:4]]


def test_missing_times_are_null(tmp_path: Path) -> None:
    table = triplettools_table().with_columns(pl.Series("rt", ["NA", "", "900"]))
    found = read(written(tmp_path, "clean.csv", table.write_csv()))
    assert found.frame["response_ms"].to_list() == [None, None, 900]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "head,winner\nant,bee\n", r"a\.csv has no anchored triplets"),
        ("a.csv", "i,j,k,odd\nant,bee,cat,cat\n", r"a\.csv has no anchored triplets"),
        ("a.csv", "head,winner,loser,head\nant,bee,cat,dog\n", r"columns of the same name"),
        ("a.csv", "head,winner,loser\n", r"has a header but no rows"),
        ("a.csv", "", r"is empty"),
        ("a.json", "head,winner", r"cannot be read as JSON"),
        ("a.csv", b"head,winner,loser\n\xff,2,3\n", r"is not UTF-8 text"),
        ("a.csv", "head,winner,loser\nx,y,z\n", r"does not name stimuli of the catalogue"),
    ],
)
def test_other_files_are_one_message(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read(written(tmp_path, name, content))


def test_anchored_triplets_are_never_read_as_odd_one_out_judgments(tmp_path: Path) -> None:
    for name, table in (("salmon", pl.DataFrame(salmon_records())), ("triplettools", triplettools_table())):
        path = written(tmp_path, f"{name}.csv", table.write_csv())
        with pytest.raises(SourceError, match="has anchored triplets, which are not odd-one-out judgments"):
            read_raw(path, ReadingOptions(), Catalogue(NAMES))


def test_from_an_export_to_the_planted_dimensions(tmp_path: Path) -> None:
    """Two groups of stimuli with a dimension each, judged without noise; the winner is on either side."""
    rng = np.random.default_rng(0)
    truth = np.zeros((20, 2))
    truth[:10, 0], truth[10:, 1] = rng.uniform(1, 4, (2, 10))
    names = [f"stimulus-{n:02d}.mp4" for n in rng.permutation(20)]
    shown = np.array([rng.choice(20, 3, replace=False) for _ in range(8_000)])
    head, left, right = shown.T
    of_left = (truth[head] * (truth[left] - truth[right])).sum(axis=1)
    decided = of_left != 0
    head, left, right = shown[decided].T
    sides = {"head": head, "left": left, "right": right, "winner": np.where(of_left[decided] > 0, left, right)}
    table = pl.DataFrame(
        {f"{role}_src": [f"/targets/{names[at]}" for at in one] for role, one in sides.items()} | sides
    )
    path = written(tmp_path, "responses.csv", table.with_columns(puid=pl.lit("p")).write_csv())
    found = read(path, names).frame
    assert (found["chosen"] == found["shown_2"]).to_list() == (of_left[decided] > 0).tolist()
    others = found["shown_2"] + found["shown_3"]
    judged = np.stack([found["shown_1"], found["chosen"], others - found["chosen"]], axis=1)
    data = training_data(judged[500:].astype(np.int32), judged[:500].astype(np.int32), 20, rng, "anchored")
    settings = Settings(l1=0.01, dimensions=6, batch_size=128, learning_rate=0.01, max_epochs=60, init_std=0.1)
    fitted = fit(data, settings, rng)
    assert fitted.score.accuracy > 0.97
    r = np.corrcoef(truth, fitted.weights, rowvar=False)[:2, 2:]
    assert r.max(axis=1).min() > 0.9
