"""How long planning takes and how much memory it needs, at the paper's size and at ten million trials.

Run ``python -m benchmarks.planning [N_STIMULI] [PER_DYAD]``; a table goes to stdout.
"""

from __future__ import annotations

import resource
import sys
import time
from itertools import islice

import numpy as np
import polars as pl

from affectlake.judge import parse_agent
from affectlake.judge.chat import ChatAgent
from affectlake.judge.materials import caption_materials
from affectlake.judge.orders import position_counts, shown
from affectlake.judge.planning import Trials, make_plan
from affectlake.triplets import sample_dyads

N_QUESTIONS = 200_000


def main(n_stimuli: int = 2180, per_dyad: int = 3) -> None:
    """Plan a main set, put some questions into words, and print what it took."""
    agent = parse_agent(
        "bench",
        {
            "kind": "chat",
            "model": "m",
            "revision": None,
            "servers": ["http://127.0.0.1:1/v1"],
            "protocol": "describe-then-choose",
            "modality": "captions",
            "sampling": {"max_tokens": 256, "seed": 0},
        },
    )
    assert isinstance(agent, ChatAgent)
    index = np.arange(n_stimuli, dtype=np.int32)
    stimuli = pl.DataFrame({"stimulus_index": index, "stimulus_id": [f"{s:04d}.mp4" for s in index]})
    rows = [
        (s, c, f"a person {c} does something that takes about twelve words to say, {s}")
        for s in index
        for c in range(20)
    ]
    types = {"stimulus_index": pl.Int32, "caption_index": pl.Int16, "caption": pl.String}
    shown_as = caption_materials(stimuli, pl.DataFrame(rows, schema=types, orient="row"))
    triplets = sample_dyads(n_stimuli, np.random.default_rng(0), per_dyad)
    trials = Trials("main", triplets, np.ones(len(triplets), dtype=np.int16))
    report(f"{len(triplets):,} trials drawn", 0.0)
    started = time.perf_counter()
    plan = make_plan(agent, trials, shown_as, 1)
    report("planned", time.perf_counter() - started)
    balance = position_counts(shown(triplets[plan.row], plan.code), n_stimuli)
    report(f"largest difference between a stimulus's positions: {balance.imbalance}", 0.0)
    started = time.perf_counter()
    asked = list(
        islice(((q.key, q.repeat, q.order, q.captions, (q.i, q.j, q.k)) for q in plan.questions()), N_QUESTIONS)
    )
    seconds = time.perf_counter() - started
    report(f"{N_QUESTIONS:,} questions in words, {N_QUESTIONS / seconds:,.0f}/s", seconds)
    members = np.array([one[4] for one in asked], dtype=np.int32)
    in_order = np.take_along_axis(members, np.array([one[2] for one in asked]) - 1, axis=1)
    captions = np.array([one[3] for one in asked], dtype=np.int16)
    names = [f"{p}_{n}" for p in ("shown", "caption") for n in (1, 2, 3)]
    answers = pl.DataFrame(np.hstack([in_order, captions]), schema=names).with_columns(
        pl.Series("request_key", [one[0] for one in asked]),
        pl.lit("main").alias("trial_set"),
        pl.lit(0, dtype=pl.Int16).alias("repeat"),
        *(pl.Series(name, members[:, at]) for at, name in enumerate("ijk")),
    )
    started = time.perf_counter()
    again = make_plan(agent, trials, shown_as, 1, [answers])
    report(f"planned again with {again.n_answered:,} answered", time.perf_counter() - started)


def report(what: str, seconds: float) -> None:
    """Print one row: what was done, how long it took, and the largest memory so far."""
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {what} | {seconds:.1f} s | {peak_gb:.2f} GB |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
