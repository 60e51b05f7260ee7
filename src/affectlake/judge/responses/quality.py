"""Whether an agent's answers can be used: how many name a position, and whether the position decides.

An answer that depends on the stimuli chooses each position in about a third of the trials, because every stimulus is
shown about equally often at each position.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

ENOUGH = 100
"""Number of answers below which there is no verdict."""

STOP_AFTER = 300
"""Number of answers of a run after which an unreadable or constant agent is not asked further."""

UNREADABLE = 0.5
"""Share of answers that name a position, below which an agent is unreadable."""

CONSTANT = 0.95
"""Share of one position from which an agent is constant. An agent that depends on the stimuli alone reaches it in 100
answers with a probability below 10⁻³⁷ (binomial, three positions)."""

LEVEL, DECIDES = 0.001, 0.5
"""An agent depends on positions if equal shares are rejected at this level, and one position has this share or more."""

Kind = Literal["", "unreadable", "constant", "position"]


class Quality(NamedTuple):
    """Answers of an agent.

    Attributes
    ----------
    positions : tuple of int
        Numbers of answers that chose the first, second and third position.
    unread : dict of str to int
        Numbers of answers without a position, by reason.
    weighs : bool
        Whether choices are made from the probabilities of the answers, of several orders or calibrated. The answers are
        counted before that.
    probabilities : tuple of float or None
        Mean probabilities of the first, second and third position in the answers to a one-token protocol; None if there
        are none.
    """

    positions: tuple[int, int, int]
    unread: dict[str, int]
    weighs: bool = False
    probabilities: tuple[float, float, float] | None = None

    @property
    def n_parsed(self) -> int:
        """Number of answers that name a position."""
        return sum(self.positions)

    @property
    def n_answers(self) -> int:
        """Number of answers."""
        return self.n_parsed + sum(self.unread.values())

    @property
    def share_parsed(self) -> float:
        """Share of the answers that name a position; NaN without answers."""
        return self.n_parsed / self.n_answers if self.n_answers else float("nan")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the positions among the answers that name one; NaN without such answers."""
        first, second, third = (n / self.n_parsed if self.n_parsed else float("nan") for n in self.positions)
        return first, second, third

    @property
    def p_value(self) -> float:
        """p-value of Pearson's chi-squared test of equal shares, with two degrees of freedom; NaN without choices."""
        expected = self.n_parsed / 3
        if not expected:
            return float("nan")
        chi_square = sum((n - expected) ** 2 for n in self.positions) / expected
        return math.exp(-chi_square / 2)

    @property
    def is_unreadable(self) -> bool:
        """Whether there are enough answers, and too few of them name a position."""
        return self.n_answers >= ENOUGH and self.share_parsed < UNREADABLE

    @property
    def is_constant(self) -> bool:
        """Whether there are enough answers, and almost all of those that name a position name the same one."""
        return self.n_answers >= ENOUGH and not self.is_unreadable and max(self.shares) >= CONSTANT

    @property
    def kind(self) -> Kind:
        """What is wrong with the answers; empty if nothing is known to be wrong, or there are fewer than `ENOUGH`."""
        if self.n_answers < ENOUGH:
            return ""
        if self.is_unreadable or self.is_constant:
            return "unreadable" if self.is_unreadable else "constant"
        return "position" if self.p_value < LEVEL and max(self.shares) >= DECIDES else ""

    @property
    def verdict(self) -> str:
        """What is wrong with the answers, in words; empty if nothing is."""
        most = self.positions.index(max(self.positions)) + 1
        chose = f"chose position {most} in {max(self.shares):.1%} of {self.n_parsed:,} answers"
        if self.kind == "unreadable":
            reason = max(self.unread, key=lambda one: self.unread[one])
            of = f"{1 - self.share_parsed:.1%} of {self.n_answers:,} answers (mostly {reason})"
            return f"did not name a position in {of}: the others are not a sample of its judgments"
        if self.kind == "constant" and self.weighs:
            return f"{chose}: before they are combined, these answers do not depend on the stimuli"
        if self.kind == "constant":
            return f"{chose}: these answers do not depend on the stimuli"
        if self.kind == "position":
            return f"{chose} (p = {self.p_value:.1g} under equal shares): they depend on the order shown"
        return ""


def quality(
    positions: Mapping[int, int],
    unread: Mapping[str, int],
    weighs: bool = False,
    probabilities: NDArray[np.float64] | None = None,
) -> Quality:
    """Return the quality of answers.

    Parameters
    ----------
    positions, unread : mapping
        Numbers of answers by position, 1 to 3, and of the others by reason.
    weighs : bool
        As in :class:`Quality`.
    probabilities : float64 (n, 3), optional
        Probabilities of the positions; rows with NaN are left out.
    """
    first, second, third = (int(positions.get(at, 0)) for at in (1, 2, 3))
    means = None
    if probabilities is not None and (known := probabilities[~np.isnan(probabilities).any(axis=1)]).size:
        one, two, three = known.mean(axis=0).tolist()
        means = (one, two, three)
    return Quality((first, second, third), dict(unread), weighs, means)


def useless(found: Quality) -> str:
    """Return why an agent should not be asked further; empty if it should, or `STOP_AFTER` answers are not reached.

    Constant answers are not a reason if choices are made from their probabilities.
    """
    if found.n_answers < STOP_AFTER:
        return ""
    return found.verdict if found.is_unreadable or (found.is_constant and not found.weighs) else ""
