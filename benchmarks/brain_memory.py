"""Peak memory and seconds of the brain steps, run as the runner runs them: tables on disk, one process a step.

    python benchmarks/brain_memory.py [--subjects 3] [--voxels 100000] [--stimuli 2180]

Made-up recordings are written by `ingest_brains` and read by every step after it. Spheres are only set up, not
searched (their time is in ``benchmarks/brain.py``). "Its own" is memory that the process alone holds; "mapped" are
pages of files, which the system shares between processes and takes back when it needs them.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

AGENT = "human-category"
STAGES = (("ingest_brains", ""), ("select_stimuli", ""), ("encode_brains", AGENT), ("search_brains", AGENT))


class Size(NamedTuple):
    """How large the made-up study is."""

    subjects: int
    stimuli: int
    voxels: int


def recordings(
    size: Size, _tables: object, _params: object, _lake: object, ids: list[str]
) -> Iterator[tuple[str, Any]]:
    """Make up one recording after another: noise, and voxels in a cube."""
    from affectlake.brain.recordings.subjects import Recording

    side = int(np.ceil(size.voxels ** (1 / 3)))
    voxels = np.argwhere(np.ones((side,) * 3))[: size.voxels].astype(np.int32)
    for number in range(size.subjects):
        rng = np.random.default_rng(number)
        patterns = rng.standard_normal((size.stimuli, size.voxels), dtype=np.float32)
        labels = list(ids)
        runs = np.arange(size.stimuli) // 40
        yield f"S{number + 1}", Recording(patterns, labels, runs, voxels, voxels.astype(np.float32) * 2, {})


def in_process(run: Callable[..., None], *given: Any) -> tuple[float, float, float]:
    """Run in a fresh process; return seconds, and the largest own and mapped memory in GB."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_measured, args=(theirs, run, given))
    child.start()
    theirs.close()
    try:
        found: tuple[float, float, float] = ours.recv()
    except EOFError:
        raise SystemExit(f"{run.__name__} died, exit {child.exitcode}") from None
    child.join()
    return found


def _measured(pipe: Any, run: Callable[..., None], given: tuple[Any, ...]) -> None:
    most = {"RssAnon": 0, "RssFile": 0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in most:
                    most[name] = max(most[name], int(rest.split()[0]))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    run(*given)
    took = time.perf_counter() - began
    over.set()
    watcher.join()
    pipe.send((took, most["RssAnon"] / 1e6, most["RssFile"] / 1e6))


def stage(lake: Path, name: str, agent: str, size: Size) -> None:
    """Run one stage on the lake, as `affectlake run` does."""
    from affectlake.pipelines.engine import runner
    from affectlake.pipelines.engine.graph import stages
    from affectlake.pipelines.params.study import load
    from affectlake.pipelines.steps import brain
    from affectlake.pipelines.stored import stored

    if name == "ingest_brains":
        brain.recordings = functools.partial(recordings, size)  # type: ignore[assignment]
    params = load(lake)
    one = next(s for s in stages(params, stored(lake)).values() if s.step.name == name and s.agent == agent)
    runner.run_stage(lake, one, params, lambda _: None)


def prepare(lake: Path, size: Size) -> None:
    """Make a lake with stimuli, ratings and an agent's embedding, whose searchlight compares no sphere."""
    from affectlake.lake import repository
    from affectlake.lake.files.outputs import Output
    from affectlake.lake.tables.writing import read_output, write_outputs
    from affectlake.pipelines.params import templates
    from affectlake.pipelines.params.study import override
    from affectlake.pipelines.steps import choices as choices_steps
    from affectlake.pipelines.steps import embedding as embedding_steps
    from affectlake.pipelines.steps import rows

    text = override(
        templates.starting_params("demo"),
        (f"sources.n_stimuli={size.stimuli}", "brain.searchlight.n_stimuli=1000", "brain.searchlight.radius_voxels=3",
         "brain.searchlight.min_voxels=1000", "brain.searchlight.permutations=0", "brain.encoding.permutations=0"),
    )  # fmt: skip
    repository.init(lake, text)
    stage(lake, "ingest", "", size)
    tables = {name: read_output(lake, Output(name)) for name in ("stimuli", "ratings")}
    vectors = choices_steps.rating_vectors(
        tables["ratings"].collect(), choices_steps.families_of(tables["families"].collect(), "category"), size.stimuli
    )
    weights = vectors[:, :30].astype(np.float32)
    fit = {"agent": AGENT, "seed": 0, "n_dimensions": 30, "held_out_loss": 1.0, "representative": True}
    frames = {
        Output("embeddings", AGENT): embedding_steps._weights(AGENT, 0, weights),
        Output("fits", AGENT): rows.to_table("fits", [fit]),
    }
    write_outputs(lake, "prepare", frames, tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--voxels", type=int, default=100_000)
    parser.add_argument("--stimuli", type=int, default=2180)
    asked = parser.parse_args()
    size = Size(asked.subjects, asked.stimuli, asked.voxels)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        lake = Path(folder) / "lake"
        in_process(prepare, lake, size)
        one = size.stimuli * size.voxels * 4 / 1e9
        print(f"{size.subjects} subjects × {size.stimuli:,} stimuli × {size.voxels:,} voxels, {one:.2f} GB a subject\n")
        print("| step | seconds | its own memory, GB | mapped, GB |\n|---|---|---|---|")
        for name, agent in STAGES:
            took, own, mapped = in_process(stage, lake, name, agent, size)
            print(f"| {name} | {took:.1f} | {own:.2f} | {mapped:.2f} |", flush=True)


if __name__ == "__main__":
    main()
