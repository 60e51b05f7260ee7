"""Views that queries may use beside a version's tables. They are computed from its tables and are not stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Derived(NamedTuple):
    """A view: its grain, its columns with their meaning, the tables it reads, and its SELECT with their names."""

    grain: str
    columns: Mapping[str, str]
    tables: tuple[str, ...]
    select: str


_CHOSEN = "SELECT agent, seed FROM {fits} WHERE representative"
_HELD_OUT = "analysis = 'held_out' AND measure = 'accuracy'"
_TOP = "analysis = 'nearest_centroid' AND measure = 'top{n}_accuracy'"


def headline(metrics: str, chosen: str) -> str:
    """Return the SELECT of the main numbers of each agent, those of its representative fit.

    Parameters
    ----------
    metrics : str
        The name of the table, in SQL.
    chosen : str
        A SELECT of the representative fits: ``agent, seed``.
    """
    values = [
        f"max(value) FILTER ({_HELD_OUT}) AS accuracy",
        f"max(ci_low) FILTER ({_HELD_OUT}) AS accuracy_low",
        f"max(ci_high) FILTER ({_HELD_OUT}) AS accuracy_high",
        f"max(n) FILTER ({_HELD_OUT}) AS n_test",
        "max(value) FILTER (analysis = 'held_out' AND measure = 'attainable_share') AS attainable_share",
    ]
    for n in (1, 3):
        of = _TOP.format(n=n)
        values += [
            f"max(value) FILTER ({of}) AS top{n}",
            f"max(ci_low) FILTER ({of}) AS top{n}_low",
            f"max(ci_high) FILTER ({of}) AS top{n}_high",
        ]
    return f"""
        WITH chosen AS ({chosen}),
             best AS (
                 SELECT agent, dimension, max(value) AS r FROM {metrics} JOIN chosen USING (agent, seed)
                 WHERE analysis = 'rating_correlation' GROUP BY ALL),
             labels AS (
                 SELECT agent, count(*) AS n_dimensions, count(*) FILTER (r > 0.95) AS n_labelled
                 FROM best GROUP BY agent)
        SELECT agent, any_value(seed) AS seed, {", ".join(values)},
               any_value(n_dimensions) AS n_dimensions, any_value(n_labelled) AS n_labelled
        FROM {metrics} JOIN chosen USING (agent, seed) LEFT JOIN labels USING (agent)
        GROUP BY agent ORDER BY agent
    """


DERIVED: dict[str, Derived] = {
    "headline": Derived(
        "one row per agent that has a representative fit, with its main numbers",
        {
            "agent": "The agent.",
            "seed": "Seed of its representative fit, which all numbers are of.",
            "accuracy": "Share of held-out triplets that the embedding predicts; chance is 1/3.",
            "accuracy_low": "Lower end of its 95 % confidence interval.",
            "accuracy_high": "Upper end of its 95 % confidence interval.",
            "n_test": "Number of held-out triplets.",
            "attainable_share": "The accuracy as a share of what is attainable; null if that was not measured.",
            "top1": "Share of stimuli whose category has the nearest centroid.",
            "top1_low": "Lower end of its 95 % confidence interval.",
            "top1_high": "Upper end of its 95 % confidence interval.",
            "top3": "Share of stimuli whose category is among the three nearest centroids.",
            "top3_low": "Lower end of its 95 % confidence interval.",
            "top3_high": "Upper end of its 95 % confidence interval.",
            "n_dimensions": "Number of dimensions that were compared with ratings.",
            "n_labelled": "Number of dimensions with r > 0.95 to one rating.",
        },
        ("metrics", "fits"),
        headline("{metrics}", _CHOSEN),
    ),
}
"""The views by name."""
