"""What a table of the paper's size costs: writing, validating, publishing, querying, checking out 7.1 million rows.

    python benchmarks/tables.py [--stimuli 2180] [--rounds 3]

Beside the lake's own operations stands what a user without it would do on the same files: `dvc` commands and DuckDB.
Everything happens in a temporary folder.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import yaml

from affectlake import seeds
from affectlake.lake import expectations, layout, parts, repository, rules
from affectlake.lake.checkout import checkout
from affectlake.lake.contracts import contract
from affectlake.lake.diff import diff
from affectlake.lake.stages import record_done
from affectlake.lake.versions import resolve
from affectlake.triplets import sample_dyads

COUNT = "SELECT odd, count(*) AS n FROM choices GROUP BY odd ORDER BY n DESC LIMIT 3"


def choices(n_stimuli: int, seed: int) -> pl.DataFrame:
    """Return made-up choices on the main set of `n_stimuli`, one in a hundred differing by `seed`."""
    triplets = sample_dyads(n_stimuli, seeds.generator(0, "benchmark"))
    rng = seeds.generator(seed, "answers")
    odd = triplets[:, 2].copy()
    changed = rng.choice(len(odd), len(odd) // 100, replace=False)
    odd[changed] = triplets[changed, 0]
    frame = pl.DataFrame(triplets, schema=["i", "j", "k"], orient="row")
    return frame.with_columns(
        pl.lit("agent").alias("agent"),
        pl.lit("benchmark/1").alias("protocol"),
        pl.lit("main").alias("trial_set"),
        pl.lit(0, dtype=pl.Int16).alias("repeat"),
        pl.Series("odd", odd),
        pl.lit(value=False).alias("tied"),
    )


def seconds(run: Callable[[], object]) -> float:
    """Return how long `run` takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def put(lake: Path, frame: pl.DataFrame) -> float:
    """Make `frame` the lake's working choices; return how long writing took."""
    folder = lake / layout.table_folder("choices/agent")
    shutil.rmtree(folder, ignore_errors=True)
    return seconds(lambda: parts.write_parts(frame, contract("choices"), folder))


def command(*words: str, cwd: Path) -> Callable[[], object]:
    """Return a call that runs a command, quietly."""
    return lambda: subprocess.run(words, cwd=cwd, check=True, capture_output=True)


def lake_with_two_versions(folder: Path, n_stimuli: int) -> Path:
    """Return a lake whose versions v1 and v2 differ in some 2 % of their choices."""
    lake = folder / "lake"
    repository.init(lake, "study: benchmark\n")
    outs = [{f"{layout.TABLES}/choices/agent": {"persist": True}}]
    (lake / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": {"cmd": "true", "outs": outs}}}))
    for seed in (1, 2):
        put(lake, choices(n_stimuli, seed))
        record_done(lake, "made")
        repository.publish(lake)
    return lake


def validate(lake: Path, triplets: pl.LazyFrame) -> None:
    """Run every rule of the choices table."""
    files = parts.part_files(lake / layout.table_folder("choices/agent"))
    table = contract("choices")
    failures = expectations.validate(table, files) + rules.check(table, files, {"triplets": triplets})
    assert not failures, failures[0]


def measure(lake: Path, n_stimuli: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each operation."""
    frame = choices(n_stimuli, 3)
    triplets = frame.lazy().select("trial_set", "i", "j", "k")
    v1, v2 = resolve(lake, "v1"), resolve(lake, "v2")
    by_duckdb = (
        "import duckdb; print(duckdb.sql(\"SELECT odd, count(*) AS n FROM 'storage/tables/choices/agent/*.parquet'"
        ' GROUP BY odd ORDER BY n DESC LIMIT 3").fetchall())'
    )
    back = [
        command("git", "checkout", "lake/v2", "--", "dvc.lock", cwd=lake),
        command("dvc", "checkout", "-f", cwd=lake),
    ]
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        checkout(lake, v2)
        taken.setdefault("row diff of two versions", []).append(seconds(lambda: diff(lake, v1, v2)))
        ask = command("affectlake", "query", COUNT, "--at", "v1", "--format", "json", cwd=lake)
        taken.setdefault("grouped count at an old version, cold process", []).append(seconds(ask))
        taken.setdefault("checkout of an old version, verified", []).append(seconds(lambda: checkout(lake, v1)))
        checkout(lake, v2)
        plain = seconds(command("git", "checkout", "lake/v1", "--", "dvc.lock", cwd=lake))
        plain += seconds(command("dvc", "checkout", "-f", cwd=lake))
        taken.setdefault("beside: `dvc checkout` of it", []).append(plain)
        plain += seconds(command(sys.executable, "-c", by_duckdb, cwd=lake))
        taken.setdefault("beside: `dvc checkout`, then DuckDB", []).append(plain)
        for run in back:
            run()
    for _ in range(rounds):
        taken.setdefault("write, flushed", []).append(put(lake, frame))
        taken.setdefault("validate (Great Expectations and rules)", []).append(
            seconds(lambda: validate(lake, triplets))
        )
    taken["keep in the cache and publish"] = [seconds(lambda: (record_done(lake, "made"), repository.publish(lake)))]
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=2180)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_with_two_versions(Path(folder), arguments.stimuli)
        found = measure(lake, arguments.stimuli, arguments.rounds)
    n_rows = 3 * arguments.stimuli * (arguments.stimuli - 1) // 2
    versions = ", ".join(
        f"{p} {importlib.metadata.version(p)}" for p in ("polars", "duckdb", "dvc", "great_expectations")
    )
    print(
        f"{n_rows:,} choices; {platform.machine()}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}; {versions}."
    )
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"Median of {arguments.rounds} rounds. Peak memory {peak_gb:.1f} GB.")
    print("\n| what | seconds |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()
