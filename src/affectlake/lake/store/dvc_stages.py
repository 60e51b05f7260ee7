"""A lake's stages in DVC: which are up to date, and the records of those that are done.

DVC is used in this process, one repository object at a time. Stages are run and versions are made elsewhere. A lake
may have user-defined stages (:func:`affectlake.lake.files.names.is_step` tells the two apart), which are left alone.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from affectlake.lake.files import layout
from affectlake.lake.files.names import is_step, own_path
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_lock import read_lock, write_lock
from affectlake.lake.store.dvc_path_locks import remove_damaged_list
from affectlake.lake.store.pinning import NOTHING, Pinned, show_pinned
from affectlake.lake.store.stage_definitions import Definition, recorded_as_defined
from affectlake.lake.store.unrecorded import unmark
from affectlake.lake.store.versions import Manifest, outs_of
from affectlake.process.git_caller import without_caller

_ONE_AT_A_TIME = threading.Lock()  # DVC repository objects are not thread-safe


@contextmanager
def dvc_repository(lake: Path, *, init: bool = False, pinned: Pinned = NOTHING) -> Iterator[Any]:
    """Open the lake's DVC repository without log output; with `init`, create it first if there is none.

    It reads the `pinned` contents in place of the files' current contents.
    """
    from dvc.repo import Repo

    with _ONE_AT_A_TIME, without_caller():
        if init and not (lake / ".dvc").is_dir():
            logging.getLogger("dvc").setLevel(logging.ERROR)
            Repo.init(str(lake)).close()
        with _repository(lake, pinned) as repo:
            remove_damaged_list(repo)
            yield repo


def _repository(lake: Path, pinned: Pinned) -> Any:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    repo = Repo(str(lake))
    show_pinned(repo.fs, lake, pinned)
    return repo


def is_current(lake: Path, stage: str, pinned: Pinned = NOTHING) -> bool:
    """Return whether the stage's inputs, parameters, version and outputs are unchanged according to DVC."""
    with StageRecords(lake, pinned) as records:
        return records.is_current(stage)


def stale_stages(lake: Path, stages: Mapping[str, Definition], pinned: Pinned = NOTHING) -> list[str]:
    """Return the names of the stages that are not current, as :meth:`StageRecords.stale` does."""
    with StageRecords(lake, pinned) as records:
        return records.stale(stages)


def record_done(
    lake: Path, stage: str, pinned: Pinned = NOTHING, refuse_changed: Callable[[], None] = lambda: None
) -> None:
    """Record one stage as :meth:`StageRecords.record` does."""
    with StageRecords(lake, pinned) as records:
        records.record(stage, refuse_changed)


class StageRecords:
    """The records of stages in ``dvc.lock``: which stages are current, and those that are done.

    ``dvc.yaml`` is parsed once, so it must not change meanwhile; ``dvc.lock`` is parsed again if something else writes
    it. DVC's repository object is kept until the end of the ``with`` block.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    pinned : mapping of Path to bytes
        The parameters and the pipeline that the stages run with, where they differ from those in the folder.
    """

    def __init__(self, lake: Path, pinned: Pinned = NOTHING) -> None:
        self._lake, self._pinned = lake, pinned
        self._repo: Any = None
        self._file: Any = None
        self._known: tuple[bytes | None, dict[str, Any]] = (None, {})  # dvc.lock: its bytes, and what they say
        self._parsed: dict[str, tuple[bytes, Any]] = {}  # the same of files of parameters, by path

    def __enter__(self) -> StageRecords:
        return self

    def __exit__(self, *_: object) -> None:
        with _ONE_AT_A_TIME, without_caller():
            if self._repo is not None:
                self._repo.close()
            self._repo = None

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Yield DVC's repository object; one thread at a time has it."""
        from dvc.dvcfile import load_file

        with _ONE_AT_A_TIME, without_caller():
            if self._repo is None:
                self._repo = _repository(self._lake, self._pinned)
                self._file = load_file(self._repo, str(self._lake / layout.PIPELINE))
            remove_damaged_list(self._repo)
            with self._parsing_once():
                yield self._repo

    @contextmanager
    def _parsing_once(self) -> Iterator[None]:
        """Let DVC parse a file of parameters again only if its bytes have changed, not once for every stage."""
        from dvc.dependency import param

        parse = param.load_path

        def parse_once(path: str, fs: Any, **options: Any) -> Any:
            with fs.open(path, "rb") as file:
                content = file.read()
            known = self._parsed.get(path)
            if known is None or known[0] != content:
                known = self._parsed[path] = content, parse(path, fs, **options)
            return known[1]

        param.load_path = parse_once
        try:
            yield
        finally:
            param.load_path = parse

    def _read_lock(self) -> dict[str, Any]:
        path = self._lake / layout.PIPELINE_LOCK
        content, known = path.read_bytes() if path.exists() else None, self._known  # threads replace the pair as one
        if content != known[0]:
            known = self._known = content, read_lock(self._lake)
        return known[1]

    def _stage(self, name: str) -> Any:
        from dvc.stage.loader import StageLoader

        return StageLoader(self._file, self._file.contents, self._read_lock())[name]

    def stale(self, stages: Mapping[str, Definition]) -> list[str]:
        """Return the names of the stages that are not current.

        DVC is not asked about stages whose records are exactly as they are defined, because it needs 30 ms a stage and
        would answer the same.

        Parameters
        ----------
        stages : mapping of str to Definition
            The stages by name, as the pipeline defines them.
        """
        same = recorded_as_defined(self._lake, self._read_lock(), stages)
        return [name for name in stages if name not in same and not self.is_current(name)]

    def is_current(self, stage: str) -> bool:
        """Return whether a stage's inputs, parameters, version and outputs are unchanged according to DVC."""
        if stage not in (self._read_lock().get("stages") or {}):  # far cheaper than asking DVC
            return False
        with self._opened() as repo, repo.lock:
            return not self._stage(stage).changed()

    def is_unchanged(self, stage: str, missing: Mapping[str, str]) -> bool:
        """Return whether a stage is current once the `missing` outputs (hash by path in the lake) are restored."""
        if stage not in (self._read_lock().get("stages") or {}):
            return False
        with self._opened() as repo, repo.lock:
            one = self._stage(stage)
            if one.changed_stage():
                return False
            for dep in (*one.deps, *one.outs):
                path = os.path.relpath(dep.fs_path, repo.root_dir) if dep.fs_path else ""
                if missing.get(path, "") != dep.hash_info.value if path in missing else dep.status():
                    return False
        return True

    def record(self, stage: str, refuse_changed: Callable[[], None] = lambda: None) -> None:
        """Add the stage's outputs to DVC's cache, and record in ``dvc.lock`` what they were made from.

        This does what ``dvc commit --force`` does, except for how the file is written: DVC preserves comments, which
        takes half a second a stage where there are thirty.

        Parameters
        ----------
        stage : str
            Name of the stage.
        refuse_changed : callable
            Called after the inputs are hashed and before anything is written; raises if they are not what the stage
            read.
        """
        from dvc.repo import lock_repo
        from dvc.stage.serialize import to_single_stage_lockfile

        with self._opened() as repo, lock_repo(repo):
            made = self._stage(stage)
            made.save()
            refuse_changed()
            made.commit()
            lock = {"schema": "2.0"} | self._read_lock()
            lock["stages"] = (lock.get("stages") or {}) | {stage: to_single_stage_lockfile(made)}
            write_lock(self._lake, lock)
            self._known = (self._lake / layout.PIPELINE_LOCK).read_bytes(), lock
            written = [Output.at(os.path.relpath(out.fs_path, repo.root_dir)) for out in made.outs]
        for output in filter(None, written):
            unmark(self._lake, output)


def forget_stages(lake: Path, keep: Collection[str]) -> list[str]:
    """Remove the steps that are not in `keep` from ``dvc.lock``, and their tables from the folder; return their names.

    Older versions keep their tables: the content stays in the cache. User-defined stages are kept.

    Raises
    ------
    LakeError
        If a manifest has an output that is not a table; nothing is removed then.
    """
    manifest = Manifest(lake, "")
    made = set(manifest.made)
    lock = read_lock(lake)
    stages = lock.get("stages") or {}
    gone = [name for name, entry in manifest.stages.items() if name not in keep and is_step(name, entry.get("cmd"))]
    if gone:
        kept = {name: stages[name] for name in stages if name not in gone}
        lost = made - {Output.at(out["path"]) for entry in kept.values() for out in outs_of(entry)}
        folders = [own_path(lake, output.folder) for output in lost]
        # the tables are removed last: without an entry in the lock they are harmless
        write_lock(lake, lock | {"stages": kept})
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return gone
