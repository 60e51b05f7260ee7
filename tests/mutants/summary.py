"""The results of a mutation run as text: a line for each mutant, and a table of the packages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
HOW = ("assertion", "error", "import", "process ended", "time limit", "survived")
"""What can become of a mutant: a failed assertion, another error in the product or a test, an error at import, a
process that ended without a result, a run that takes too long, or no failure."""


def read(results: Path) -> list[Result]:
    """Return the results of a file."""
    return [json.loads(line) for line in results.read_text().splitlines()]


def line(found: Result) -> str:
    """Return what became of a mutant as a line."""
    change = f"{found['before']!r} -> {found['after']!r}" if len(found["before"]) < 200 else found["kind"]
    by = f" {found['by'].rpartition('/')[2]}: {found['why'][:80]!r}" if found["why"] else ""
    return f"{found['how']} ({found['seconds']:.0f} s) {found['path']}:{found['line']} {found['kind']}: {change}{by}"


def table(found: Sequence[Result], packages: Iterable[str]) -> str:
    """Return a Markdown table: mutants by package and by what became of them, and the share of killed ones."""
    from statsmodels.stats.proportion import proportion_confint

    rows = [(one, [result for result in found if result["package"] == one]) for one in packages]
    lines = ["| package | mutants | " + " | ".join(HOW) + " | killed (95 % CI) |", "|" + "---|" * (len(HOW) + 3)]
    for name, some in (*rows, ("all", list(found))):
        counts = [sum(result["how"] == how for result in some) for how in HOW]
        if some:
            killed = len(some) - counts[-1]
            low, high = proportion_confint(killed, len(some), method="wilson")
            share = f"{killed / len(some):.1%} ({low:.1%} to {high:.1%})"
            lines.append(f"| `{name}` | {len(some)} | " + " | ".join(map(str, counts)) + f" | {share} |")
    return "\n".join(lines)
