"""Probabilities of the labels, which stand for the positions, from the log-probabilities of a one-token answer."""

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
    leftover : float or None
        Probability of all other tokens; None if the log-probabilities are those of the limited answer.
    """

    p1: float
    p2: float
    p3: float
    leftover: float | None


class Weighed(NamedTuple):
    """Probabilities of the positions, and a message if the log-probabilities are not valid."""

    probabilities: Probabilities | None
    oddity: str | None


def weigh(logprobs: str | None, labels: Sequence[str] = NUMBERS, *, masked: bool = False) -> Weighed:
    r"""Return P(1), P(2), P(3) of a one-token answer and the remaining probability.

    With :math:`\ell_t` the log-probabilities of the listed tokens t at the place of the answer, and c the labels,
    :math:`m_c = \sum_{t: \mathrm{strip}(t) = c} e^{\ell_t}`, :math:`P(c) = m_c / \sum_{c'} m_{c'}` and the leftover is
    :math:`1 - \sum_c m_c`. Blanks and quotation marks around a token are ignored. A choice that is not among the listed
    tokens has probability 0.

    Parameters
    ----------
    logprobs : str or None
        JSON of the ``logprobs`` of the server's choice: ``{"content": [{"token", "logprob", "top_logprobs"}]}``.
    labels : sequence of str
        The three labels, in the order of the positions.
    masked : bool
        Whether the server computed the log-probabilities after it had excluded all other tokens. The leftover, which
        would always be 0, is then None.

    Returns
    -------
    Weighed
        Without probabilities if the server did not send log-probabilities, if none of the three choices is among the
        listed tokens, or (with a message) if a log-probability is not valid.
    """
    try:
        found = json.loads(logprobs) if logprobs else None
        for place in (found or {}).get("content") or ():
            if _word(place["token"]) in labels:
                return Weighed(_weigh(place, labels, masked=masked), None)
    except _OddError as odd:
        return Weighed(None, str(odd))
    except (LookupError, TypeError, AttributeError, ValueError):
        return Weighed(None, "the log-probabilities do not have the form of a chat completion, p1 to p3 are null")
    return Weighed(None, None)


class _OddError(Exception):
    """A number that is not a log-probability."""


def label_mass(logprobs: str | None, labels: Sequence[str]) -> float | None:
    """Return the probability of all labels together, as listed; None if no log-probabilities are listed.

    The labels are those of :func:`weigh`. The first token is read if no token of the answer is a label.
    """
    try:
        places: Sequence[Mapping[str, Any]] = (json.loads(logprobs) if logprobs else {}).get("content") or ()
        place = next((one for one in places if _word(one["token"]) in labels), places[0])
        return math.fsum(_masses(place, labels))
    except (_OddError, LookupError, TypeError, AttributeError, ValueError):
        return None


def _weigh(place: Mapping[str, Any], labels: Sequence[str], *, masked: bool) -> Probabilities | None:
    mass = _masses(place, labels)
    total = math.fsum(mass)
    if total > _MOST_MASS:
        raise _OddError(f"the probabilities of the choices sum to {total:.3g}, p1 to p3 are null")
    if total <= 0.0:
        return None
    p1, p2, p3 = (m / total for m in mass)
    return Probabilities(p1, p2, p3, None if masked else max(0.0, 1.0 - total))


def _masses(place: Mapping[str, Any], labels: Sequence[str]) -> list[float]:
    """Return the probability of each label among the tokens that are listed at one place of an answer."""
    tokens = {one["token"]: one["logprob"] for one in place.get("top_logprobs") or ()}
    tokens.setdefault(place["token"], place.get("logprob"))
    return [math.fsum(_probability(c, lp) for token, lp in tokens.items() if _word(token) == c) for c in labels]


def _word(token: str) -> str:
    """Return a token without blanks and quotation marks around it."""
    return token.strip().strip('"').strip()


def _probability(choice: str, logprob: object) -> float:
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= _LARGEST_LOGPROB:
        raise _OddError(f"the log-probability of {choice} was {repr(logprob)[:40]}, p1 to p3 are null")
    return math.exp(logprob)
