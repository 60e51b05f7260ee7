"""What DVC knows of a lake's stages: which are up to date, what they made, which tables were changed or lost.

DVC is used in the process, one repository object at a time. Running a stage and making versions are elsewhere.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from affectlake.errors import LakeError
from affectlake.lake import layout
from affectlake.lake.files import write_whole
from affectlake.lake.git import git_or_none, without_caller
from affectlake.lake.marks import mark_unrecorded, marked, unmark
from affectlake.lake.versions import blobs, read_blobs

_ONE_AT_A_TIME = threading.Lock()  # a DVC repository object is not made for several threads


@contextmanager
def dvc_repository(lake: Path, *, init: bool = False) -> Iterator[Any]:
    """Open the lake's DVC repository, quietly; `init` makes it first if there is none."""
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    with _ONE_AT_A_TIME, without_caller():
        if init and not (lake / ".dvc").is_dir():
            Repo.init(str(lake)).close()
        with Repo(str(lake)) as repo:
            yield repo


def is_current(lake: Path, stage: str) -> bool:
    """Return whether DVC finds the stage's inputs, parameters, version and outputs unchanged."""
    with dvc_repository(lake) as repo:
        found = repo.stage.load_one(path=str(lake / layout.PIPELINE), name=stage)
        with repo.lock:
            return not found.changed()


def record_done(lake: Path, stage: str) -> None:
    """Let DVC keep the stage's outputs, and write to ``dvc.lock`` what they were made from.

    As ``dvc commit --force``, but for how the file is written: DVC reads and writes all of it so that comments would
    stay, which takes half a second a stage where there are thirty.
    """
    from dvc.repo import lock_repo
    from dvc.stage.serialize import to_single_stage_lockfile

    with dvc_repository(lake) as repo, lock_repo(repo):
        made = repo.stage.load_one(path=str(lake / layout.PIPELINE), name=stage)
        made.save()
        made.commit()
        lock = _lock(lake)
        stages = lock.get("stages", {}) | {stage: to_single_stage_lockfile(made)}
        _write_lock(lake, {"schema": "2.0"} | lock | {"stages": stages})
    for out in made.outs:
        unmark(lake, os.path.relpath(out.fs_path, lake / layout.TABLES))


def forget_stages(lake: Path, keep: Collection[str]) -> list[str]:
    """Drop from ``dvc.lock`` the stages that are not in `keep`, and their tables from the folder; return their names.

    Older versions keep their tables: the content stays in the cache.
    """
    lock = _lock(lake)
    stages = lock.get("stages", {})
    gone = {name: stages[name].get("outs", ()) for name in stages if name not in keep}
    if gone:
        # the tables go last: those of a stage that is not in the lock are nobody's, and harmless
        _write_lock(lake, lock | {"stages": {name: stages[name] for name in stages if name in keep}})
        for out in (out for outs in gone.values() for out in outs):
            shutil.rmtree(lake / out["path"], ignore_errors=True)
    return list(gone)


def sort_lock(lake: Path) -> None:
    """Put the stages of ``dvc.lock`` in the order of their names: DVC appends them in the order in which they end."""
    lock = _lock(lake)
    names = list(lock.get("stages", {}))
    if names != sorted(names):
        _write_lock(lake, lock | {"stages": {name: lock["stages"][name] for name in sorted(names)}})


def mend_lock(lake: Path, say: Callable[[str], None]) -> None:
    """Take the last commit's ``dvc.lock`` for one that DVC was cut off in writing; its stages then run again."""
    try:
        _lock(lake)
    except LakeError:
        pass
    else:
        return
    say(f"{layout.PIPELINE_LOCK} was half written; taking the last version's")
    for path in (lake / layout.TABLES).rglob("part-*.parquet"):
        mark_unrecorded(lake, str(path.parent.relative_to(lake / layout.TABLES)))
    commit = git_or_none(lake, "rev-parse", "--verify", "--quiet", "HEAD")
    found = [name for _, name in blobs(lake, commit, [str(layout.PIPELINE_LOCK)])] if commit else []
    if found:
        write_whole(lake / layout.PIPELINE_LOCK, read_blobs(lake, found)[0])
    else:
        (lake / layout.PIPELINE_LOCK).unlink()


def _lock(lake: Path) -> dict[str, Any]:
    path = lake / layout.PIPELINE_LOCK
    if not path.exists():
        return {}
    try:
        found = yaml.load(path.read_bytes(), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise LakeError(f"{path} is not YAML", found=str(error), todo="`affectlake run` mends it") from error
    if not isinstance(found, dict):
        raise LakeError(f"{path} is not whole", found=f"{path.stat().st_size} bytes", todo="`affectlake run` mends it")
    return found


class _LockDumper(yaml.CSafeDumper):
    """Writes DVC's ordered mappings as mappings, and what occurs twice twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Return that nothing is to be a reference to what stands elsewhere."""
        return True


_LockDumper.add_representer(OrderedDict, lambda dumper, found: dumper.represent_dict(found.items()))


def _write_lock(lake: Path, lock: dict[str, Any]) -> None:
    text = yaml.dump(lock, Dumper=_LockDumper, sort_keys=False, allow_unicode=True)
    write_whole(lake / layout.PIPELINE_LOCK, text.encode())


def refuse_edited(lake: Path) -> None:
    """Raise :class:`LakeError` if a table is not as the stage that made it left it.

    A table that differs because a run was cut off before DVC recorded it is no edit: DVC finds its stage stale, and
    the run makes it again.
    """
    modified = _outputs(lake, "modified")
    cut_off = _cut_off(lake, modified)
    edited = [path for path in modified if path not in cut_off]
    if edited:
        raise LakeError(
            "tables were changed by hand; nothing was run",
            found=", ".join(edited),
            todo=f"keep a copy elsewhere if you want it, then `dvc checkout --force {edited[0]}` restores the table",
        )


def refuse_cut_off(lake: Path) -> None:
    """Raise :class:`LakeError` if a run was cut off between putting tables in place and recording them."""
    cut_off = _cut_off(lake, _outputs(lake, "modified"))
    if cut_off:
        raise LakeError(
            "a run was cut off before its tables were recorded",
            found=", ".join(cut_off),
            todo="let `affectlake run` finish it first",
        )


def _cut_off(lake: Path, modified: list[str]) -> list[str]:
    """Return which of the `modified` outputs carry the mark of a run cut off; marks of others are done with."""
    found = {str(layout.TABLES / output): output for output in marked(lake)}
    for path in set(found) - set(modified):
        unmark(lake, found[path])
    return [path for path in modified if path in found]


def restore_missing(lake: Path, say: Callable[[str], None]) -> None:
    """Bring back from DVC's cache the tables that ``dvc.lock`` names and that are not in the folder."""
    missing = _outputs(lake, "deleted")
    if not missing:
        return
    from dvc.exceptions import CheckoutError

    say(f"restoring {', '.join(missing)} from the cache")
    with dvc_repository(lake) as repo:
        try:
            repo.checkout(targets=[str(lake / path) for path in missing], force=True, allow_missing=True)
        except CheckoutError as error:
            say(f"not in the cache, to be made again: {', '.join(error.target_infos)}")


def _outputs(lake: Path, state: Literal["modified", "deleted"]) -> list[str]:
    """Return the outputs that are in `state` against the working ``dvc.lock``."""
    if not (lake / layout.PIPELINE_LOCK).exists() and not any((lake / layout.COLLECTED).rglob("*.dvc")):
        return []
    with dvc_repository(lake) as repo, repo.lock:
        outs = [out for stage in repo.index.stages for out in stage.outs if out.hash_info]
        return [os.path.relpath(out.fs_path, lake) for out in outs if out.status().get(str(out)) == state]
