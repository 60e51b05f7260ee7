"""How often brains without any relation to the agents are said to follow one, for every way of selecting stimuli.

    python -m benchmarks.validity.brain_maps [--studies 20] [--permutations 99] [--kinds smooth shared]
        [--selections all others halves ratings] [--encoding] [--planted 0.5]

Every study has five subjects of 216 voxels, 90 stimuli of which 30 are kept, two agents made of the ratings and one of
random numbers, and runs through the steps of a study. Rows count maps (agents x subjects) or comparisons; intervals are
Wilson's, over studies for what subjects share and over maps otherwise. With ``--planted``, half of the voxels of every
brain also follow the category ratings, so that the shares are power: of the agent made of categories, and of the
differences between it and the others. With `halves`, every stimulus is presented twice, with the same planted pattern.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from affectlake.geometry.intervals import wilson_interval
from tests.support import null_brains

SELECTIONS = ("all", "others", "halves", "ratings")
METHODS = (("searchlight", "rsa_maps"), ("encoding", "encoding_maps"))


def outcomes(
    selection: str, kind: null_brains.Kind, seed: int, permutations: int, encoding: bool, planted: float = 0.0
) -> Iterator[dict[str, object]]:
    """Yield, for each agent and method of one study, the shares of its tests that are significant at 0.05."""
    params = null_brains.settings(selection, permutations, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        tables = null_brains.study(params, kind, seed, Path(folder), repeats=selection == "halves", planted=planted)
        found = null_brains.compared(tables, params, Path(folder), encoding=encoding)
    for method, table in METHODS:
        maps = found[table].filter(pl.col("basis") == "embedding")
        scores = found["roi_scores"].filter(
            pl.col("method") == method, pl.col("basis") == "embedding", pl.col("region") == "all"
        )
        for (agent, subject), one in maps.group_by("agent", "subject", maintain_order=True):
            yield (
                {"method": method, "agent": agent, "subject": subject}
                | {name: float((one[name].drop_nulls() <= 0.05).mean()) for name in ("p", "p_null")}
                | {name: bool((one[name].drop_nulls() <= 0.05).any()) for name in ("p_null_fdr", "p_fwe")}
            )
        for (agent,), one in scores.group_by("agent", maintain_order=True):
            raw, bias = one["region_score"].to_numpy(), one["region_bias"].fill_null(0).to_numpy()
            yield {"method": method, "agent": agent, "raw": stats.ttest_1samp(raw, 0).pvalue < 0.05,
                   "corrected": stats.ttest_1samp(raw - bias, 0).pvalue < 0.05, "score": float(raw.mean())}  # fmt: skip
        pairs = found["group_stats"].filter(
            pl.col("method") == method, pl.col("region") == "all", pl.col("agent") < pl.col("other_agent")
        )
        for pair in pairs.iter_rows(named=True):
            yield {"method": method, "agent": f"{pair['agent']} - {pair['other_agent']}", "pair": pair["p"] <= 0.05,
                   "both": max(pair["p"], pair["p_null"]) <= 0.05}  # fmt: skip
        for own in found["basis_stats"].filter(method=method, region="all").iter_rows(named=True):
            yield {"method": method, "agent": f"{own['agent']}, embedding - ratings", "pair": own["p"] <= 0.05,
                   "both": None if own["p_null"] is None else max(own["p"], own["p_null"]) <= 0.05}  # fmt: skip


def share(values: list[object]) -> str:
    """Return a share in per cent with its 95 % interval; a dash if nothing was tested."""
    if None in values:
        return "–"
    hits, n = int(sum(map(bool, values))), len(values)
    low, high = wilson_interval(hits, n)
    return f"{hits / n:.1%} ({low:.1%} to {high:.1%})"


def main() -> None:
    """Print one table per kind of brain."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--studies", type=int, default=20)
    asked.add_argument("--permutations", type=int, default=99)
    asked.add_argument("--kinds", nargs="*", default=["smooth", "shared"])
    asked.add_argument("--selections", nargs="*", default=SELECTIONS)
    asked.add_argument("--encoding", action="store_true", help="encoding maps as well, which take longest")
    asked.add_argument("--planted", type=float, default=0.0, help="ratio of the planted s.d. to that of the brains")
    wanted = asked.parse_args()
    print("| brains | selection | method | agent | voxels p ≤ 0.05 | voxels p_null ≤ 0.05 | maps p_null_fdr ≤ 0.05 "
          "| maps p_fwe ≤ 0.05 | score | score differs from 0 | after subtracting the bias |")  # fmt: skip
    print("|" + "---|" * 11)
    pairs: dict[tuple[str, str, str, str], list[dict[str, object]]] = {}
    for kind in wanted.kinds:
        for selection in wanted.selections:
            how = (wanted.permutations, wanted.encoding, wanted.planted)
            rows = [row for seed in range(wanted.studies) for row in outcomes(selection, kind, seed, *how)]
            for method, _ in METHODS if wanted.encoding else METHODS[:1]:
                for agent in null_brains.AGENTS:
                    mine = [row for row in rows if row["method"] == method and row["agent"] == agent]
                    maps, groups = ([row for row in mine if key in row] for key in ("p_fwe", "raw"))
                    print(
                        f"| {kind} | {selection} | {method} | {agent} "
                        f"| {np.mean([row['p'] for row in maps]):.1%} | {np.mean([row['p_null'] for row in maps]):.1%} "
                        f"| {share([row['p_null_fdr'] for row in maps])} | {share([row['p_fwe'] for row in maps])} "
                        f"| {np.mean([row['score'] for row in groups]):.4f} | {share([row['raw'] for row in groups])} "
                        f"| {share([row['corrected'] for row in groups])} |",
                        flush=True,
                    )
            for row in rows:
                if "pair" in row:
                    key = (kind, selection, str(row["method"]), str(row["agent"]))
                    pairs.setdefault(key, []).append(row)
    print("\n| brains | selection | method | agents | t-test, p ≤ 0.05 | t-test and relabelling |\n" + "|---" * 6 + "|")
    for key, rows in pairs.items():
        cells = [share([row[name] for row in rows]) for name in ("pair", "both")]
        print(f"| {' | '.join([*key, *cells])} |")


if __name__ == "__main__":
    main()
