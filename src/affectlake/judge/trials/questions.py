"""Questions, as they are sent to a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Question(NamedTuple):
    """One request: a trial, the way it is shown, and the body that is sent.

    Attributes
    ----------
    key : bytes
        SHA-256 (32 bytes) of everything that is asked; the key of a question never changes.
    trial_set : str
        Trial set of the triplet.
    i, j, k : int
        Stimulus indices of the triplet, ascending.
    repeat : int
        Number of the repeat, from 0.
    order : tuple of int
        The order shown, a row of :data:`affectlake.judge.trials.orders.ORDERS`: a permutation of 1, 2, 3. Position p
        (from 0) shows member ``order[p]`` of (i, j, k), the stimulus ``(i, j, k)[order[p] - 1]``; an answer "Video 2"
        means ``order[1]``.
    captions : tuple of int or None
        ``caption_index`` of the caption at each position, in the order shown; None if videos are shown.
    route : int
        The first stimulus shown. Questions with the same first stimulus share the beginning of their prompt.
    body : mapping
        Body of an OpenAI chat-completions request, including ``model``.
    """

    key: bytes
    trial_set: str
    i: int
    j: int
    k: int
    repeat: int
    order: tuple[int, int, int]
    captions: tuple[int, int, int] | None
    route: int
    body: Mapping[str, Any]
