"""Answers to rows and rows to choices: nothing changes on the way, and the order shown is undone."""

from __future__ import annotations

import json
import math
from itertools import permutations
from typing import Any

import polars as pl
import pytest

from affectlake.judge.requests.answers import Answer
from affectlake.judge.responses.tables import latest, read_choices, response_rows
from affectlake.judge.trials.orders import ORDERS
from tests.support.chat import KEY_PHRASE, ONE_TOKEN, agent

ANSWER = Answer(
    key=b"k" * 32,
    trial_set="main",
    i=10,
    j=20,
    k=30,
    repeat=0,
    order=(1, 2, 3),
    captions=(4, 5, 6),
    text="Video 1 is noticeably different from the other two.",
    finish_reason="stop",
    logprobs=None,
    prompt_tokens=100,
    completion_tokens=12,
    cached_tokens=64,
    error_kind=None,
    error_words=None,
    attempts=1,
    seconds=0.5,
)


def test_the_order_shown_is_undone() -> None:
    """Whatever the order, an answer "Video p" is the stimulus that stood at p."""
    orders = list(permutations((1, 2, 3)))
    given = [
        ANSWER._replace(repeat=3 * at + p, order=order, text=f"Video {p + 1} is noticeably different.")
        for at, order in enumerate(orders)
        for p in range(3)
    ]
    rows = response_rows(agent(), given)
    assert rows.select("shown_1", "shown_2", "shown_3").unique().height == 6
    found = read_choices(rows, KEY_PHRASE).choices.sort("repeat")
    expected = [(10, 20, 30)[order[p] - 1] for order in orders for p in range(3)]
    assert found["odd"].to_list() == expected
    assert found["position"].to_list() == [1, 2, 3] * 6
    shown_as = ORDERS[found["order_code"].to_numpy()].tolist()
    assert [tuple(members) for members in shown_as] == [order for order in orders for _ in range(3)]


def test_a_row_keeps_what_was_said_and_by_whom() -> None:
    (row,) = response_rows(agent(revision="abc"), [ANSWER._replace(text=" Vidéo 2?\n\x07")]).iter_rows(named=True)
    assert row["answer"] == " Vidéo 2?\n\x07"
    assert (row["model"], row["revision"], row["protocol"]) == ("tiny-llama", "abc", "describe-then-choose/caption/1")
    assert json.loads(row["sampling"]) == {"extra": {}, "max_tokens": 64, "seed": 11, "temperature": 0.7, "top_p": 1.0}
    assert [row[f"caption_{p}"] for p in (1, 2, 3)] == [4, 5, 6]


def test_one_token_keeps_its_probabilities() -> None:
    top = [{"token": t, "logprob": math.log(p)} for t, p in (("1", 0.2), ("2", 0.6), ("The", 0.2))]
    logprobs = json.dumps({"content": [{"token": "2", "logprob": math.log(0.6), "top_logprobs": top}]})
    who = agent(protocol="forced-choice", modality="videos", sampling={})
    rows = response_rows(who, [ANSWER._replace(text="2", captions=None, logprobs=logprobs, order=(3, 1, 2))])
    (row,) = rows.iter_rows(named=True)
    assert [row[name] for name in ("p1", "p2", "p3", "leftover")] == pytest.approx([0.25, 0.75, 0.0, 0.2])
    assert row["caption_1"] is None
    assert read_choices(rows, ONE_TOKEN).choices["odd"].to_list() == [10]  # the second shown is i
    free = response_rows(agent(), [ANSWER._replace(logprobs=logprobs)])
    assert free["p1"].null_count() == 1


def test_what_is_no_choice_has_a_reason() -> None:
    given = [
        ANSWER._replace(repeat=0, text="I'm sorry, I can't help with that."),
        ANSWER._replace(repeat=1, text="Video 1 shows", finish_reason="length"),
        ANSWER._replace(repeat=2, text=None, error_kind="rejected", error_words="too long", attempts=3),
    ]
    found = read_choices(response_rows(agent(), given), KEY_PHRASE)
    assert found.choices.is_empty()
    assert found.unparsed.sort("repeat")["unparsed_reason"].to_list() == ["refusal", "truncated", "error"]


def test_an_answer_counts_before_a_failure_and_the_last_before_the_first() -> None:
    def row(repeat: int, mark: int, error: str | None) -> dict[str, Any]:
        return {"trial_set": "main", "i": 0, "j": 1, "k": 2, "repeat": repeat, "mark": mark, "error_kind": error}

    rows = [row(0, 1, "reset"), row(0, 2, None), row(1, 3, None), row(1, 4, "reset"), row(2, 5, None), row(2, 6, None)]
    found = latest(pl.DataFrame(rows, schema_overrides={"error_kind": pl.String}))
    assert found.sort("repeat")["mark"].to_list() == [2, 3, 6]
