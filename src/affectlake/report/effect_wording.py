"""Effect sizes, Bayes factors and prevalences of brain regions in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from affectlake.report.inputs import BrainInputs
from affectlake.report.number_format import NBSP, counted, decimal, percent, percent_range

_EFFECT = ("effect_size", "effect_ci_low", "effect_ci_high", "bayes_factor")
_PREVALENCE = ("n_significant", "n_subjects", "prevalence", "prevalence_low", "prevalence_high")
_MANY = 1000  # a Bayes factor above it is not written out


def effect_words(row: Mapping[str, Any]) -> str:
    """Return ``g = 1.50 (0.32 to 3.38), BF₁₀ = 5.6`` of a row of tests across subjects; empty without these columns."""
    size, low, high, factor = (row.get(name) for name in _EFFECT)
    words = [] if size is None else [f"g{NBSP}={NBSP}{decimal(size)} ({decimal(low)} to {decimal(high)})"]
    if factor is not None:
        words.append(f"BF₁₀{NBSP}{f'>{NBSP}{_MANY:,}' if factor > _MANY else f'={NBSP}{_short(factor)}'}")
    return ", ".join(words)


def prevalence_words(row: Mapping[str, Any]) -> str:
    """Return ``in 4 of 5 subjects; prevalence 79 % (38 to 98 %)`` of a row; empty without a prevalence."""
    k, n, mode, low, high = (row.get(name) for name in _PREVALENCE)
    if k is None or n is None or mode is None:
        return ""
    return f"in {k} of {counted(n, 'subject')}; prevalence {percent(mode, 0)} ({percent_range(low, high, 0)})"


def region_words(brain: BrainInputs, method: str, region: str, agent: str) -> str:
    """Return what is added to the hint of an agent's bar: how it differs from the reference, and its prevalence."""
    alone = _row(brain.prevalence, method=method, region=region, agent=agent)
    against = _row(brain.stats, method=method, region=region, agent=agent, other_agent=brain.reference)
    words = [f"above relabelled stimuli {found}" if (found := prevalence_words(alone)) else ""]
    if found := effect_words(against):
        words.append(f"minus {brain.reference}: {found}")
    return "; ".join(filter(None, words))


def _row(table: pl.DataFrame, **wanted: str) -> dict[str, Any]:
    """Return the row with these values; empty if there is none."""
    if not set(wanted) <= set(table.columns):
        return {}
    rows = table.filter(*(pl.col(name) == value for name, value in wanted.items()))
    return rows.row(0, named=True) if len(rows) else {}


def _short(factor: float) -> str:
    return decimal(factor, 1 if factor >= 1 else 2)
