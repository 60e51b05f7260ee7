"""DVC's list of the paths that its processes are using, ``.dvc/tmp/rwlock``, after a process was killed writing it.

DVC writes the list in place, several times for each stage, and refuses every command if the list is truncated. The
entries of processes that have ended are not a problem, because DVC removes them itself.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any


def remove_damaged_list(repo: Any) -> None:
    """Remove the list of paths in use if it cannot be read; DVC then begins a new one.

    Parameters
    ----------
    repo : dvc.repo.Repo
        The repository.
    """
    from dvc.lock import LockError, make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    if repo.tmp_dir is None:
        return
    path = repo.fs.join(repo.tmp_dir, RWLOCK_FILE)
    if _is_readable(path):
        return
    guard = repo.fs.join(repo.tmp_dir, RWLOCK_LOCK)  # held by whoever is writing the list now
    hardlink = repo.config["core"].get("hardlink_lock", False)
    with suppress(LockError, OSError), make_lock(guard, tmp_dir=repo.tmp_dir, hardlink_lock=hardlink):
        if not _is_readable(path):
            repo.fs.remove(path)


def _is_readable(path: str) -> bool:
    """Return whether there is no list, or one that DVC takes."""
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        SCHEMA(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return True
    except (ValueError, Invalid):
        return False
    return True
