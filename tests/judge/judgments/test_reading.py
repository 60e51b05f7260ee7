"""Files of judgments: the same judgments from every layout, and one message for each problem."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affectlake.errors import AffectlakeError, SourceError, UsageError
from affectlake.judge.judgments.identity import request_keys, stimuli_checks
from affectlake.judge.judgments.layouts import read_raw
from affectlake.judge.judgments.options import ReadingOptions, parse_columns, parse_positions
from affectlake.judge.judgments.resolving import SHOWN, Judgments, resolve
from affectlake.user_tables.catalogue import Catalogue
from tests.support.judgment_files import WRITERS, People, simulate, table

IDS = [f"clip-{at:04d}.mp4" for at in range(20)]


def read(path: Path, ids: list[str] = IDS, **options: object) -> Judgments:
    catalogue = Catalogue(ids)
    wanted = ReadingOptions(**options)  # type: ignore[arg-type]
    return resolve(read_raw(path, wanted, catalogue), wanted, catalogue)


@pytest.fixture
def people() -> People:
    return simulate(IDS, 200, 5, repeats=10)


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_judgments_that_were_written(name: str, people: People, tmp_path: Path) -> None:
    found = read(WRITERS[name](people, tmp_path / name))
    assert found.bad.is_empty()
    frame = found.frame
    assert frame.height == len(people)
    if name == "things.txt":
        assert found.raw.layout == "things"
        np.testing.assert_array_equal(np.sort(frame.select(SHOWN).to_numpy()), np.sort(people.shown))
        np.testing.assert_array_equal(frame["chosen"], people.odd_index)
        assert frame["participant"].null_count() == frame.height
        return
    assert found.raw.layout == {"semicolons": "table", "positions": "table"}.get(stem := Path(name).stem, stem)
    expected = pl.DataFrame(
        {
            "participant": [f"P{one:02d}" for one in people.participant],
            "trial": people.trial + int("jspsych" in name),
            **{role: people.shown[:, at] for at, role in enumerate(SHOWN)},
            "chosen": people.odd_index,
            "response_ms": (people.seconds * 1000).round(),
        }
    )
    key = ["participant", "trial"]
    got = frame.select(expected.columns).with_columns(pl.col("trial").cast(pl.Int64), pl.col("response_ms").round())
    assert got.sort(key).equals(expected.with_columns(pl.col("chosen", *SHOWN).cast(pl.Int32)).sort(key))


def test_rows_without_a_trial_are_counted(people: People, tmp_path: Path) -> None:
    found = read(WRITERS["psychopy.csv"](people, tmp_path / "a.csv"))
    assert found.raw.skipped == {"no trial": 10}
    assert "in s" in " ".join(found.notes)
    assert set(found.frame["asked_at"]) == {"2024-03-05T10:22:31.118"}
    assert set(found.frame["session"]) == {"001"}
    found = read(WRITERS["jspsych.csv"](people, tmp_path / "b.csv"))
    assert found.raw.skipped == {"no trial": 5}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


HEADER = "participant,trial,s1,s2,s3,odd,rt"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("p,1,clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0004.mp4,900", "is not one of the three stimuli"),
        ("p,1,clip-0001.mp4,clip-0002.mp4,clip-0099.mp4,clip-0001.mp4,900", "clip-0099.mp4 is not in the catalogue"),
        ("p,1,clip-0001.mp4,clip-0002.mp4,clip-0002.mp4,clip-0001.mp4,900", "a stimulus is in the triplet twice"),
        ("p,1,clip-0001.mp4,clip-0002.mp4,,clip-0001.mp4,900", "stimulus_3 is empty"),
        ("p,1,clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0001.mp4,fast", "response time fast is not a number"),
        ("p,1,clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0001.mp4,-3", "response time -3 is not a number"),
    ],
)
def test_a_row_that_cannot_be_used_has_its_reason(row: str, reason: str, tmp_path: Path) -> None:
    good = "p,0,clip-0004.mp4,clip-0005.mp4,clip-0006.mp4,clip-0006.mp4,812"
    found = read(write(tmp_path / "a.csv", HEADER, good, row))
    ((number, why),) = found.bad.iter_rows()
    assert number == 2
    assert reason in why
    assert found.frame["trial"].to_list() == ["0"]


def test_an_index_outside_of_the_catalogue_is_refused_with_its_line(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.txt", "0 1 2", "", "3 4 20", "5 5 6", "7 8 99999999999999999999"))
    assert dict(found.bad.iter_rows()) == {
        3: "index 20 is not in the catalogue, whose last one is 19",
        4: "a stimulus is in the triplet twice",
        5: "index 99999999999999999999 is not in the catalogue, whose last one is 19",
    }
    assert found.frame["source_row"].to_list() == [1]
    with pytest.raises(SourceError, match=r"1 lines of .* are not three indices"):
        read(write(tmp_path / "b.txt", "0 1 2", "3 4"))


@pytest.mark.parametrize(("rts", "expected"), [(["0.8", "1.25"], [800.0, 1250.0]), (["800", "1250"], [800.0, 1250.0])])
def test_seconds_and_milliseconds_are_recognised(rts: list[str], expected: list[float], tmp_path: Path) -> None:
    rows = [f"p,{at},clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0001.mp4,{rt}" for at, rt in enumerate(rts)]
    assert read(write(tmp_path / "a.csv", HEADER, *rows)).frame["response_ms"].to_list() == expected


def test_an_ambiguous_unit_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER, "p,1,clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0001.mp4,100")
    with pytest.raises(SourceError, match="unit of the response times") as caught:
        read(path)
    assert "--unit" in caught.value.todo
    assert read(path, unit="ms").frame["response_ms"].to_list() == [100.0]
    assert read(path, unit="s").frame["response_ms"].to_list() == [100_000.0]


def test_ids_that_can_be_positions_are_ambiguous(tmp_path: Path) -> None:
    ids = ["1", "2", "3", "4"]
    path = write(tmp_path / "a.csv", "s1,s2,s3,odd", "3,1,2,1", "2,3,1,2")
    with pytest.raises(SourceError, match="ids of stimuli as well as positions"):
        read(path, ids)
    assert read(path, ids, answered_by="id").frame["chosen"].to_list() == [0, 1]
    assert read(path, ids, answered_by="position").frame["chosen"].to_list() == [2, 2]


def test_positions_counted_from_zero_are_said_by_the_user(tmp_path: Path) -> None:
    rows = ["clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,0", "clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,2"]
    path = write(tmp_path / "a.csv", "s1,s2,s3,odd", *rows)
    assert read(path).bad["reason"].to_list() == ["the answer 0 is not one of the three positions"]
    assert read(path, first_position=0).frame["chosen"].to_list() == [1, 3]


def test_answers_are_mapped_to_positions_by_the_user(tmp_path: Path) -> None:
    rows = [f"clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,{key}" for key in "jkl"]
    path = write(tmp_path / "a.csv", "s1,s2,s3,odd", *rows)
    found = read(path, positions=parse_positions(("j=1", "k=2", "l=3")), answered_by="position")
    assert found.frame["chosen"].to_list() == [1, 2, 3]


def test_leading_zeros_matter_unless_one_id_matches_without_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "s1,s2,s3,odd", "1,02,3,3")
    catalogue, options = Catalogue(["001", "002", "003"]), ReadingOptions(answered_by="id")
    found = resolve(read_raw(path, options, catalogue), options, catalogue)
    assert found.frame.select(SHOWN).row(0) == (0, 1, 2)
    assert catalogue.notes() == ["3 names of stimuli were matched by the id without leading zeros"]
    two = Catalogue(["01", "001", "002"])
    assert [two.index(one) for one in ("1", "01", "001", "2")] == [None, 0, 1, 2]


def test_ids_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "s1,s2,s3,odd", "cafe\u0301 , b,c,c")
    found = read(path, ["b", "c", "café"])
    assert found.frame.select(SHOWN).row(0) == (2, 0, 1)


def test_catch_trials_have_a_right_answer(tmp_path: Path) -> None:
    rows = [
        "clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0001.mp4,true,clip-0002.mp4",
        "clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0002.mp4,false,",
        "clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0002.mp4,perhaps,",
        "clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0002.mp4,1,clip-0009.mp4",
    ]
    found = read(write(tmp_path / "a.csv", "s1,s2,s3,odd,catch,correct_answer", *rows))
    assert found.frame.select("is_catch", "right_answer").rows() == [(True, 2), (False, None)]
    assert [why for _, why in found.bad.iter_rows()] == [
        "perhaps does not say whether it is a catch trial",
        "the right answer clip-0009.mp4 is not in the triplet",
    ]


def test_a_catch_trial_may_show_a_stimulus_twice(tmp_path: Path) -> None:
    a, b, c = IDS[:3]
    rows = [
        f"{a},{a},{b},{b},1",
        f"{a},{b},{a},{a},1",
        f"{b},{a},{a},{c},1",
        f"{a},{a},{a},{a},1",
        f"{a},{a},{b},{b},0",
    ]
    found = read(write(tmp_path / "a.csv", "s1,s2,s3,odd,catch", *rows))
    assert found.frame.select("chosen", "right_answer").rows() == [(1, 1), (0, 1)]
    assert [why for _, why in found.bad.iter_rows()] == [
        f"the odd one {c} is not one of the three stimuli",
        "the three stimuli are the same",
        "a stimulus is in the triplet twice",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b,c,odd", "x,y,z,x"], "no columns that can be the three stimuli"),
        (["s1,s2,s3,winner", "clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,1"], "no column that is recognised as the odd"),
        (
            ["s1,s2,s3,i1,i2,i3,odd", ",".join(["clip-0001.mp4", "clip-0002.mp4", "clip-0003.mp4"] * 2 + ["1"])],
            "several sets of columns that can be the three stimuli",
        ),
    ],
)
def test_columns_that_are_not_recognised_are_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read(write(tmp_path / "a.csv", *lines))
    assert "--column" in caught.value.todo


def test_repeated_columns_are_refused_if_they_are_used(tmp_path: Path) -> None:
    lines = ["s1,s2,s3,odd,s3", ",".join(IDS[:3] + IDS[2:4])]
    with pytest.raises(SourceError, match="several columns of the same name") as caught:
        read(write(tmp_path / "a.csv", *lines))
    assert caught.value.found == "'s3'"
    lines = ["s1,s2,s3,odd,note,note", ",".join([*IDS[:3], IDS[2], "x", "y"])]
    assert read(write(tmp_path / "a.csv", *lines)).frame.height == 1


def test_columns_are_named_by_the_user(people: People, tmp_path: Path) -> None:
    path = table(people, tmp_path / "a.csv")
    given = parse_columns(("participant=trial", "trial=participant"))
    assert set(read(path, columns=given).frame["trial"]) == {f"P{one:02d}" for one in range(5)}
    with pytest.raises(SourceError, match="no column 'chosen_imag'") as caught:
        read(path, columns={"odd": "chosen_imag"})
    assert "chosen_image" in caught.value.todo


@pytest.mark.parametrize(
    ("parse", "word"),
    [(parse_columns, "odd"), (parse_columns, "od=a"), (parse_positions, "left=4"), (parse_positions, "left")],
)
def test_options_of_another_form_are_refused(parse: Callable[[tuple[str, ...]], object], word: str) -> None:
    with pytest.raises(UsageError):
        parse((word,))


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[1, 2]", "[]"])
def test_json_of_another_form_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(AffectlakeError):
        read(write(tmp_path / "a.json", content))


def test_participants_in_lists_of_their_own_are_read(tmp_path: Path) -> None:
    trial = {"trial_type": "x", "trial_index": 1, "rt": 900, "response": 2, "stimuli": IDS[:3]}
    path = write(tmp_path / "a.json", json.dumps([[trial | {"subject": "a"}], [trial | {"subject": "b"}]]))
    assert read(path).frame.select("participant", "chosen").rows() == [("a", 2), ("b", 2)]


def test_times_are_iso_where_they_can_be_read(tmp_path: Path) -> None:
    times = {
        "2024-03-05_10h22.31.118": "2024-03-05T10:22:31.118",
        "2019_Nov_26_1427": "2019-11-26T14:27:00.000",
        "2024-03-05 10:22": "2024-03-05T10:22:00.000",
        "2024-03-05T10:22:31Z": "2024-03-05T10:22:31Z",
        "2024-03-05T10:22:31.5+02:00": "2024-03-05T10:22:31.5+02:00",
        "on Tuesday": "on Tuesday",
    }
    rows = [f"p,{time},clip-0001.mp4,clip-0002.mp4,clip-0003.mp4,clip-0001.mp4" for time in times]
    found = read(write(tmp_path / "a.csv", "participant,time,s1,s2,s3,odd", *rows))
    assert found.frame["asked_at"].to_list() == list(times.values())


def keys(frame: pl.DataFrame, ids: list[str] = IDS) -> list[bytes]:
    return request_keys(frame.with_columns(source_file=pl.lit("a")), ids).to_list()


def test_keys_depend_on_what_identifies_a_judgment(people: People, tmp_path: Path) -> None:
    frame = read(table(people, tmp_path / "a.csv")).frame
    found = keys(frame)
    assert len(set(found)) == len(people)
    assert all(len(one) == 32 for one in found)
    assert keys(frame.head(50)) == found[:50]  # of a shorter export
    assert keys(frame.with_columns(chosen=pl.col("shown_1"), source_row=pl.col("source_row") + 7)) == found
    assert not set(keys(frame.with_columns(participant=pl.lit("x")))) & set(found)
    twice = pl.concat([frame, frame])
    assert len(set(keys(twice))) == 2 * len(people)  # numbered within the import
    assert keys(twice)[: len(people)] == found
    nameless = frame.with_columns(participant=pl.lit(None, dtype=pl.String))
    assert len(set(keys(nameless.with_columns(shown_1=pl.lit(0, dtype=pl.Int32))))) == len(people)


def test_check_numbers_recognise_the_three_stimuli() -> None:
    triplets = np.array([[0, 1, 2], [0, 1, 3], [5, 7, 19], [3, 4, 25]], np.int32)
    found = stimuli_checks(triplets, IDS)
    assert len(set(found.tolist())) == 4
    assert found[3] == 0
    longer = stimuli_checks(triplets, [*IDS, *(f"new-{at}" for at in range(10))])
    np.testing.assert_array_equal(longer[:3], found[:3])  # further stimuli change nothing
    moved = stimuli_checks(triplets, ["first", *IDS])
    assert not np.isin(moved[:3], found).any()
