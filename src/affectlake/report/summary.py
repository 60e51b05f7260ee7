"""The table of an agent's results, each with interval, chance and p-value, or with the reason why it is missing."""

from __future__ import annotations

from affectlake.report.agent_summary import AgentFacts, rows_of
from affectlake.report.inputs import ReportInputs
from affectlake.report.number_format import NBSP, decimal, level, percent

# analysis, measure, name, and whether it is a share (None: an integer)
_NUMBERS = (
    ("noise_ceiling", "consistency", "Noise ceiling (mean share of the most frequent answer)", True),
    ("noise_ceiling", "attainable", "Expected accuracy of a perfect model (noise ceiling without luck)", True),
    ("held_out", "explained_share", "Explained share of the explainable variance", True),
    ("held_out", "attainable_share", "… by the expected accuracy of a perfect model", True),
    ("generalisation", "rsm_pearson_r", "Generalisation: predicted and measured similarities of prototypes (r)", False),
    ("reproducibility", "mean_pearson_r", "Reproducibility across fits (mean r)", False),
    ("labels", "interpretable_share", "Dimensions with a label above |r| = 0.1", True),
    ("labels", "categorical_share", "… of which labelled by categories only", True),
    ("labels", "dimensional_share", "… of which labelled by other ratings only", True),
    ("labels", "mixed_share", "… of which labelled by both", True),
    ("graph", "n_isolated", "Isolated dimensions of the graph", None),
    ("graph", "n_communities", "Communities of the graph", None),
    ("graph", "modularity", "Modularity of the communities", False),
)

_PEOPLE = {
    "within_participants": "Agreement within participants, on a triplet that they answered again",
    "between_participants": "Agreement between participants, on the same triplet",
    "consistency": "Noise ceiling: share of a triplet's most frequent answer, with an interval over participants",
}


def summary(inputs: ReportInputs, facts: AgentFacts) -> list[dict[str, object]]:
    """Return the agent's results with interval, chance and p-value, or the reason why one is missing."""
    found = []
    for analysis, measure, name, share in _NUMBERS:
        rows = rows_of(inputs, facts, analysis, measure)
        if len(rows):
            found.append({"name": name, **_written(rows.row(0, named=True), share)})
    easy = inputs.table("easy_scores", facts.agent)
    if easy is not None and len(easy):
        found.append(
            {
                "name": "Easy trials (known from ratings) that were right",
                **_written(easy.row(0, named=True), share=True),
            }
        )
    people = inputs.table("reliability", facts.agent)
    if people is not None:
        of = {row["measure"]: row for row in people.iter_rows(named=True)}
        found += [{"name": name, **_written(of[one], share=True)} for one, name in _PEOPLE.items() if one in of]
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
