"""A lake that is quick to build: 30 stimuli, their trials, and one agent that waits to be asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

from affectlake.lake import repository
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import override
from tests.support.chat import ENTRY
from tests.support.chat_lakes import SETTINGS, run


def make_asking_lake(lake: Path) -> Path:
    """Make and build the lake; v1 is its version."""
    raw = yaml.safe_load(override(templates.starting_params("demo"), SETTINGS))
    raw["agents"] = {"tiny": ENTRY | {"protocol": "naive-least-similar", "l1": 0.004}}
    repository.init(lake, yaml.safe_dump(raw, sort_keys=False))
    run(lake)
    return lake


def change(lake: Path, **entry: object) -> None:
    """Change keys of the agent's entry in params.yaml."""
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def called(*command: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | env, check=False, capture_output=True, text=True
    )


def git(root: Path, *arguments: str | Path, **env: str) -> str:
    """Run Git as a user does, and return what it printed."""
    done = called("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments, cwd=root, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
