"""The program of the tests' commands: what it runs in a fork ends, prints and is stopped as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.preloaded import REAL, preloaded

ENDLESS = (
    "query",
    "SELECT * FROM range(1000000000)",
    "--format",
    "csv",
)  # nobody reads it, so that it waits when the pipe is full


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a preloaded process that has finished its imports."""
    made = tmp_path_factory.mktemp("preloaded")
    with preloaded(made):
        assert run(made / "bin/affectlake", "--version").returncode == 0
        yield made


def run(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, apart: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=env, start_new_session=apart, capture_output=True, text=True, check=False
    )


def n_own(folder: Path) -> int:
    """Return how many commands were not run in a fork."""
    return (folder / "log").read_text().count("is run on its own")


@pytest.mark.parametrize(
    "words", [("--version",), ("versions",), ("query",), ("query", "SELECT 1 AS a"), ("no-such-command",), ("status",)]
)
def test_a_fork_prints_and_ends_as_the_real_program(words: tuple[str, ...], folder: Path, published: Path) -> None:
    before = n_own(folder)
    forked, real = (run(one, *words, cwd=published) for one in (folder / "bin/affectlake", REAL))
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)
    assert n_own(folder) == before


@pytest.mark.parametrize("words", [("--version",), ("status",), ("data", "status", "--json"), ("no-such-command",)])
def test_a_fork_is_dvc_itself(words: tuple[str, ...], folder: Path, published: Path) -> None:
    before = n_own(folder)
    forked, real = (run(one, *words, cwd=published) for one in (folder / "bin/dvc", REAL.with_name("dvc")))
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)
    assert n_own(folder) == before


def test_a_fork_ignores_the_signals_that_its_caller_ignores(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import signal; print([n for n in range(1, 32) if signal.getsignal(n) == signal.SIG_IGN])")
    said = [
        run("sh", "-c", f"trap '' INT HUP; exec '{python}' {program}").stdout
        for python in (folder / "bin/preloaded-python", sys.executable)
    ]
    assert said[0] == said[1] and "1, 2" in said[0]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed(closed: str, folder: Path, published: Path) -> None:
    ends = [
        run("sh", "-c", f"'{program}' versions {closed}; echo $?", cwd=published)
        for program in (folder / "bin/affectlake", REAL)
    ]
    assert (ends[0].stdout, ends[0].stderr) == (ends[1].stdout, ends[1].stderr)


def test_another_environment_limit_or_session_is_run_by_the_real_program(folder: Path) -> None:
    program, before = folder / "bin/affectlake", n_own(folder)
    for done in (
        run(program, "--version", env=os.environ | {"OMP_NUM_THREADS": "3"}),
        run(program, "--version", apart=True),
        run("/bin/sh", "-c", f"ulimit -n 200; exec {program} --version"),
    ):
        assert done.returncode == 0 and done.stdout.startswith("affectlake, version")
    assert n_own(folder) == before + 3


def goes_on(process: psutil.Process) -> bool:
    """Return whether a process runs, not only until its parent asks for its status."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_the_fork_as_the_real_program(number: signal.Signals, folder: Path, published: Path) -> None:
    ends = []
    for program in (folder / "bin/affectlake", REAL):
        known = {one.pid for one in psutil.Process().children(recursive=True)}
        process = subprocess.Popen(
            [program, *ENDLESS], cwd=published, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip()  # it has begun
        started = [one for one in psutil.Process().children(recursive=True) if one.pid not in known]
        assert len(started) == (1 if program == REAL else 2)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(number)
        process.communicate(timeout=30)
        until_s = time.monotonic() + 30
        while any(map(goes_on, started)):
            assert time.monotonic() < until_s, "the fork goes on without its caller"
            time.sleep(0.01)
        ends.append(process.returncode)
    assert ends[0] == ends[1]


def test_a_script_ends_as_in_a_python_of_its_own(folder: Path, tmp_path: Path) -> None:
    """The same arguments, output and status; a script that kills itself is not run again."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "print(__name__, *sys.argv, flush=True)\n"
        "open('seen', 'a').write('once')\n"
        "if sys.argv[1] == 'kill': os.kill(os.getpid(), 9)\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    before = n_own(folder)
    for word in ("0", "3", "kill"):
        ends = [run(one, program, word, cwd=tmp_path) for one in (folder / "bin/preloaded-python", sys.executable)]
        assert (ends[0].returncode, ends[0].stdout) == (ends[1].returncode, ends[1].stdout)
        assert (tmp_path / "seen").read_text() == "onceonce"
        (tmp_path / "seen").unlink()
    assert n_own(folder) == before
