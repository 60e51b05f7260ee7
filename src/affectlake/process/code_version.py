"""The version of the running code: the number of the release, and the commit if it is not a release.

An installed package has its version in its metadata, which setuptools-scm writes when it is built (``setup.py``, with
the functions of this module). An editable installation, or a checkout on ``PYTHONPATH``, can change after that. There
the version is read from Git, so that a version of a lake records the commit that made it and not the one that was
installed.

- ``0.2.0``: the commit with the tag ``v0.2.0``
- ``0.2.1.dev3+g1b2c3d4e5f``: three commits after it
- ``0.2.1.dev3+g1b2c3d4e5f.dirty``: the same with uncommitted changes
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from affectlake.process.git_caller import caller_variables

UNTAGGED = "0.2.0"
"""The next release according to a clone without tags."""

UNKNOWN = f"{UNTAGGED}.dev0+unknown"
"""The version if there is neither a Git repository nor package metadata."""

DESCRIBE = ("git", "describe", "--tags", "--long", "--abbrev=40", "--match", "v[0-9]*")
"""Command for the latest release before a commit; tags of lakes (``lake/v1``) are not releases."""

_CODE = ("src", "flows", "pipelines", "schemas")
_DESCRIBED = re.compile(r"v(?P<tag>[0-9][^-]*)-(?P<distance>[0-9]+)-g(?P<commit>[0-9a-f]+)")


@cache
def code_version() -> str:
    """Return the version of the code of this process, as of the first call."""
    checkout = Path(__file__).resolve().parents[3]
    found = version_of(checkout) if (checkout / "src/affectlake/process").is_dir() else None
    if found is not None:
        return found
    try:
        return version("affectlake")
    except PackageNotFoundError:
        return UNKNOWN


def version_of(checkout: Path) -> str | None:
    """Return the version of the code in a Git repository; None if `checkout` is not the root of one.

    Parameters
    ----------
    checkout : Path
        Root of this project's repository.
    """
    root, _, commit = _git(checkout, "rev-parse", "--show-toplevel", "HEAD").partition("\n")
    if not root or Path(root).resolve() != checkout.resolve():
        return None
    found = _DESCRIBED.fullmatch(_git(checkout, *DESCRIBE[1:]))
    dirty = has_changes(checkout)
    if found is None:
        return numbered("", int(_git(checkout, "rev-list", "--count", "HEAD")), commit, dirty)
    return numbered(found["tag"], int(found["distance"]), commit, dirty)


def has_changes(checkout: Path) -> bool:
    """Return whether code files differ from the last commit or are new; files that Git ignores do not count."""
    return bool(_git(checkout, "status", "--porcelain", "--untracked-files=all", "--", *_CODE, "pyproject.toml"))


def numbered(tag: str, distance: int, commit: str, dirty: bool) -> str:
    """Return the version of a commit in the form of PEP 440.

    Parameters
    ----------
    tag : str
        The last release before it, such as ``0.2.0``; empty if there is none.
    distance : int
        Number of commits since then.
    commit : str
        Hash of the commit.
    dirty : bool
        Whether the code has uncommitted changes.
    """
    if tag and not distance and not dirty:
        return tag
    following = re.sub(r"[0-9]+$", lambda last: str(int(last[0]) + 1), tag) or UNTAGGED
    return f"{following}.dev{distance}+g{commit[:10]}{'.dirty' if dirty else ''}"


def _git(checkout: Path, *arguments: str) -> str:
    """Return the stripped output of a Git command; an empty string if it fails."""
    callers = caller_variables(os.environ)
    env = {name: value for name, value in os.environ.items() if name not in callers} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ("git", "-C", str(checkout), *arguments), env=env, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
