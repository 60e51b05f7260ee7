"""What a calling Git command, such as a hook, leaves in the environment about a repository of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# what names or changes the repository of a caller: `git rev-parse --local-env-vars` of Git 2.30 to 2.52, and the rest
# that Git sets for its hooks or that changes what a path means
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
# whose commit it is, and when: Git sets these for the hooks of a commit, and users set the names for all of theirs
_OF_A_COMMIT = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")
_OF_AN_AUTHOR = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL")


def leave_caller() -> None:
    """Remove from this process's environment what belongs to a caller's repository: for a program of its own."""
    for name in caller_variables(os.environ):
        del os.environ[name]


@contextmanager
def without_caller() -> Iterator[None]:
    """Have it removed for a while: for libraries that look for a repository in a process that is somebody else's."""
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
    if any(
        not name.startswith("GIT_CONFIG") for name in found
    ):  # a Git command calls: author and dates are of its commit
        found += [name for name in (*_OF_A_COMMIT, *_OF_AN_AUTHOR) if name in env]
    return found
