"""Environment variables that a calling Git command, such as one that runs a hook, sets for its own repository."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# variables that select or change a repository: `git rev-parse --local-env-vars` of Git 2.30 to 2.52, and others that
# Git sets for its hooks or that change the meaning of paths
_OF_A_REPOSITORY = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
    "GIT_ATTR_SOURCE",
    "GIT_REFLOG_ACTION",
    "GIT_GLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
)
# author and date of a commit: Git sets these for the hooks of a commit; users may set the names for all their commits
_OF_A_COMMIT = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")
_OF_AN_AUTHOR = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL")


def leave_caller() -> None:
    """Remove the variables of a caller's repository from the environment of this process."""
    for name in caller_variables(os.environ):
        del os.environ[name]


@contextmanager
def without_caller() -> Iterator[None]:
    """Remove the variables while the block is active, for libraries that use Git in a process that is not ours."""
    kept = {name: os.environ[name] for name in caller_variables(os.environ)}
    leave_caller()
    try:
        yield
    finally:
        os.environ.update(kept)


def caller_variables(env: Mapping[str, str]) -> list[str]:
    """Return the variables in `env` that belong to a caller's repository."""
    found = [
        name for name in env if name in _OF_A_REPOSITORY or name.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))
    ]
    # a Git command is the caller: author and date are those of its commit
    if any(not name.startswith("GIT_CONFIG") for name in found):
        found += [name for name in (*_OF_A_COMMIT, *_OF_AN_AUTHOR) if name in env]
    return found
