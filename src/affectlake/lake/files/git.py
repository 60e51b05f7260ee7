"""Run Git as a command. Only what a lake needs of Git belongs here.

A lake is the repository that its folder is in. Variables by which a Git hook or another caller points at a different
repository are therefore removed from the environment first (:func:`environment`, :mod:`affectlake.process.git_caller`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.process.git_caller import caller_variables

UNSHALLOW = "this clone has only a part of the history: run `git fetch --unshallow --tags`, then do this again"
SELF = {"NAME": "affectlake", "EMAIL": "affectlake@localhost"}

# Git's output must not depend on the user's language and settings
_STEADY = {
    "LC_ALL": "C",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # a version is the commit that its tag names, not a replacement of it in one clone
    "GIT_OPTIONAL_LOCKS": "0",
}
_SETTINGS = {
    "core.fsync": "all",
    "core.quotePath": "false",
    "core.safecrlf": "false",
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
}
_OPTIONS = tuple(word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}"))

_PATIENCE_S = 3.0
"""How long to wait for locks of other programs on the index and on references, in seconds."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for Git: the user's, without variables that point at a caller's repository.

    Parameters
    ----------
    more : mapping of str to str, optional
        Additional variables.
    """
    callers = caller_variables(os.environ)
    own = {name: value for name, value in os.environ.items() if name not in callers}
    can_answer = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    return own | ({} if can_answer else {"GIT_TERMINAL_PROMPT": "0"}) | _STEADY | dict(more or {})


def git(root: Path, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run ``git`` in `root` and return its output.

    Raises
    ------
    LakeError
        If Git fails; the message contains Git's own.
    """
    return _text(_checked(root, arguments, _bytes(stdin), env).stdout)


def git_bytes(root: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    """Run ``git`` in `root` and return its output, byte for byte.

    Raises
    ------
    LakeError
        If Git fails; the message contains Git's own.
    """
    return _checked(root, arguments, stdin, None).stdout


def git_or_none(root: Path, *arguments: str, says_no: int = 1) -> str | None:
    """Run ``git`` in `root`; return its output, stripped, or None if its exit status means "no".

    Parameters
    ----------
    root : Path
        Root of the lake.
    *arguments : str
        The command.
    says_no : int
        The exit status by which this command means "no".

    Raises
    ------
    LakeError
        If Git fails with any other exit status.
    """
    done = _checked(root, arguments, None, None, says_no)
    return None if done.returncode else _text(done.stdout).strip()


def branch_of(root: Path) -> str:
    """Return the Git reference of the branch that the lake is on.

    Raises
    ------
    LakeError
        If it is not on a branch, so that no version can be made.
    """
    branch = git_or_none(root, "symbolic-ref", "--quiet", "HEAD")
    if branch is not None:
        return branch
    doing = next((word for word, path in _REBASES if git_path(root, path).exists()), "")
    if doing:
        todo = f"`git {doing} --continue` or `git {doing} --abort`, then do this again"
        raise LakeError(f"{root} is at a detached commit", wanted="a branch", found=f"a {doing} in progress", todo=todo)
    raise LakeError(f"{root} is at a detached commit", wanted="a branch", todo=_BACK)


_BACK = "switch to one: `git switch main`, or `affectlake restore`"
_REBASES = (("rebase", "rebase-merge"), ("am", "rebase-apply/applying"), ("rebase", "rebase-apply"))


def git_path(root: Path, name: str) -> Path:
    """Return where Git keeps a file of the lake's repository, such as ``index.lock``."""
    return root / git(root, "rev-parse", "--git-path", name).rstrip("\n")


def refuse_locked_index(root: Path) -> None:
    """Raise :class:`LakeError` if another program, or one that was killed, has left the index locked."""
    path, until_s = git_path(root, "index.lock"), time.monotonic() + _PATIENCE_S
    while path.exists():
        if time.monotonic() > until_s:
            raise _failure(root, "status", f"Unable to create '{path}': File exists")
        time.sleep(0.1)


def is_shallow(root: Path) -> bool:
    """Return whether the repository was cloned with only a part of its history."""
    return git(root, "rev-parse", "--is-shallow-repository").strip() == "true"


def identity(root: Path) -> dict[str, str]:
    """Return variables that make affectlake the author of a commit; empty if the user has an identity."""
    if environment().get("GIT_AUTHOR_EMAIL") or git_or_none(root, "config", "user.email"):
        return {}
    return {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in SELF.items()}


def _checked(
    root: Path, arguments: tuple[str, ...], stdin: bytes | None, env: Mapping[str, str] | None, says_no: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run Git; wait for locks of other programs, raise on any other failure."""
    until_s, pause_s = time.monotonic() + _PATIENCE_S, 0.02
    while True:
        done = _run(root, arguments, stdin, env)
        if done.returncode in (0, says_no):
            return done
        words = _text(done.stderr or done.stdout).strip()
        if not _is_locked(words) or time.monotonic() > until_s:
            raise _failure(root, arguments[0], words)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)


def _is_locked(words: str) -> bool:
    return ".lock'" in words and "File exists" in words


def _failure(root: Path, command: str, words: str) -> LakeError:
    """Return the error for Git's message `words`."""
    if "dubious ownership" in words:
        remedy = next((line.strip() for line in words.splitlines() if "safe.directory" in line and "git " in line), "")
        return LakeError(
            "Git does not trust a repository that belongs to another user",
            found=words.splitlines()[0],
            todo=f"if you trust it: `{remedy or f'git config --global --add safe.directory {root}'}`",
        )
    if _is_locked(words):
        return LakeError(
            f"another program holds a Git lock in {root}",
            found=words.splitlines()[0],
            todo="end that program, or remove the file if none is running, then do this again",
        )
    return LakeError(f"git {command} failed in {root}", found=words)


def _run(
    root: Path, arguments: tuple[str, ...], stdin: bytes | None, env: Mapping[str, str] | None
) -> subprocess.CompletedProcess[bytes]:
    command = ["git", *_OPTIONS, *arguments]
    try:
        return subprocess.run(
            command, cwd=root, env=environment(env), input=stdin or b"", capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise LakeError("git is not installed", todo="install Git 2.30 or later") from error


def _text(printed: bytes) -> str:
    return printed.decode("utf-8", "surrogateescape")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")
