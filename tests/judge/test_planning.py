"""What is still to be asked: exactly what is not answered, each question once, neighbours alike, orders balanced."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectlake.errors import SourceError
from affectlake.judge.trials.caption_draw import draw_captions
from affectlake.judge.trials.content import caption_materials
from affectlake.judge.trials.plan import Trials, make_plan, valid_answers
from affectlake.judge.trials.questions import Question
from affectlake.judge.trials.request_keys import KeyMaker, canonical
from affectlake.judge.trials.shares import Share
from tests.support.chat import agent, answered, captions, materials, stimuli, trials, video_frames
from tests.support.questions import position_counts

N = 20


def identity(question: Question) -> tuple[str, int, int, int, int]:
    return question.trial_set, question.i, question.j, question.k, question.repeat


def in_order(question: Question) -> list[int]:
    return [(question.i, question.j, question.k)[member - 1] for member in question.order]


def test_every_trial_and_repeat_is_asked_once() -> None:
    wanted = trials(N, repeats=3)
    plan = make_plan(agent(), wanted, materials(N), 1)
    asked = Counter(identity(question) for question in plan.questions())
    assert asked == Counter({("main", *row, r): 1 for row in wanted.triplets.tolist() for r in range(3)})
    assert (plan.n_planned, plan.n_left, plan.n_answered, plan.n_unaskable) == (570, 570, 0, 0)
    assert len({question.key for question in plan.questions()}) == 570


def test_orders_are_balanced_within_each_repeat() -> None:
    plan = make_plan(agent(), trials(N, repeats=3), materials(N), 1)
    for repeat in range(3):
        rows = np.array([in_order(q) for q in plan.questions() if q.repeat == repeat], dtype=np.int32)
        assert np.ptp(position_counts(rows, N), axis=1).max() <= 1


def test_a_plan_is_the_same_each_time_and_differs_by_agent_set_and_seed() -> None:
    def keys(root: int = 1, name: str = "tiny", trial_set: str = "main") -> list[bytes]:
        who = agent().named(name)
        return [q.key for q in make_plan(who, trials(N, trial_set=trial_set), materials(N), root).questions()]

    assert keys() == keys()
    assert keys() != keys(root=2)
    assert keys() != keys(name="other")
    assert not set(keys()) & set(keys(trial_set="validation"))


@settings(max_examples=25)
@given(st.integers(0, 190), st.integers(0, 190))
def test_what_is_answered_is_left_out_and_nothing_else(n_first: int, n_second: int) -> None:
    wanted, shown = trials(N), materials(N)
    before = make_plan(agent(), wanted, shown, 1)
    first = answered(before, n_first)
    second = make_plan(agent(), wanted, shown, 1, [first])
    assert (second.n_answered, second.n_left) == (n_first, 190 - n_first)
    third = make_plan(agent(), wanted, shown, 1, [first, answered(second, n_second)])
    both = {q.key for q in list(before.questions())[:n_first]} | {q.key for q in list(second.questions())[:n_second]}
    assert {q.key for q in third.questions()} == {q.key for q in before.questions()} - both


def test_a_limit_takes_a_random_part() -> None:
    every = make_plan(agent(), trials(N), materials(N), 1)
    plan = make_plan(agent(), trials(N), materials(N), 1, limit=40)
    asked = list(plan.questions())
    assert len(asked) == plan.n_left == 40
    assert {q.key for q in asked} <= {q.key for q in every.questions()}
    assert len({q.route for q in asked}) > N / 2  # not the first stimuli of the catalogue


def test_neighbours_share_the_first_stimulus_and_the_prompt_as_far_as_its_caption() -> None:
    asked = list(make_plan(agent(), trials(N), materials(N), 1).questions())
    assert sum(a.route != b.route for a, b in pairwise(asked)) == N - 1
    assert all(question.route == in_order(question)[0] for question in asked)
    firsts = [(q.route, q.captions[0], in_order(q)[1]) for q in asked if q.captions]
    assert firsts == sorted(firsts)


def test_blocks_cover_everything_once() -> None:
    plan = make_plan(agent(), trials(N), materials(N), 1)
    by_blocks = [q.key for q in plan.questions(block=37)]
    assert len(by_blocks) == 190
    assert set(by_blocks) == {q.key for q in plan.questions()}


def test_a_stimulus_without_a_caption_is_counted_and_not_asked() -> None:
    some = caption_materials(stimuli(N), captions(N).filter(pl.col("stimulus_index") != 5))
    wanted = trials(N, repeats=2)
    touched = int((wanted.triplets == 5).any(axis=1).sum())
    plan = make_plan(agent(), wanted, some, 1)
    assert (plan.n_unaskable, plan.n_left) == (2 * touched, 2 * (190 - touched))
    assert not any(5 in (q.i, q.j, q.k) for q in plan.questions())


def test_nothing_to_ask() -> None:
    empty = Trials("main", np.empty((0, 3), np.int32), np.empty(0, np.int16))
    plan = make_plan(agent(), empty, materials(N), 1)
    assert (plan.n_left, list(plan.questions())) == (0, [])


@pytest.mark.parametrize(
    "changed",
    [
        agent(model="other"),
        agent(revision="main"),
        agent(sampling={"max_tokens": 65, "temperature": 0.7, "seed": 11}),
        agent(sampling={"max_tokens": 64, "temperature": 0.7, "seed": 12}),
        agent(protocol="naive-describe"),
    ],
)
def test_answers_of_another_model_protocol_or_sampling_do_not_count(changed: object) -> None:
    rows = answered(make_plan(agent(), trials(N), materials(N), 1))
    assert make_plan(changed, trials(N), materials(N), 1, [rows]).n_answered == 0  # type: ignore[arg-type]


def test_where_a_server_is_and_what_it_costs_is_not_part_of_a_question() -> None:
    rows = answered(make_plan(agent(), trials(N), materials(N), 1))
    moved = agent(servers=["http://10.0.0.1:8000/v1"], in_flight=3, price={"input": 1, "output": 2})
    assert make_plan(moved, trials(N), materials(N), 1, [rows]).n_left == 0


def test_a_changed_caption_is_asked_again_and_the_others_are_not() -> None:
    rows = answered(make_plan(agent(), trials(N), materials(N), 1))
    edited = captions(N).with_columns(
        caption=pl.when((pl.col("stimulus_index") == 3) & (pl.col("caption_index") == 0))
        .then(pl.lit("something else"))
        .otherwise("caption")
    )
    plan = make_plan(agent(), trials(N), caption_materials(stimuli(N), edited), 1, [rows])
    hit = sum(3 in q and c == 0 for q, c in _shown_with_captions(rows, 3))
    assert hit > 0
    assert plan.n_left == hit


def _shown_with_captions(rows: pl.DataFrame, stimulus: int) -> list[tuple[list[int], int]]:
    found = []
    for row in rows.iter_rows(named=True):
        stand = [row[f"shown_{p}"] for p in (1, 2, 3)]
        if stimulus in stand:
            found.append((stand, row[f"caption_{stand.index(stimulus) + 1}"]))
    return found


def test_indices_that_mean_other_stimuli_now_do_not_count() -> None:
    rows = answered(make_plan(agent(), trials(N), materials(N), 1))
    fewer = stimuli(N + 1).slice(1).with_columns(stimulus_index=pl.Series(np.arange(N, dtype=np.int32)))
    moved = caption_materials(fewer, captions(N))
    assert make_plan(agent(), trials(N), moved, 1, [rows]).n_answered == 0


def test_an_answer_in_another_order_still_counts() -> None:
    """Orders follow from the whole trial set; an answer is not lost because a set has grown."""
    rows = answered(make_plan(agent(), trials(N), materials(N), 1))
    plan = make_plan(agent(), trials(N), materials(N), 2, [rows])  # another root seed: other orders, other captions
    assert (plan.n_answered, plan.n_left) == (190, 0)


def test_a_stored_key_that_is_not_the_question_s_does_not_count() -> None:
    shown = materials(N)
    rows = answered(make_plan(agent(), trials(N), shown, 1))
    forged = rows.with_columns(request_key=pl.lit(b"\0" * 32), repeat=pl.col("repeat") + 0)
    maker = KeyMaker(agent(), "main", shown)
    assert valid_answers(forged, maker, "main").height == 0
    assert valid_answers(rows, maker, "main").height == 190
    beyond = rows.with_columns(shown_1=pl.lit(N + 3), caption_2=pl.lit(77))
    assert valid_answers(beyond, maker, "main").height == 0


def test_a_key_is_the_hash_of_canonical_json() -> None:
    shown = materials(N)
    question = next(iter(make_plan(agent(), trials(N, repeats=2), shown, 1).questions()))
    assert question.captions is not None
    stand = [
        [f"clip-{s}", hashlib.sha256(f"clip {s} as person {c} saw it".encode()).hexdigest()]
        for s, c in zip(in_order(question), question.captions, strict=True)
    ]
    asked = {"asked": agent().identity(), "repeat": question.repeat, "shown": stand, "trial_set": "main"}
    assert question.key == hashlib.sha256(canonical(asked).encode()).digest()


def test_repeats_have_seeds_of_their_own_and_a_request_always_the_same() -> None:
    plan = make_plan(agent(), trials(N, repeats=4), materials(N), 1)
    seeds = [question.body["seed"] for question in plan.questions()]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [question.body["seed"] for question in plan.questions()]
    assert "seed" not in next(make_plan(agent(sampling={"max_tokens": 9}), trials(N), materials(N), 1).questions()).body


def test_every_caption_is_drawn_equally_often_and_independently_of_the_order() -> None:
    rng = np.random.default_rng(0)
    rows = np.argsort(rng.random((30_000, 12)), axis=1)[:, :3].astype(np.int32)
    repeat = np.arange(len(rows), dtype=np.int16)  # 220 triplets: many repeats of each
    n_captions = np.full(12, 20, dtype=np.int64)
    drawn = draw_captions(rows, repeat, n_captions, seed=9)
    counts = np.bincount(drawn.ravel(), minlength=20)
    assert np.abs(counts - drawn.size / 20).max() < 5 * np.sqrt(drawn.size / 20)
    assert np.array_equal(draw_captions(rows[:, ::-1], repeat, n_captions, seed=9), drawn[:, ::-1])
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.03
    assert (draw_captions(rows, repeat + 1, n_captions, seed=9) != drawn).mean() > 0.9
    assert (draw_captions(rows, repeat, n_captions, seed=10) != drawn).mean() > 0.9


def test_a_draw_is_within_what_a_stimulus_has() -> None:
    rows = np.array([(0, 1, 2)] * 500, dtype=np.int32)
    repeat = np.arange(500, dtype=np.int16)
    drawn = draw_captions(rows, repeat, np.array([1, 2, 20]), seed=1)
    assert drawn.min(axis=0).tolist() == [0, 0, 0]
    assert drawn.max(axis=0).tolist() == [0, 1, 19]


def test_captions_must_be_numbered_without_gaps() -> None:
    with pytest.raises(SourceError, match="stimulus_index 2"):
        caption_materials(
            stimuli(4), captions(4).filter(~((pl.col("stimulus_index") == 2) & (pl.col("caption_index") == 1)))
        )


def test_videos_are_sent_as_frames_under_a_stable_name() -> None:
    plan = make_plan(agent(modality="videos"), trials(N), video_frames(N), 1)
    names: dict[int, set[str]] = {}
    for question in plan.questions():
        assert question.captions is None
        parts = [part for part in question.body["messages"][0]["content"] if part["type"] == "video_url"]
        for stimulus, part in zip(in_order(question), parts, strict=True):
            assert part["video_url"]["url"].startswith("data:video/jpeg;base64,")
            assert part["video_url"]["url"].count(",") == 2  # two frames
            names.setdefault(stimulus, set()).add(part["uuid"])
    assert [len(names[s]) for s in range(N)] == [1] * N
    assert len(set.union(*names.values())) == N


@pytest.mark.parametrize("k", [3, 6])
def test_each_trial_is_asked_in_every_order_of_its_set(k: int) -> None:
    plan = make_plan(agent(orders=k), trials(N, repeats=2), materials(N), 1)
    asked = list(plan.questions())
    assert (plan.n_planned, plan.n_left, len({q.key for q in asked})) == (k * 380, k * 380, k * 380)
    orders: dict[object, set[tuple[int, ...]]] = {}
    for question in asked:
        orders.setdefault(identity(question), set()).add(question.order)
    for found in orders.values():
        assert len(found) == k
        assert all(sorted(order[p] for order in found) == sorted([1, 2, 3] * (k // 3)) for p in range(3))
    captions_of: dict[object, set[tuple[int, ...]]] = {}
    for question in asked:  # the captions do not change with the order
        drawn = dict(zip(in_order(question), question.captions or (), strict=True))
        captions_of.setdefault(identity(question), set()).add(tuple(drawn[s] for s in sorted(drawn)))
    assert all(len(found) == 1 for found in captions_of.values())


@pytest.mark.parametrize("k", [3, 6])
def test_answers_in_one_order_are_among_those_in_several(k: int) -> None:
    wanted, shown = trials(N, repeats=2), materials(N)
    single = make_plan(agent(), wanted, shown, 1)
    keys = {q.key for q in single.questions()}
    several = make_plan(agent(orders=k), wanted, shown, 1)
    assert keys < {q.key for q in several.questions()}
    left = make_plan(agent(orders=k), wanted, shown, 1, [answered(single)])
    assert (left.n_answered, left.n_left) == (380, (k - 1) * 380)
    assert not keys & {q.key for q in left.questions()}
    whole = make_plan(agent(orders=k), wanted, shown, 1, [answered(single), answered(left)])
    assert whole.n_left == 0 and make_plan(agent(), wanted, shown, 1, [answered(several)]).n_left == 0


def test_answers_in_three_orders_are_among_those_in_six_and_an_answer_of_another_set_is_not_counted() -> None:
    wanted, shown = trials(N), materials(N)
    three = make_plan(agent(orders=3), wanted, shown, 1)
    six = make_plan(agent(orders=6), wanted, shown, 1, [answered(three)])
    assert (six.n_answered, six.n_left) == (570, 570)
    again = make_plan(agent(orders=3), wanted, shown, 1, [answered(six)])
    assert (again.n_answered, again.n_left) == (0, 570)


def test_a_limit_leaves_at_most_one_set_of_orders_open() -> None:
    every = make_plan(agent(orders=3), trials(N), materials(N), 1)
    asked = Counter(identity(q) for q in make_plan(agent(orders=3), trials(N), materials(N), 1, limit=40).questions())
    assert sorted(asked.values()) == [1] + [3] * 13
    assert every.n_left == 570


@pytest.mark.parametrize("k", [1, 3])
def test_shares_of_several_orders_are_disjoint_and_complete(k: int) -> None:
    shares = [make_plan(agent(orders=k), trials(N), materials(N), 1, share=Share(n, 3)) for n in (1, 2, 3)]
    keys = [{q.key for q in plan.questions()} for plan in shares]
    assert sum(map(len, keys)) == len(set().union(*keys)) == k * 190
    units = [{identity(q) for q in plan.questions()} for plan in shares]
    assert sum(map(len, units)) == 190  # a set of orders is in one share
