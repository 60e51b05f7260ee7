"""Which code runs: the number of the release, and of what is not a release its commit.

An installed package has its version in its metadata, which setuptools-scm writes when it is built (``setup.py``, with
the functions of this module). An editable installation, or a checkout on ``PYTHONPATH``, goes on changing after that.
There Git is asked, so that a version of a lake records the commit that made it and not the one that was installed.

- ``0.2.0``: the commit with the tag ``v0.2.0``
- ``0.2.1.dev3+g1b2c3d4e5f``: three commits after it
- ``0.2.1.dev3+g1b2c3d4e5f.dirty``: and with changes that are in no commit
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
"""The release that commits lead to where no tag says so: in a clone without tags."""

UNKNOWN = f"{UNTAGGED}.dev0+unknown"
"""The version of files that have neither a repository nor a package's metadata."""

DESCRIBE = ("git", "describe", "--tags", "--long", "--abbrev=40", "--match", "v[0-9]*")
"""The nearest release and the commit; the tags of lakes (``lake/v1``) are not releases."""

_CODE = ("src", "flows", "pipelines", "schemas")
_DESCRIBED = re.compile(r"v(?P<tag>[0-9][^-]*)-(?P<distance>[0-9]+)-g(?P<commit>[0-9a-f]+)")


@cache
def code_version() -> str:
    """Return the version of the code that this process runs, as it is when first asked for."""
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
    """Whether files of the code differ from the last commit, or are new; what Git ignores does not count."""
    return bool(_git(checkout, "status", "--porcelain", "--untracked-files=all", "--", *_CODE, "pyproject.toml"))


def numbered(tag: str, distance: int, commit: str, dirty: bool) -> str:
    """Return the version of a commit, as the packaging standard spells it (PEP 440).

    Parameters
    ----------
    tag : str
        The last release before it, such as ``0.2.0``; empty if there is none.
    distance : int
        Commits since then.
    commit : str
        Hash of the commit.
    dirty : bool
        Whether the code has changes that are in no commit.
    """
    if tag and not distance and not dirty:
        return tag
    following = re.sub(r"[0-9]+$", lambda last: str(int(last[0]) + 1), tag) or UNTAGGED
    return f"{following}.dev{distance}+g{commit[:10]}{'.dirty' if dirty else ''}"


def _git(checkout: Path, *arguments: str) -> str:
    """Return what Git answers, stripped; an empty string if it does not answer."""
    callers = caller_variables(os.environ)
    env = {name: value for name, value in os.environ.items() if name not in callers} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ("git", "-C", str(checkout), *arguments), env=env, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
