"""Git, run as a command. What a lake asks of Git is here and nothing more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from affectlake.errors import LakeError

SELF = {"NAME": "affectlake", "EMAIL": "affectlake@localhost"}


def git(root: Path, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run ``git`` in `root` and return what it printed.

    Raises
    ------
    LakeError
        If Git fails; the message carries its words.
    """
    done = _run(root, arguments, stdin, env)
    if done.returncode:
        raise LakeError(f"git {arguments[0]} failed in {root}", found=done.stderr.strip() or done.stdout.strip())
    return done.stdout


def git_or_none(root: Path, *arguments: str) -> str | None:
    """Run ``git`` in `root`; return what it printed, stripped, or None if it failed."""
    done = _run(root, arguments, None, None)
    return None if done.returncode else done.stdout.strip()


def git_bytes(root: Path, *arguments: str, stdin: bytes | None = None) -> bytes | None:
    """Run ``git`` in `root`; return exactly what it printed, or None if it failed."""
    done = subprocess.run(["git", *arguments], cwd=root, input=stdin, capture_output=True, check=False)
    return None if done.returncode else done.stdout


def branch_of(root: Path) -> str:
    """Return the Git reference of the branch that the lake is on.

    Raises
    ------
    LakeError
        If it is on none, so that no version can be made.
    """
    branch = git_or_none(root, "symbolic-ref", "HEAD")
    if branch is None:
        raise LakeError(
            f"{root} is at a detached commit",
            wanted="a branch",
            todo="go back to one: `git switch main`, or `affectlake restore`",
        )
    return branch


def identity(root: Path) -> dict[str, str]:
    """Return the environment that signs a commit as the tool itself; empty when the user has an identity."""
    if git_or_none(root, "config", "user.email") or os.environ.get("GIT_AUTHOR_EMAIL"):
        return {}
    return {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in SELF.items()}


def _run(
    root: Path, arguments: tuple[str, ...], stdin: str | None, env: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-c", "core.fsync=all", *arguments],
            cwd=root,
            input=stdin,
            env=os.environ | dict(env or {}),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise LakeError("git is not installed", todo="install Git 2.30 or later") from error
