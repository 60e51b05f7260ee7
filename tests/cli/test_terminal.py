"""How much is printed, in which colours, and what a shell completes."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from affectlake.lake.store.version_names import add_name
from affectlake.lake.store.versions import resolve


def affectlake(*arguments: str | Path, ok: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environment
    done = subprocess.run(["affectlake", *map(str, arguments)], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == ok, done.stderr
    return done


def on_a_terminal(*arguments: str | Path, **environment: str) -> str:
    """Return what a command prints on a terminal, stdout and stderr together."""
    ours, its = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environment
    with subprocess.Popen(["affectlake", *map(str, arguments)], stdout=its, stderr=its, stdin=its, env=env) as running:
        os.close(its)
        said = b""
        try:
            while block := os.read(ours, 65_536):
                said += block
        except OSError:  # how Linux reports the end of a terminal
            pass
        running.wait(timeout=60)
    os.close(ours)
    return said.decode()


QUIET = [("--quiet", "checkout", "v1"), ("checkout", "v1", "--quiet"), ("checkout", "-q", "v1")]


@pytest.mark.parametrize("words", QUIET)
def test_quiet_leaves_results_and_errors(published: Path, words: tuple[str, ...]) -> None:
    assert affectlake(*words, "--lake", published).stderr == ""
    assert affectlake("versions", "-q", "--lake", published).stdout.count("\n") == 2
    assert "is not a version" in affectlake("-q", "checkout", "v9", "--lake", published, ok=1).stderr


def test_verbose_adds_times(published: Path) -> None:
    assert " s  v1 is in " in affectlake("checkout", "v1", "-v", "--lake", published).stderr
    assert affectlake("checkout", "v1", "--lake", published).stderr.startswith("v1 is in ")
    said = affectlake("checkout", "v1", "-v", "-q", "--lake", published, ok=2).stderr
    assert "--quiet and --verbose contradict each other" in said


def test_tracebacks_are_shown_wherever_debug_stands(published: Path) -> None:
    for words in (("--debug", "checkout", "v9"), ("checkout", "v9", "--debug"), ("versions", "show", "v9", "--debug")):
        assert "Traceback" in affectlake(*words, "--lake", published, ok=1).stderr
    assert "Traceback" not in affectlake("checkout", "v9", "--lake", published, ok=1).stderr


def test_colours_are_for_terminals_alone(published: Path) -> None:
    wrong = ("checkout", "v9", "--lake", published)
    assert "\x1b[31m\x1b[1maffectlake:\x1b[0m" in on_a_terminal(*wrong)
    assert "\x1b" not in on_a_terminal(*wrong, NO_COLOR="1")
    assert "\x1b" not in affectlake(*wrong, ok=1).stderr


def completed(line: str, folder: Path) -> list[str]:
    """Return what bash is offered at the end of a line."""
    n_words = len(line.split(" ")) - 1
    done = subprocess.run(
        ["affectlake"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=os.environ | {"COMP_WORDS": line, "COMP_CWORD": str(n_words), "_AFFECTLAKE_COMPLETE": "bash_complete"},
    )
    assert done.stderr == ""
    return [text.partition(",")[2] for text in done.stdout.splitlines() if text]


def test_a_shell_completes_the_names_of_the_lake(published: Path, tmp_path: Path) -> None:
    add_name(published, "submitted", resolve(published, "v1").commit, "")
    with (published / "params.yaml").open("a") as params:
        params.write("agents: {owl: {}, ox: {}, ape: {}}\n")
    assert completed("affectlake checkout ", published) == ["v2", "v1", "latest", "submitted"]
    assert completed("affectlake query x --at s", published) == ["submitted"]
    assert completed("affectlake collect o", published) == ["owl", "ox"]
    assert "stimuli" in completed("affectlake diff v1 v2 ", published)
    assert completed("affectlake run --only ti", published) == ["tiny"]
    assert "versions" in completed("affectlake ver", published) and "--only" in completed(
        "affectlake run --o", published
    )
    assert completed(f"affectlake checkout --lake {published} sub", tmp_path) == ["submitted"]
    assert completed("affectlake checkout ", tmp_path) == []  # no lake
    (published / "params.yaml").write_text("agents: [")
    assert completed("affectlake collect ", published) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_affectlake(shell: str) -> None:
    script = affectlake("completion", shell).stdout
    assert f"_AFFECTLAKE_COMPLETE={shell}_complete" in script
