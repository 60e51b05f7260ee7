"""The same study gives the same bytes, whatever the number of threads, the order of hashes and what runs beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import md5
from pathlib import Path

import pytest
from click.testing import CliRunner

from affectlake.cli.main import cli
from affectlake.pipelines.catalogue import STEPS
from affectlake.pipelines.engine.graph import stages
from affectlake.process.environment import THREADS
from tests.support.lakes import ROOT
from tests.support.rebuild_process import ANSWERING, study

ENVIRONMENTS = {
    "one": {"AFFECTLAKE_WORKERS": "1", "PYTHONHASHSEED": "1", "POLARS_MAX_THREADS": "1"},
    "two": {"AFFECTLAKE_WORKERS": "2", "PYTHONHASHSEED": "2", "POLARS_MAX_THREADS": "3"} | dict.fromkeys(THREADS, "2"),
}
CODE = """
from pathlib import Path
from affectlake.process.environment import compute_on_one_thread, configure_process

configure_process()
compute_on_one_thread()
from tests.support.rebuild_process import build

build(Path())
"""


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what it says of threads."""
    return {key: value for key, value in os.environ.items() if key not in THREADS} | changes


def digests(lake: Path) -> dict[str, str]:
    """The MD5 of every part, as DVC records it."""
    folder = lake / "storage/tables"
    return {str(path.relative_to(folder)): md5(path.read_bytes()).hexdigest() for path in folder.rglob("*.parquet")}


def test_every_step_writes_the_same_bytes_with_one_worker_and_with_two(tmp_path: Path) -> None:
    assert {stage.step.name for stage in stages(study(), ANSWERING).values()} == set(STEPS), "the study lacks a step"
    running = {}
    for name, changes in ENVIRONMENTS.items():
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", CODE]
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT)}
        running[name] = subprocess.Popen(
            command, cwd=tmp_path / name, env=environment(**changes, **quiet), stderr=subprocess.PIPE, text=True
        )
    for process in running.values():
        said = process.communicate()[1]
        assert process.returncode == 0, said
    one, two = (digests(tmp_path / name) for name in ENVIRONMENTS)
    assert one.keys() == two.keys() and len(one) > len(STEPS)
    assert [part for part, digest in sorted(one.items()) if two[part] != digest] == []


@pytest.mark.parametrize("command", [["run"], ["step", "embed", "--step-version", "1"], ["propose", "tiny"]])
def test_commands_that_make_tables_leave_no_choice_of_threads(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREADS:
        monkeypatch.setenv(name, "4")
    CliRunner().invoke(cli, [*command, "--lake", str(tmp_path)])
    assert {os.environ[name] for name in THREADS} == {"1"}


def test_a_library_computes_on_one_thread_though_the_user_wants_four() -> None:
    code = (
        "from affectlake.process.environment import configure_process, compute_on_one_thread\n"
        "configure_process()\ncompute_on_one_thread()\n"
        "import numpy, scipy.linalg, threadpoolctl\n"
        "print({one['num_threads'] for one in threadpoolctl.threadpool_info()})"
    )
    env = environment(**dict.fromkeys(THREADS, "4"))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{1}"
