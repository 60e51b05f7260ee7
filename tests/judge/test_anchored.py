"""Exports of Salmon and tripletTools: the same judgments from each layout, and what is refused, with row and column."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.errors import SourceError
from affectlake.judge.anchored import AnchoredJudgments, read_anchored
from affectlake.spose.data import training_data
from affectlake.spose.fitting import fit
from affectlake.spose.settings import Settings

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


def read_rows(found: AnchoredJudgments) -> list[tuple[object, ...]]:
    columns = ("head", "winner", "loser", "winner_position", "participant", "response_time_s")
    return found.frame.select(columns).rows()


WANTED = [
    ("ant.png", "bee.png", "cat.png", 1, "p-1", 1.25),
    ("dog.png", "cat.png", "ant.png", 2, "p-1", 0.9),
    ("cat.png", "dog.png", "bee.png", 1, "p-2", 2.5),
]
BARE = [tuple(str(one).removesuffix(".png") if isinstance(one, str) else one for one in row) for row in WANTED]


def test_salmon_s_csv_and_json_are_the_same_judgments(tmp_path: Path) -> None:
    records = salmon_records()
    of_csv = read_anchored(written(tmp_path, "responses.csv", pl.DataFrame(records).write_csv()))
    of_json = read_anchored(written(tmp_path, "responses.json", json.dumps(records)))
    assert of_csv.layout == of_json.layout == "salmon"
    assert read_rows(of_csv) == read_rows(of_json) == WANTED
    assert of_csv.frame["received_s"].to_list() == of_json.frame["received_s"].to_list() == [0.0, 10.0, 20.0]
    assert of_csv.frame["row"].to_list() == of_json.frame["row"].to_list() == [1, 2, 3]
    assert not of_csv.frame["catch"].any()


@pytest.mark.parametrize("dropped", [["_filename"], ["_filename", "loser"], ["loser"]])
def test_names_from_html_and_losers_from_sides(tmp_path: Path, dropped: list[str]) -> None:
    """Earlier releases of Salmon export neither file names nor losers."""
    kept = [
        {key: value for key, value in one.items() if not any(part in key for part in dropped)}
        for one in salmon_records()
    ]
    assert read_rows(read_anchored(written(tmp_path, "responses.json", json.dumps(kept)))) == WANTED


def test_numbers_on_request_and_where_there_are_no_names(tmp_path: Path) -> None:
    records = salmon_records()
    path = written(tmp_path, "responses.json", json.dumps(records))
    bare = [{key: value for key, value in one.items() if not key.endswith(("_filename", "_html"))} for one in records]
    numbers = [tuple(str(NAMES.index(str(one))) for one in row[:3]) for row in WANTED]
    for found in (read_anchored(path, "number"), read_anchored(written(tmp_path, "bare.json", json.dumps(bare)))):
        assert [row[:3] for row in read_rows(found)] == numbers
    table = written(tmp_path, "clean.csv", triplettools_table().write_csv())
    assert [row[:3] for row in read_rows(read_anchored(table, "number"))] == numbers


def test_a_slash_in_a_text_is_not_a_folder(tmp_path: Path) -> None:
    record = salmon_records()[0]
    shown = {"head": "his/her", "left": "<b>a/b</b>", "winner": "<b>a/b</b>", "right": "c", "loser": "c"}
    for role, name in shown.items():
        record |= {f"{role}_filename": name, f"{role}_html": name}
    found = read_anchored(written(tmp_path, "responses.json", json.dumps([record])))
    assert read_rows(found)[0][:3] == ("his/her", "<b>a/b</b>", "c")


def test_triplettools_csv_in_milliseconds(tmp_path: Path) -> None:
    table = triplettools_table()
    found = read_anchored(written(tmp_path, "clean.csv", table.write_csv()))
    assert found.layout == "triplettools" and read_rows(found) == BARE
    legacy = table.select(
        pl.col("worker_id").alias("Participant.ID"), pl.col("Center").alias("target"), pl.col("Left").alias("Option1"),
        pl.col("Right").alias("option_2"), pl.col("Answer").alias("primary"), pl.col("rt").alias("RT"),
    )  # fmt: skip
    for separator, prefix in ((",", b""), (";", b"\xef\xbb\xbf"), ("\t", b"")):
        text = legacy.write_csv(separator=separator).replace("\n", "\r\n").encode()
        assert read_rows(read_anchored(written(tmp_path, "legacy.csv", prefix + text + b"\r\n"))) == BARE
    of_numbers = table.select("worker_id", "head", "winner", "loser", "sampleSet")
    found = read_anchored(written(tmp_path, "triplets.csv", of_numbers.write_csv()))
    assert [row[:4] for row in read_rows(found)] == [
        (*(str(NAMES.index(str(one))) for one in row[:3]), None) for row in WANTED
    ]
    assert found.frame["response_time_s"].null_count() == 3


def test_attention_checks_may_repeat_the_head(tmp_path: Path) -> None:
    table = triplettools_table().with_columns(
        Left=pl.when(pl.int_range(pl.len()) == 0).then(pl.col("Center")).otherwise("Left"),
        Answer=pl.when(pl.int_range(pl.len()) == 0).then(pl.col("Center")).otherwise("Answer"),
    )
    path = written(tmp_path, "clean.csv", table.write_csv())
    with pytest.raises(SourceError, match=r"clean\.csv, row 1: the head is one of the two stimuli beside it"):
        read_anchored(path)
    checked = table.with_columns(
        sampleAlg=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("check")).otherwise("sampleAlg")
    )
    found = read_anchored(written(tmp_path, "clean.csv", checked.write_csv()))
    assert found.frame["catch"].to_list() == [True, False, False]
    assert read_rows(found)[0][:4] == ("ant", "ant", "cat", 1)


CHANGES = {
    "winner_filename": ("ant.png", r"row 2: the winner is neither the left nor the right stimulus", "'ant.png'"),
    "loser_filename": ("bee.png", r"row 2: the loser is not the other stimulus", "'bee.png'"),
    "right_filename": ("", r"row 2: column 'right_filename' is empty", "nothing"),
    "response_time": ("soon", r"row 2: column 'response_time' is not a time", "'soon'"),
    "time_received_since_start": ("-1", r"row 2: column 'time_received_since_start' is not a time", "'-1'"),
}


@pytest.mark.parametrize("column", CHANGES)
def test_the_row_and_the_column_of_what_is_refused(tmp_path: Path, column: str) -> None:
    value, words, found = CHANGES[column]
    changed = pl.DataFrame(salmon_records()).with_columns(pl.col(column).cast(pl.String))
    values = changed[column].to_list()
    values[1] = value
    if column == "winner_filename":
        changed = changed.with_columns(pl.Series("left_filename", ["bee.png", "bee.png", "dog.png"]))
    path = written(tmp_path, "responses.csv", changed.with_columns(pl.Series(column, values)).write_csv())
    with pytest.raises(SourceError, match=words) as caught:
        read_anchored(path)
    assert caught.value.found == found


def test_missing_times_are_null(tmp_path: Path) -> None:
    table = triplettools_table().with_columns(pl.Series("rt", ["NA", "", "900"]))
    found = read_anchored(written(tmp_path, "clean.csv", table.write_csv()))
    assert found.frame["response_time_s"].to_list() == [None, None, 0.9]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "head,winner\n1,2\n", r"a\.csv has no anchored triplets"),
        ("a.csv", "i,j,k,odd\n1,2,3,3\n", r"a\.csv has no anchored triplets"),
        ("a.csv", "head,winner,loser\n1,2,3\n1,2\n", r"a\.csv, row 2: column 'loser' is empty"),
        ("a.csv", "head,winner,loser,head\n1,2,3,4\n", r"columns of the same name"),
        ("a.csv", "head,winner,loser\n", r"has a header but no rows"),
        ("a.csv", "", r"is empty"),
        ("a.csv", "head,winner,loser\n1,2,2\n", r"row 1: the winner is the loser"),
        ("a.json", '{"head": 1}', r"a\.json has no anchored triplets"),
        ("a.json", "head,winner", r"cannot be read as JSON"),
        ("a.csv", b"head,winner,loser\n\xff,2,3\n", r"is not UTF-8 text"),
    ],
)
def test_other_files_are_one_message(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read_anchored(written(tmp_path, name, content))


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
    found = read_anchored(path).frame
    assert found["winner_position"].to_list() == np.where(of_left[decided] > 0, 1, 2).tolist()
    indices = {name: at for at, name in enumerate(names)}
    judged = np.stack([found[role].replace_strict(indices).to_numpy() for role in ("head", "winner", "loser")], axis=1)
    data = training_data(judged[500:].astype(np.int32), judged[:500].astype(np.int32), 20, rng, "anchored")
    settings = Settings(l1=0.01, dimensions=6, batch_size=128, learning_rate=0.01, max_epochs=60, init_std=0.1)
    fitted = fit(data, settings, rng)
    assert fitted.score.accuracy > 0.97
    r = np.corrcoef(truth, fitted.weights, rowvar=False)[:2, 2:]
    assert r.max(axis=1).min() > 0.9
