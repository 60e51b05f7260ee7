"""The Dockerfile, the development container and the workflow agree with one another and with the project."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from itertools import pairwise
from typing import Any

import yaml

from tests.packaging.test_versions_of_python import VERSIONS
from tests.support.lakes import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = WORKFLOW["jobs"][job]["steps"]
    return found


def test_the_workflow_builds_both_images_with_arguments_that_they_have() -> None:
    built = [shlex.split(step["run"]) for step in steps("containers") if step.get("run", "").startswith("docker build")]
    assert len(built) == 2
    given = [word for words in built for before, word in pairwise(words) if before == "--build-arg"]
    known = re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)
    assert given == ["EXTRAS=study"]
    assert {word.partition("=")[0] for word in given} <= set(known)
    assert "study" in EXTRAS
    tags = {words[words.index("--tag") + 1] for words in built}
    (used,) = (step["run"] for step in steps("containers") if "$run" in step.get("run", ""))
    assert set(re.findall(r"^\$run (\S+)", used, re.MULTILINE)) == tags


def test_the_workflow_builds_the_development_container() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    (step,) = (step for step in steps("containers") if step.get("uses", "").startswith("devcontainers/ci@"))
    for command in (container["postCreateCommand"], step["with"]["runCmd"]):
        name, target = command.split()
        done = subprocess.run([name, "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_images_have_versions_of_python_that_are_supported() -> None:
    (image,) = re.findall(r"^ARG PYTHON=(.*)$", DOCKERFILE, re.MULTILINE)
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["image"]
    assert image in VERSIONS
    assert re.search(r"python:(3\.\d+)", container)[1] in VERSIONS  # type: ignore[index]
    (macos,) = (step["with"]["python-version"] for step in steps("macos") if "setup-python" in step.get("uses", ""))
    assert macos in VERSIONS


def test_an_image_is_built_from_every_tracked_file() -> None:
    """A tracked file that is left out is a change for Git, and the version would say that the code is changed."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    lines = [line.removeprefix("**/") for line in ignored if not line.startswith("#")]
    done = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "--ignored", "--cached"]
        + [f"--exclude={line}" for line in lines],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == ""
    assert ".git" not in lines
