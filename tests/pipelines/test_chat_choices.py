"""The step that reads choices from stored answers, on answers that are planted: every row, counted by hand.

The agent names the planted stimulus, or the third one shown, or declines, or its server fails. Answers that do not
belong to the study are stored as well: of another model, to triplets and repeats that are no longer asked, and to
questions that were asked again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from affectlake.judge.chat import ChatAgent
from affectlake.judge.requests.answers import Answer, Failure, Reply, answered, failed
from affectlake.judge.responses.tables import response_rows
from affectlake.judge.trials.plan import make_plan
from affectlake.judge.trials.questions import Question
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.step import StepContext
from tests.support import chat

N, EACH, PROTOCOL = 12, 3, "describe-then-choose/caption/1"
N_REPEATS = {"main": 1, "noise_ceiling": 4, "validation": 1}
Key = tuple[str, int, int, int, int]


def study() -> Params:
    raw = yaml.safe_load(templates.starting_params("demo"))
    raw["agents"] = {"human-category": raw["agents"]["human-category"], "tiny": chat.ENTRY | {"l1": 0.004}}
    raw["brain"]["partition"] = None  # its bands are of other agents
    return parse(yaml.safe_dump(raw, sort_keys=False))


def odd_of(question: Question, said: str) -> int:
    """The stimulus that an answer names: the largest index modulo 7, or the third one shown."""
    members = (question.i, question.j, question.k)
    if said == "third":
        return members[question.order[2] - 1]
    return max(members, key=lambda s: (s % 7, s))


def answer(question: Question, said: str) -> Answer:
    if said == "failure":
        return failed(question, Failure("rejected", "too long"), 1, 0.5)
    if said == "refusal":
        return answered(question, Reply("I'm sorry, I can't help with that.", "stop", None, 9, 2, 0, "tiny"), 1, 0.5)
    members = (question.i, question.j, question.k)
    position = [members[member - 1] for member in question.order].index(odd_of(question, said)) + 1
    text = f"Video {position} is noticeably different from the other two."
    return answered(question, Reply(text, "stop", None, 9, 2, 0, "tiny"), 1, 0.5)


def questions(agent: ChatAgent, trial_set: str, repeats: int) -> list[Question]:
    plan = make_plan(agent, chat.trials(N, repeats, trial_set), chat.materials(N, EACH), root=4)
    return sorted(plan.questions(), key=lambda one: (one.i, one.j, one.k, one.repeat))


def key_of(question: Question, trial_set: str) -> Key:
    return (trial_set, question.i, question.j, question.k, question.repeat)


class Planted:
    """The tables of a study with answers, and what was said to each question that belongs to it."""

    def __init__(self) -> None:
        self.params, rng = study(), np.random.default_rng(5)
        agent, other = self.params.agents["tiny"], chat.agent(model="another-model")
        assert isinstance(agent, ChatAgent)
        self.said: dict[Key, tuple[str, Question]] = {}
        shards: list[list[Answer]] = [[], []]
        rows: list[dict[str, Any]] = []
        for trial_set, repeats in N_REPEATS.items():
            asked = questions(agent, trial_set, repeats + 1)  # one more than the study has now
            dropped = {(asked[0].i, asked[0].j, asked[0].k)}
            for one in asked:
                triplet = (one.i, one.j, one.k)
                said = str(rng.choice(["odd", "third", "refusal", "failure"], p=[0.5, 0.3, 0.1, 0.1]))
                shards[int(rng.integers(2))].append(answer(one, said))
                if triplet not in dropped and one.repeat < repeats:
                    self.said[key_of(one, trial_set)] = (said, one)
            rows += [
                {"trial_set": trial_set, "i": i, "j": j, "k": k, "n_repeats": repeats}
                for i, j, k in sorted({(one.i, one.j, one.k) for one in asked} - dropped)
            ]
            stale = questions(other, trial_set, repeats)
            shards[1] += [answer(one, "third") for one in stale]
        self._again(shards)
        frames = [response_rows(agent, some).with_columns(shard=pl.lit(at, pl.Int32)) for at, some in enumerate(shards)]
        types = {"trial_set": pl.String, "i": pl.Int32, "j": pl.Int32, "k": pl.Int32, "n_repeats": pl.Int16}
        self.n_responses = sum(map(len, shards))
        self.tables = {
            "stimuli": chat.stimuli(N),
            "captions": chat.captions(N, EACH),
            "triplets": pl.DataFrame(rows, schema=types).sample(fraction=1.0, shuffle=True, seed=2),
            "responses": pl.concat(frames[::-1]),  # in any order: the shards have numbers
        }

    def _again(self, shards: list[list[Answer]]) -> None:
        """Let a failed question be answered in the next shard, and an answered one fail there."""
        first = {answer.key: answer for answer in shards[0]}
        for key, (said, question) in self.said.items():
            if question.key in first and said == "failure":
                shards[1].append(answer(question, "odd"))
                self.said[key] = ("odd", question)
            elif question.key in first and said == "odd" and question.j % 2:
                shards[1].append(answer(question, "failure"))

    def choices(self) -> Iterator[tuple[Key, int, int, tuple[int, ...]]]:
        """Yield the key, the odd one, its position and the order of each choice."""
        for key, (said, question) in self.said.items():
            if said in ("odd", "third"):
                odd, members = odd_of(question, said), (question.i, question.j, question.k)
                position = [members[member - 1] for member in question.order].index(odd) + 1
                yield key, odd, position, question.order


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def logged() -> list[str]:
    return []


@pytest.fixture(scope="module")
def found(planted: Planted, logged: list[str]) -> dict[str, pl.DataFrame]:
    tables = {name: frame.lazy() for name, frame in planted.tables.items()}
    context = StepContext("tiny", Path(), Path(), 1, logged.append, lambda _: None)
    return STEPS["choose_by_chat"](tables, planted.params, context)


def keys(frame: pl.DataFrame) -> list[Key]:
    return list(frame.select("trial_set", "i", "j", "k", "repeat").iter_rows())


def test_every_choice_is_the_one_that_was_planted(planted: Planted, found: dict[str, pl.DataFrame]) -> None:
    rows = found["choices"]
    assert dict(zip(keys(rows), rows["odd"], strict=True)) == {key: odd for key, odd, *_ in planted.choices()}
    assert len(set(keys(rows))) == len(rows) > 100
    assert rows["agent"].unique().to_list() == ["tiny"]
    assert rows["protocol"].unique().to_list() == [PROTOCOL]
    assert not rows["tied"].any()


def test_every_answer_without_a_choice_has_its_reason(
    planted: Planted, found: dict[str, pl.DataFrame], logged: list[str]
) -> None:
    rows, reasons = found["unparsed"], {"refusal": "refusal", "failure": "error"}
    expected = {key: (reasons[said], one.key) for key, (said, one) in planted.said.items() if said in reasons}
    assert dict(zip(keys(rows), rows.select("unparsed_reason", "request_key").iter_rows(), strict=True)) == expected
    assert {reason for reason, _ in expected.values()} == {"refusal", "error"}
    n_kept = len(planted.said)
    assert logged == [
        f"{len(found['choices'])} choices, {len(rows)} answers without a choice; of {planted.n_responses:,} responses, "
        f"{planted.n_responses - n_kept:,} have another model, protocol, catalogue or plan, or were asked again"
    ]


@pytest.mark.reference
def test_effects_of_the_order_are_counted_by_hand(planted: Planted, found: dict[str, pl.DataFrame]) -> None:
    chosen: dict[str, list[int]] = defaultdict(list)
    given: dict[str, dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]]] = defaultdict(lambda: defaultdict(list))
    for (trial_set, *triplet, _), odd, position, order in planted.choices():
        chosen[trial_set].append(position)
        given[trial_set][tuple(triplet)].append((odd, order))
    rows = {(row["trial_set"], row["measure"]): row for row in found["order_effects"].iter_rows(named=True)}
    assert len(rows) == len(found["order_effects"]) == 6 * len(N_REPEATS)
    assert {row["protocol"] for row in rows.values()} == {PROTOCOL}
    for trial_set, positions in chosen.items():
        counts = [positions.count(p) for p in (1, 2, 3)]
        for name, count in zip(("first", "second", "third"), counts, strict=True):
            row, ends = rows[trial_set, f"chosen_{name}"], proportion_confint(count, len(positions), method="wilson")
            assert (row["value"], row["chance"], row["n"]) == (count / len(positions), 1 / 3, len(positions))
            assert (row["ci_low"], row["ci_high"]) == pytest.approx(ends)
        row, test = rows[trial_set, "chi_square"], stats.chisquare(counts)
        assert (row["value"], row["p_value"], row["chance"]) == pytest.approx((test.statistic, test.pvalue, 2))
        for name, same in (("other", False), ("same", True)):
            shares = []
            for answers in given[trial_set].values():
                flips = [a != b for (a, one), (b, other) in combinations(answers, 2) if (one == other) is same]
                shares += [np.mean(flips)] if flips else []
            row = rows[trial_set, f"flip_rate_{name}_order"]
            assert (row["n"], row["chance"]) == (len(shares), 2 / 3)
            assert row["value"] == (pytest.approx(np.mean(shares)) if shares else None)
            assert row["note"] == (None if shares else "no triplet was answered twice so")
    assert rows["noise_ceiling", "flip_rate_other_order"]["n"] > 5


def test_without_responses_there_are_no_rows(planted: Planted) -> None:
    tables = {name: frame.lazy() for name, frame in planted.tables.items()}
    tables["responses"] = planted.tables["responses"].head(0).lazy()
    context = StepContext("tiny", Path(), Path(), 1, lambda _: None, lambda _: None)
    found = STEPS["choose_by_chat"](tables, planted.params, context)
    assert all(frame.is_empty() for frame in found.values())
