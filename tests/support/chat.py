"""A chat agent, its captions and its trials, for tests of what is asked."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl

from affectlake.judge.agents import parse_agent
from affectlake.judge.chat import ChatAgent
from affectlake.judge.protocols.builtin import built_in
from affectlake.judge.trials.content import Materials, caption_materials, video_materials
from affectlake.judge.trials.plan import Plan, Trials
from affectlake.triplet_sampling import sample_dyads

ENTRY: dict[str, Any] = {
    "kind": "chat",
    "model": "tiny-llama",
    "revision": None,
    "servers": ["http://127.0.0.1:8000/v1"],
    "protocol": "describe-then-choose",
    "modality": "captions",
    "sampling": {"max_tokens": 64, "temperature": 0.7, "seed": 11},
}

KEY_PHRASE, LOCATION, ONE_TOKEN = (
    built_in(f"{family}/caption") for family in ("describe-then-choose", "naive-least-similar", "forced-choice")
)
"""A protocol of each of the readings that built-in protocols have."""


def agent(**changes: Any) -> ChatAgent:
    """The agent ``tiny``, with keys of its entry changed."""
    found = parse_agent("tiny", ENTRY | changes)
    assert isinstance(found, ChatAgent)
    return found


def stimuli(n: int) -> pl.DataFrame:
    """A catalogue of n stimuli."""
    return pl.DataFrame(
        {"stimulus_index": np.arange(n, dtype=np.int32), "stimulus_id": [f"clip-{s}" for s in range(n)]}
    )


def captions(n: int, each: int = 4) -> pl.DataFrame:
    """Each of n stimuli's captions."""
    rows = [(s, c, f"clip {s} as person {c} saw it") for s in range(n) for c in range(each)]
    types = {"stimulus_index": pl.Int32, "caption_index": pl.Int16, "caption": pl.String}
    return pl.DataFrame(rows, schema=types, orient="row")


def materials(n: int, each: int = 4) -> Materials:
    """The captions as they are shown."""
    return caption_materials(stimuli(n), captions(n, each))


def trials(n: int, repeats: int = 1, trial_set: str = "main") -> Trials:
    """Trials over n stimuli."""
    triplets = sample_dyads(n, np.random.default_rng(3), 1)
    return Trials(trial_set, triplets, np.full(len(triplets), repeats, dtype=np.int16))


def answered(plan: Plan, n: int | None = None) -> pl.DataFrame:
    """The responses to the first n questions of a plan, as far as planning looks at them."""
    rows = []
    for question in list(plan.questions())[:n]:
        members = (question.i, question.j, question.k)
        in_order = tuple(members[member - 1] for member in question.order)
        rows.append(
            (question.key, question.trial_set, *members, question.repeat, *in_order, *(question.captions or ()))
        )
    ints = ["i", "j", "k", "repeat", "shown_1", "shown_2", "shown_3", "caption_1", "caption_2", "caption_3"]
    types = {"request_key": pl.Binary, "trial_set": pl.String} | dict.fromkeys(ints, pl.Int32)
    return pl.DataFrame(rows, schema=types, orient="row")


def video_frames(n: int) -> Materials:
    """Two frames of each of n videos."""
    rows = [(s, f, hashlib.sha256(bytes([s, f])).hexdigest(), bytes([s, f])) for s in range(n) for f in range(2)]
    types = {"stimulus_index": pl.Int32, "frame_index": pl.Int16, "frame_sha256": pl.String, "jpeg": pl.Binary}
    return video_materials(stimuli(n), pl.DataFrame(rows, schema=types, orient="row"))
