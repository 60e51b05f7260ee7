"""Questions for the tests of asking: small, many, and each with a request of its own."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import permutations

import numpy as np
import orjson
from numpy.typing import NDArray

from affectlake.judge.trials.questions import Question

ORDERS = tuple(permutations((1, 2, 3)))


def make_questions(n: int, model: str = "tiny", padding: str = "") -> Iterator[Question]:
    """Yield `n` questions; question number m is always the same."""
    for m in range(n):
        text = f"{padding}Which of the three is the odd one out? Question {m}."
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
        key = sha256(orjson.dumps(body)).digest()
        i, j, k = m // 50, m // 50 + 1 + m % 50, m // 50 + 60
        yield Question(key, "main", i, j, k, 0, ORDERS[m % 6], (m % 20, 1, 2), i, body)  # type: ignore[arg-type]


def position_counts(in_order: NDArray[np.int32], n_stimuli: int) -> NDArray[np.int64]:
    """Return how often each stimulus stands at each position, (n_stimuli, 3), of triplets in the order shown."""
    return np.stack([np.bincount(column, minlength=n_stimuli) for column in in_order.T], axis=1)
