"""The table of an agent's single numbers, each with interval, null and level, or with the reason why it is missing."""

from __future__ import annotations

from affectlake.report.agent_summary import AgentFacts, rows_of
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import NBSP, decimal, level, percent

# analysis, measure, name, and whether it is a share (None: a whole number)
_NUMBERS = (
    ("noise_ceiling", "consistency", "Noise ceiling (share of the most frequent answer)", True),
    ("held_out", "explained_share", "Share of what can be predicted that is predicted", True),
    ("generalisation", "rsm_pearson_r", "Similarity of prototypes, predicted and chosen (r)", False),
    ("reproducibility", "mean_pearson_r", "Reproducibility over fits (mean r)", False),
    ("labels", "interpretable_share", "Dimensions with a label above |r| = 0.1", True),
    ("labels", "categorical_share", "… named by categories only", True),
    ("labels", "dimensional_share", "… named by affective dimensions only", True),
    ("labels", "mixed_share", "… named by both", True),
    ("graph", "n_isolated", "Isolated dimensions in the graph", None),
    ("graph", "n_communities", "Communities in the graph", None),
    ("graph", "modularity", "Modularity of the communities", False),
)


def summary(inputs: ReportInputs, facts: AgentFacts) -> list[dict[str, object]]:
    """Return the agent's single numbers with interval, null and level, or the reason why one is missing."""
    found = []
    for analysis, measure, name, share in _NUMBERS:
        rows = rows_of(inputs, facts, analysis, measure)
        if len(rows):
            found.append({"name": name, **_written(rows.row(0, named=True), share)})
    return found


def _written(row: dict[str, object], share: bool | None) -> dict[str, object]:
    def write(value: object) -> str:
        if not isinstance(value, float):
            return ""
        return percent(value) if share else decimal(value, 0 if share is None else 3)

    ends = [write(row["ci_low"]), write(row["ci_high"])]
    p = row["p_value"]
    return {
        "value": write(row["value"]),
        "interval": " to ".join(ends) if all(ends) else "",
        "chance": write(row["chance"]),
        "level": level(p).removeprefix(f"p{NBSP}").removeprefix(f"={NBSP}") if isinstance(p, float) else "",
        "note": str(row["note"] or ""),
    }
