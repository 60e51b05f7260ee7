"""Probabilities of the positions, from the log-probabilities of a one-token answer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from affectlake.judge.protocols.readings import NUMBERS

_LARGEST_LOGPROB = 1e-3  # larger than 0 only by rounding
_MOST_MASS = 1.05


class Probabilities(NamedTuple):
    """Probabilities of the positions, from the log-probabilities of a one-token answer.

    Attributes
    ----------
    p1, p2, p3 : float
        Probability of each position, renormalised to sum to 1.
    leftover : float
        Probability of all other tokens.
    """

    p1: float
    p2: float
    p3: float
    leftover: float


class Weighed(NamedTuple):
    """Probabilities of the positions, and a message if the log-probabilities are not valid."""

    probabilities: Probabilities | None
    oddity: str | None


def weigh(logprobs: str | None, labels: Sequence[str] = NUMBERS) -> Weighed:
    r"""Return P(1), P(2), P(3) of a one-token answer and the remaining probability.

    With :math:`\ell_t` the log-probabilities of the listed tokens t at the place of the answer, and c the labels,
    :math:`m_c = \sum_{t: \mathrm{strip}(t) = c} e^{\ell_t}`, :math:`P(c) = m_c / \sum_{c'} m_{c'}` and the leftover is
    :math:`1 - \sum_c m_c`. A choice that is not among the listed tokens has probability 0.

    Parameters
    ----------
    logprobs : str or None
        JSON of the ``logprobs`` of the server's choice: ``{"content": [{"token", "logprob", "top_logprobs"}]}``.
    labels : sequence of str
        The three labels, in the order of the positions.

    Returns
    -------
    Weighed
        Without probabilities if the server did not send log-probabilities, if none of the three choices is among the
        listed tokens, or (with a message) if a log-probability is not valid.
    """
    try:
        found = json.loads(logprobs) if logprobs else None
        for place in (found or {}).get("content") or ():
            if place["token"].strip() in labels:
                return Weighed(_weigh(place, labels), None)
    except _OddError as odd:
        return Weighed(None, str(odd))
    except (LookupError, TypeError, AttributeError, ValueError):
        return Weighed(None, "the log-probabilities do not have the form of a chat completion, p1 to p3 are null")
    return Weighed(None, None)


class _OddError(Exception):
    """A number that is not a log-probability."""


def _weigh(place: Mapping[str, Any], labels: Sequence[str]) -> Probabilities | None:
    tokens = {one["token"]: one["logprob"] for one in place.get("top_logprobs") or ()}
    tokens.setdefault(place["token"], place.get("logprob"))
    mass = [math.fsum(_probability(c, lp) for token, lp in tokens.items() if token.strip() == c) for c in labels]
    total = math.fsum(mass)
    if total > _MOST_MASS:
        raise _OddError(f"the probabilities of the choices sum to {total:.3g}, p1 to p3 are null")
    if total <= 0.0:
        return None
    p1, p2, p3 = (m / total for m in mass)
    return Probabilities(p1, p2, p3, max(0.0, 1.0 - total))


def _probability(choice: str, logprob: object) -> float:
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= _LARGEST_LOGPROB:
        raise _OddError(f"the log-probability of {choice} was {repr(logprob)[:40]}, p1 to p3 are null")
    return math.exp(logprob)
