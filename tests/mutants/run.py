"""Plant mistakes in the numerical packages, one at a time, and count those that the tests notice.

    python -m tests.mutants.run --sample 200 --seed 0

Mutants are a random sample of all that :mod:`tests.mutants.operators` can make. The working tree is not changed: each
mutant is a text from which a fork of this process loads the module. A fork runs the tests that call the mutated
function, the fastest files first, until one fails. Which tests these are is recorded once, on the unchanged code, in
which every test must pass. ``--wiring`` tries the mistakes of ``wiring.yaml`` instead of a sample, and ``--again`` the
survivors of an earlier run.

Results are in ``scratch/mutants``: a line of ``results.jsonl`` for each mutant, and its changed line.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, fields
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from tests.mutants import operators, summary, trial
from tests.mutants.planted import PACKAGES, ROOT, Mutant, sample, wiring

TESTS = (
    "tests/geometry", "tests/brain", "tests/spose", "tests/stimuli", "tests/test_rsm.py", "tests/test_triplets.py",
    *(f"tests/pipelines/test_{name}.py" for name in (
        "analysis_steps", "brain_demo", "brain_masks", "brain_selection", "brain_sources", "brain_steps",
        "chat_choices", "frame_features", "learning", "recomputed", "representative_fit", "steps",
    )),
)  # fmt: skip
"""Tests that run no commands. Tests of the hashes of the code are not among them: they would notice any change."""
RECOMPUTED = "tests/pipelines/test_recomputed.py"
IMPORTED = (
    "dvc.repo", "great_expectations", "himalaya.ridge", "mlflow", "nibabel", "nilearn.signal",
    "nilearn.image", "networkx", "numba", "pandas", "polars", "pyarrow.parquet", "scipy.stats", "scipy.signal",
    "sklearn.decomposition", "sklearn.linear_model", "sklearn.manifold", "sklearn.feature_extraction.text", "h5py",
    "sklearn.model_selection", "statsmodels.api", "statsmodels.stats.inter_rater", "torch", "rsatoolbox", "fastapi",
)  # fmt: skip
"""What the forks do not import again; nothing of affectlake."""
VARIABLES = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1"),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # pytest warns of plugins that are imported before the fork
}


def importers(name: str, folders: Iterable[str]) -> set[str]:
    """Return the files of some folders that import a module."""
    package, _, last = name.rpartition(".")
    wanted = re.compile(rf"from {re.escape(name)} import|from {re.escape(package)} import .*\b{last}\b")
    files = (file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return {file.relative_to(ROOT).as_posix() for file in files if wanted.search(file.read_text(encoding="utf-8"))}


class Map:
    """Which tests and steps reach a line.

    Those of a compiled function, of a class or of a constant are those that call a function of its module, or else of
    the modules that import it, and the test files that import it.
    """

    def __init__(self, out: Path) -> None:
        found = json.loads((out / "reached.json").read_text())
        self.seconds: dict[str, float] = found["seconds"]
        self.files = {test.partition("::")[0] for test in self.seconds}
        self.callers: dict[str, set[str]] = defaultdict(set)
        for name, functions in found["by"].items():
            for function in functions:
                self.callers[function].add(name)

    def of(self, mutant: Mutant) -> set[str]:
        """Return the names under which the code of a mutant was called: tests, test files and steps."""
        source = (ROOT / mutant.path).read_text(encoding="utf-8")
        around = [first for first, last in operators.functions(source) if first <= mutant.line <= last]
        found = set().union(*(self.callers[f"{mutant.path}:{line}"] for line in around))
        if around and found:
            return found
        named = {file for file in importers(mutant.module, ("tests",)) if file in self.files}
        of_others = set().union(*map(self.of_module, importers(mutant.module, PACKAGES)))
        return named | (self.of_module(mutant.path) or of_others)

    def of_module(self, path: str) -> set[str]:
        return set().union(*(names for function, names in self.callers.items() if function.startswith(f"{path}:")))

    def plan(self, mutant: Mutant, most: float) -> tuple[trial.Plan, float]:
        """Return what to run for a mutant, in `most` seconds, and how many seconds it took without it."""
        names = self.of(mutant)
        files: dict[str, list[str]] = defaultdict(list)
        for test in self.seconds:
            file = test.partition("::")[0]
            if test in names or file in names:
                files[file].append(test)
        cost = {file: sum(self.seconds[one] for one in tests) for file, tests in files.items()}
        if RECOMPUTED in cost:
            cost[RECOMPUTED] /= 4  # of the steps, only some run again
        order = sorted(files, key=lambda file: cost[file])
        ordered = {
            file: files[file] for at, file in enumerate(order) if sum(cost[one] for one in order[: at + 1]) <= most
        }
        steps = [name.removeprefix("step:") for name in names if name.startswith("step:")]
        return trial.Plan(mutant.module, mutant.source, ordered, steps), sum(cost[file] for file in ordered)


def build(out: Path) -> None:
    """Build the demo lake of the recomputed tables by the command."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    code = (
        "from pathlib import Path; from tests.support import builds, demo_lakes; import sys, os;"
        "from affectlake.process.environment import configure_process; configure_process();"
        "builds.copy_of(demo_lakes.one_version(), Path(sys.argv[1]))"
    )
    print("building the demo lake", flush=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    changed = {
        "AFFECTLAKE_TEST_BUILDS": str(out / "builds"),
        "PREFECT_HOME": str(out / "prefect-of-tests"),
        "PATH": path,
        "PYTHONPATH": os.pathsep.join(sys.path[:2]),
    }
    subprocess.run([sys.executable, "-c", code, str(out / "demo")], env=os.environ | changed, cwd=ROOT, check=True)


def record(out: Path) -> None:
    """Record which functions each test reaches."""
    print("recording which tests reach which functions", flush=True)
    files = [str(one) for one in TESTS]
    done = multiprocessing.get_context("fork").Process(
        target=_quiet, args=(out / "baseline.log", trial.record, out, ROOT, PACKAGES, files)
    )
    done.start()
    done.join()
    if done.exitcode:
        sys.exit(f"the tests of the unchanged code fail: see {out / 'baseline.log'}")


def _quiet(log: Path, function: Any, *arguments: object) -> None:
    """Run a function in a fork, with what it prints in a file."""
    os.setsid()
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    function(*arguments)


def tried(out: Path, mutants: Iterable[Mutant], jobs: int, most: float) -> Iterator[dict[str, Any]]:
    """Try mutants in parallel, and yield what became of each."""
    known, fork = Map(out), multiprocessing.get_context("fork")
    waiting = list(enumerate(mutants))[::-1]
    running: dict[ForkProcess, tuple[Mutant, Path, float, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            at, mutant = waiting.pop()
            plan, seconds = known.plan(mutant, most)
            answer, log = out / "answers" / f"{at}.json", out / "answers" / f"{at}.log"
            answer.parent.mkdir(exist_ok=True)
            answer.unlink(missing_ok=True)
            process = fork.Process(target=_quiet, args=(log, trial.try_mutant, out, plan, answer))
            process.start()
            now = time.monotonic()
            running[process] = (mutant, answer, now, now + 120 + 10 * seconds)
        nearest = min(limit for *_, limit in running.values())
        wait([process.sentinel for process in running], max(0.0, nearest - time.monotonic()))
        for process, (mutant, answer, begun, limit) in list(running.items()):
            is_late = time.monotonic() > limit
            if process.is_alive() and not is_late:
                continue
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            del running[process]
            shutil.rmtree(out / "tmp" / str(process.pid), ignore_errors=True)
            if is_late:
                found = {"by": "", "how": "time limit", "why": ""}
            elif answer.exists():
                found = json.loads(answer.read_text()) or {"by": "", "how": "survived", "why": ""}
            else:
                found = {"by": "", "how": "process ended", "why": f"exit status {process.exitcode}"}
            yield {"package": mutant.package, "seconds": round(time.monotonic() - begun, 1), **found, **asdict(mutant)}


def main() -> None:
    """Run the mutants that the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=200, help="number of mutants (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    parser.add_argument("--only", action="append", default=[], help="mutate only files whose path begins so")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument(
        "--most",
        type=float,
        default=1e9,
        help="leave out the slowest tests, so that a mutant takes at most this many seconds",
    )
    parser.add_argument("--skip", type=int, default=0, help="leave out the first mutants of the sample")
    parser.add_argument("--wiring", action="store_true", help="try the mistakes of wiring.yaml, not a sample")
    parser.add_argument(
        "--again", type=Path, metavar="RESULTS", help="try the survivors of an earlier run, not a sample"
    )
    parser.add_argument("--reuse", action="store_true", help="keep the lake and the record of an earlier run")
    parser.add_argument("--out", type=Path, default=ROOT / "scratch" / "mutants")
    parser.add_argument("--results", default="results.jsonl", help="name of the file of results")
    wanted = parser.parse_args()
    out = wanted.out.resolve()
    os.environ |= VARIABLES | {"NUMBA_CACHE_DIR": str(out / "numba")}  # before NumPy is imported
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    for name in IMPORTED:
        with suppress(ImportError):
            importlib.import_module(name)
    assert not any(name.startswith("affectlake") for name in sys.modules)
    gc.freeze()
    if not (wanted.reuse and (out / "demo").exists()):
        build(out)
    if not (wanted.reuse and (out / "reached.json").exists()):
        record(out)
    if wanted.again:
        names = [field.name for field in fields(Mutant)]
        before = [one for one in summary.read(wanted.again) if one["how"] == "survived"]
        mutants = [Mutant(**{name: one[name] for name in names}) for one in before]
    else:
        mutants = wiring() if wanted.wiring else sample(wanted.sample, wanted.seed, tuple(wanted.only))[wanted.skip :]
    results = out / wanted.results
    results.write_text("")
    for at, found in enumerate(tried(out, mutants, wanted.jobs, wanted.most), 1):
        with results.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(f"{at} of {len(mutants)}: {summary.line(found)}", flush=True)
    print(summary.table(summary.read(results), PACKAGES))


if __name__ == "__main__":
    main()
