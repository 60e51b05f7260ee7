"""A lake as a repository: making one, locking it, and making a version.

A version appears in one step: the commit is built aside, then one Git transaction moves the branch and creates the
version's tag. A crash before it leaves the old version, a crash after it the new one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TextIO

from affectlake.errors import LakeError
from affectlake.lake import layout
from affectlake.lake.cache import refuse_behind, secure
from affectlake.lake.formats import write_format
from affectlake.lake.git import branch_of, git, git_or_none, identity
from affectlake.lake.merges import refuse_unjoined
from affectlake.lake.root import find as find  # noqa: PLC0414 (those who write ask for it here)
from affectlake.lake.stages import dvc_repository, sort_lock
from affectlake.lake.versions import (
    CODE_TRAILER,
    TAGS,
    File,
    Manifest,
    Version,
    list_versions,
    resolve,
)

# what a version's commit holds; the tables themselves are in DVC's cache, named by dvc.lock
TRACKED = (
    layout.PARAMS,
    layout.PIPELINE,
    layout.PIPELINE_LOCK,
    layout.COLLECTED,
    Path(".gitignore"),
    Path(".dvcignore"),
    Path(".dvc/.gitignore"),
    Path(".dvc/config"),
    Path("storage/README.md"),
    layout.FORMAT,
)

DVC_CONFIG = f"""\
[core]
    analytics = false
    autostage = false
    remote = storage
[cache]
    type = "reflink,copy"
['remote "storage"']
    url = ../{layout.REMOTE}
"""

README = """\
# storage

| here | what it is | who keeps it |
|---|---|---|
| `tables/TABLE/` or `tables/TABLE/PARTITION/` | `part-00000.parquet`, …: rows sorted by the table's key | DVC |
| `collected/OUTPUT.dvc` | names the parts of an output that grows, such as the answers of a model | Git |
| `quarantine/TIME-STEP/` | rows that broke their contract, with an account and Data Docs | this machine |
| `reports/VERSION.html` | the report of a version | this machine; `affectlake report` rebuilds it |
| `collecting/AGENT/` | answers that are in no version yet, each on disk before it counts | this machine |
| `collecting/` | who collects (leases), the slots of schedules, the scheduler's own files | this machine |
| `mlflow.db`, `mlflow/` | model runs and their files | this machine |
| `scratch/`, `staging/` | checkpoints of running fits; tables not yet validated | this machine |
| `remote/` | the default DVC remote (`affectlake push`) | this machine |
| `format` | the format of the lake; an affectlake that does not know it refuses | Git |

Files under `tables/` are read-only: they are shared with a cache that holds every version. Change a table by changing
what makes it, then `affectlake run`.
"""


def init(root: Path, params: str) -> None:
    """Make the empty folder `root` a lake whose ``params.yaml`` holds the text `params`.

    Raises
    ------
    LakeError
        If `root` holds files already.
    """
    if root.exists() and any(root.iterdir()):
        raise LakeError(f"{root} is not empty", todo="name a new folder, or an empty one")
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / layout.PARAMS).write_text(params, encoding="utf-8")
    adopt(root)


def adopt(root: Path) -> None:
    """Give a Git repository what a lake needs besides its ``params.yaml``: DVC, ignore rules and ``storage/``."""
    with dvc_repository(root, init=True):
        (root / ".dvc" / "config").write_text(DVC_CONFIG, encoding="utf-8")
    (root / ".dvc" / "cache").mkdir(mode=0o700, exist_ok=True)
    for folder in (layout.TABLES, layout.COLLECTED):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "storage/README.md").write_text(README, encoding="utf-8")
    write_format(root)
    ignore = root / ".gitignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.exists() else []
    lines += [rule for path in layout.IGNORED if (rule := f"/{path}") not in lines]
    ignore.write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextmanager
def writing(
    root: Path, what: str, *, wait_s: float = 0.0, say: Callable[[str], None] = lambda _line: None
) -> Iterator[None]:
    """Hold the lake's writer lock. The kernel takes it from a holder that dies, so a dead one holds nothing.

    Parameters
    ----------
    root : Path
        Root of the lake.
    what : str
        What the holder is doing, for the other's message.
    wait_s : float
        How long to wait for another holder, in seconds; may be infinite.
    say : callable
        Takes a line that names the holder that is waited for, whenever there is another.

    Raises
    ------
    LakeError
        If another still holds it after `wait_s`; the message names it.
    """
    path = root / layout.WRITER_LOCK
    try:
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise LakeError(f"{root} cannot be written to", found=str(error), todo="check its permissions") from error
    with handle:
        _lock(root, handle, wait_s, say)
        handle.truncate(0)
        handle.write(f"{what}, process {os.getpid()} on {socket.gethostname()}\n")
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def _lock(root: Path, handle: TextIO, wait_s: float, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + wait_s
    pause_s, told = 0.01, ""
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read().strip() or "a writer that has just come"
            if time.monotonic() >= deadline:
                todo = "wait until it has ended"
                raise LakeError(f"{root} is being written to", found=holder, todo=todo) from error
        if holder != told:
            say(f"waiting for {holder}")
            told = holder
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)


def publish(root: Path) -> Version | None:
    """Make the working ``params.yaml``, ``dvc.yaml`` and ``dvc.lock`` the next version.

    Returns
    -------
    Version or None
        The new version, or None if nothing changed since the last one.

    Raises
    ------
    LakeError
        If the repository is in a state in which no version can be made.
    """
    branch = branch_of(root)
    refuse_unjoined(root)
    before = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") or ""
    known = list_versions(root)
    refuse_behind(root)
    sort_lock(root)
    tree = _tree(root, before)
    if known and before and git(root, "rev-parse", f"{known[-1].commit}^{{tree}}").strip() == tree:
        return None
    manifest, old = Manifest(root, ""), Manifest(root, known[-1].commit) if known else None
    name = f"v{int(known[-1].name[1:]) + 1 if known else 1}"
    parents = ("-p", before) if before else ()
    message = describe(name, manifest, old)
    commit = git(root, "commit-tree", tree, *parents, stdin=message, env=identity(root)).strip()
    move = f"start\nupdate {branch} {commit} {before or '0' * 40}\ncreate {TAGS}{name} {commit}\nprepare\ncommit\n"
    git(root, "update-ref", "--stdin", stdin=move)
    git(root, "reset", "--quiet", "HEAD", "--", *_present(root))
    return resolve(root, name)


def _present(root: Path) -> list[str]:
    return [str(path) for path in TRACKED if (root / path).exists()]


def _tree(root: Path, before: str) -> str:
    """Return the hash of a Git tree: the last commit's, with the lake's own files as they are now."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if before:
            git(root, "read-tree", before, env=env)
        git(root, "add", "--force", "--", *_present(root), env=env)
        return git(root, "write-tree", env=env).strip()


def _changes(manifest: Manifest, old: Manifest | None) -> Iterator[tuple[str, list[File], list[File]]]:
    """Yield each output that the old version had otherwise or not at all, with its files then and now.

    Its objects are made sure of first, those that the old version had excepted.
    """
    for output, digest in sorted(manifest.digests.items()):
        before = old.digests.get(output) if old else None
        if digest != before:
            had = old.files(output) if old and before else []
            secure(manifest.root, output, digest, {file.md5 for file in had})
            yield output, had, manifest.files(output)


def describe(name: str, manifest: Manifest, old: Manifest | None, how: str = "") -> str:
    """Return the message of a version's commit: what changed since `old`; its new objects are made sure of."""
    import pyarrow.parquet as pq  # late: looking at versions is quick without it

    lines = []
    for output, before, now in _changes(manifest, old):
        rows = {file.md5: pq.read_metadata(file.cached).num_rows for file in (*before, *now)}
        n_before, n_now = (sum(rows[file.md5] for file in files) for files in (before, now))
        same = before and n_now == n_before
        words = f"made anew ({n_now:,} rows)" if same else f"{n_now - n_before:+,} rows ({n_now:,})"
        lines.append(f"  {output}: {words}")
    lines += [f"  {output}: removed" for output in sorted(set(old.digests if old else ()) - set(manifest.digests))]
    how = how or f"{len(lines) or 1} outputs changed"
    lines = lines or ["  parameters only"]
    code = f"{CODE_TRAILER}: {installed_version('affectlake')}"
    return "\n".join([f"{name}: {how}", "", *lines, "", code, ""])
