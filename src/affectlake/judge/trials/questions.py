"""A question as it goes to a server. How questions are planned and worded does not belong here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Question(NamedTuple):
    """One request: which trial it is, how it is shown, and what is sent.

    Attributes
    ----------
    key : bytes
        SHA-256 (32 bytes) of everything that was asked; the same question has the same key for ever.
    trial_set : str
        The set that the triplet is of.
    i, j, k : int
        Stimulus indices of the triplet, ascending.
    repeat : int
        Which asking of the triplet this is, from 0.
    order : tuple of int
        The order shown, a row of :data:`affectlake.judge.trials.orders.ORDERS`: a permutation of 1, 2, 3. At position p
        (from 0) stands member ``order[p]`` of (i, j, k), so that ``(i, j, k)[order[p] - 1]`` is the stimulus shown
        there, and an answer "Video 2" means ``order[1]``.
    captions : tuple of int or None
        ``caption_index`` of the caption shown at each position, in the order shown; None where captions are not.
    route : int
        The first stimulus shown. Questions that share it share the beginning of their prompt.
    body : mapping
        The body of an OpenAI chat-completions request, ``model`` included.
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
