"""The hooks of pre-commit let a good change through and stop each kind of bad one, with the installed tools."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.packaging.conftest import ask


@pytest.fixture
def hooked(repository: Path) -> Path:
    """The repository, with the tools of this environment where the hooks look for them."""
    tools = repository / ".venv/bin"
    tools.mkdir(parents=True)
    for hook in hooks(repository):
        tool = Path(hook["entry"].split()[0])
        if tool.parts[0] == ".venv" and tool.name != "python":
            found = shutil.which(tool.name)
            assert found, f"{tool.name} is not installed"
            (repository / tool).unlink(missing_ok=True)
            (repository / tool).symlink_to(found)
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "python").chmod(0o755)
    return repository


def hooks(repository: Path) -> list[dict[str, str]]:
    (local,) = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"]
    return local["hooks"]


def failed(repository: Path, fails: bool) -> set[str]:
    """Return the names of the hooks that stop a commit of everything."""
    ask("git", "add", "--all", at=repository)
    run = (sys.executable, "-m", "pre_commit", "run", "--color", "never")
    places = {"PRE_COMMIT_HOME": str(repository.parent / "hooks"), "PYTHONPATH": str(repository / "src")}
    said = ask(*run, at=repository, fails=fails, **places)
    return {match[1] for match in re.finditer(r"^(.*?)\.+Failed$", said, re.MULTILINE)}


def test_a_good_change_passes(hooked: Path) -> None:
    for name in ("src/affectlake/geometry/pairs.py", "pipelines/catalogue.py", "docs/brain.md"):
        path = hooked / name
        path.write_text(path.read_text() + ("\n\nONE_MORE = 1\n" if path.suffix == ".py" else "One more line.\n"))
    assert failed(hooked, fails=False) == set()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (
            "src/affectlake/judge/agents.py",
            "Family of ratings that makes the vectors",
            "Family of ratings that is the vectors",
        ),
        ("src/affectlake/lake/repository.py", "Commands write them", "The commands write them"),
        ("storage/README.md", "Commands write them", "The commands write them"),
    ],
)
def test_a_file_that_generated_ones_are_made_from_is_not_committed_without_them(
    hooked: Path, name: str, old: str, new: str
) -> None:
    path = hooked / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert failed(hooked, fails=True) == {"generated files"}


def test_each_kind_of_bad_change_is_stopped(hooked: Path) -> None:
    bad = {
        "src/affectlake/geometry/unused.py": "import os\n",
        "src/affectlake/geometry/ragged.py": "x  =  1\n",
        "src/affectlake/geometry/upwards.py": "from affectlake.pipelines import catalogue as catalogue\n",
        "docs/steps.md": "edited by hand\n",
        "docs/spelling.txt": "A sent" + "ance.\n",
        "docs/large.txt": "large " * 200_000,
        "docs/key.txt": "-----BEGIN OPENSSH PRIVATE " + "KEY-----\n",
        "docs/token.txt": "hf_" + "x" * 34 + "\n",
    }
    for name, text in bad.items():
        (hooked / name).write_text(text)
    link = hooked / "src/affectlake/flows"
    target = str(link.readlink())
    link.unlink()
    link.write_text(target)
    assert failed(hooked, fails=True) == {hook["name"] for hook in hooks(hooked)} - {"merge conflicts"}
