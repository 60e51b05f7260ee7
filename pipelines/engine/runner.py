"""Running one stage: open its inputs through their contracts, call the step, validate and write its outputs.

DVC decides whether a stage runs, and Prefect when, so that ``affectlake run`` and ``dvc repro`` give the same bytes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from affectlake.lake.files import layout
from affectlake.lake.files.names import own_path
from affectlake.lake.files.outputs import Output
from affectlake.lake.tables.parts import part_files
from affectlake.lake.tables.writing import read_output, write_outputs
from affectlake.pipelines.engine.graph import Stage
from affectlake.pipelines.params.study import Params
from affectlake.pipelines.step import OutputTables, StepContext
from affectlake.process.cores import available_cores
from affectlake.process.variables import integer

PROGRESS_EVERY_S = 5.0
MOST_WORKERS = 1024


class Outcome(NamedTuple):
    """Result of a stage: number of rows by output, and duration in seconds."""

    rows: dict[Output, int]
    seconds: float

    def __str__(self) -> str:
        return ", ".join(f"{output.table} {n:,}" for output, n in self.rows.items()) + " rows"


def run_stage(lake: Path, stage: Stage, params: Params, log: Callable[[str], None]) -> Outcome:
    """Run a stage on the lake's working tables and replace its outputs.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    stage : Stage
        The stage.
    params : Params
        The study's parameters.
    log : callable
        Takes one line of progress.

    Returns
    -------
    Outcome
        Numbers of rows, and the duration.

    Raises
    ------
    AffectlakeError
        If ``AFFECTLAKE_WORKERS`` is invalid, an input is missing, or the outputs break their contract. The previous
        outputs are kept then.
    """
    started, n_workers = time.monotonic(), workers()
    tables = opened(lake, stage.reads)
    scratch = own_path(lake, layout.SCRATCH / stage.name)
    scratch.mkdir(parents=True, exist_ok=True)
    context = StepContext(
        stage.agent, lake, scratch, n_workers, log, _rate_limited(log), part_paths(lake, stage.reads), stage.agents
    )
    frames = stage.step.function(tables, params, context)
    outputs = {output: frames[output.table] for output in stage.writes}
    write_outputs(lake, stage.name, outputs, tables)
    if stage.step.fits:
        _record(lake, stage, params, frames, scratch, log)
    shutil.rmtree(scratch, ignore_errors=True)
    return Outcome({output: frame.height for output, frame in outputs.items()}, time.monotonic() - started)


def _record(
    lake: Path, stage: Stage, params: Params, frames: OutputTables, scratch: Path, log: Callable[[str], None]
) -> None:
    """Record the fits as model runs. The tables are complete, so that no error here causes the stage to fail."""
    try:
        from affectlake.pipelines.engine.model_runs import record_fits

        record_fits(lake, stage, params, frames, scratch, log)
    except Exception as error:  # tracking and drawing have many kinds of errors
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        log(f"the fits of {stage.agent} are not recorded in MLflow, but all tables are complete: {why}")


def opened(lake: Path, outputs: tuple[Output, ...]) -> dict[str, pl.LazyFrame]:
    """Return the working tables by name, with the partitions of several agents as one table."""
    parts: dict[str, list[pl.LazyFrame]] = {}
    for output in outputs:
        parts.setdefault(output.table, []).append(read_output(lake, output))
    return {table: found[0] if len(found) == 1 else pl.concat(found) for table, found in parts.items()}


def part_paths(lake: Path, outputs: tuple[Output, ...]) -> dict[str, tuple[Path, ...]]:
    """Return the files of the working tables by name."""
    found: dict[str, tuple[Path, ...]] = {}
    for output in outputs:
        found[output.table] = (*found.get(output.table, ()), *part_files(lake / output.folder))
    return found


def workers() -> int:
    """Return the number of cores to use: ``AFFECTLAKE_WORKERS``, or all available ones.

    Raises
    ------
    UsageError
        If ``AFFECTLAKE_WORKERS`` is not a number of workers.
    """
    n_cores = available_cores()
    return integer(
        "AFFECTLAKE_WORKERS",
        1,
        MOST_WORKERS,
        default=n_cores,
        meaning="a number of workers",
        unset=f"to use all cores ({n_cores} here)",
    )


def _rate_limited(log: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that logs a line if the last one is at least `PROGRESS_EVERY_S` old."""
    last = time.monotonic()

    def log_rarely(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_EVERY_S:
            last = time.monotonic()
            log(line)

    return log_rarely
