"""A lake as a repository: create one, lock it, and publish a version.

A version is published atomically: the commit is built first, then one Git transaction moves the branch and creates the
version's tag. A crash before it leaves the old version, a crash after it the new one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from affectlake.errors import LakeError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.git import UNSHALLOW, branch_of, git, git_or_none, identity, is_shallow
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import ensure_intact, refuse_behind
from affectlake.lake.store.dvc_lock import sort_lock
from affectlake.lake.store.dvc_secrets import refuse_secrets
from affectlake.lake.store.dvc_stages import dvc_repository
from affectlake.lake.store.forgotten import end_forgetting
from affectlake.lake.store.git_filters import refuse_altered
from affectlake.lake.store.git_objects import blobs
from affectlake.lake.store.lake_format import write_format
from affectlake.lake.store.merges import refuse_unjoined
from affectlake.lake.store.pinning import NOTHING, Pinned
from affectlake.lake.store.remote_settings import CONFIG
from affectlake.lake.store.root import find as find  # noqa: PLC0414 (part of this interface)
from affectlake.lake.store.step_versions import changed_steps
from affectlake.lake.store.tags import TAGS, next_name
from affectlake.lake.store.tracked import tracked
from affectlake.lake.store.versions import (
    CODE_TRAILER,
    ENVIRONMENT_TRAILER,
    STEPS_TRAILER,
    File,
    Manifest,
    Version,
    last_sound,
    list_versions,
    resolve,
)
from affectlake.process.code_version import code_version
from affectlake.process.file_lock import file_lock
from affectlake.process.provenance import environment

# the files in a version's commit; the tables themselves are in DVC's cache, by their hashes in dvc.lock
TRACKED = (
    layout.PARAMS,
    layout.PIPELINE,
    layout.PIPELINE_LOCK,
    layout.COLLECTED,
    layout.PROTOCOLS,
    Path(".gitignore"),
    Path(".dvcignore"),
    Path(".dvc/.gitignore"),
    CONFIG,
    Path("storage/README.md"),
    layout.FORMAT,
    layout.FORGOTTEN,
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

Files of the lake. Commands write them; do not edit them by hand.

| path | content | kept by |
|---|---|---|
| `tables/TABLE/` or `tables/TABLE/PARTITION/` | `part-00000.parquet`, …: rows sorted by the table's key | DVC |
| `collected/OUTPUT.dvc` | the list of parts of an output that grows, such as the answers of a model | Git |
| `quarantine/TIME-STEP/` | rows that broke their contract, with a report and Data Docs | this machine |
| `quarantine/TIME-restore/` | unpublished edits, moved aside by `affectlake restore` | this machine |
| `reports/VERSION.html` | the report of a version | this machine; `affectlake report` writes it again |
| `collecting/AGENT/` | unpublished answers; each is on disk before it counts | this machine |
| `collecting/` | leases of collectors, slots of schedules, files of the scheduler | this machine |
| `mlflow.db`, `mlflow/` | model runs and their files | this machine |
| `scratch/` | files that can be made again: checkpoints of running fits, the schema of `params.yaml` | this machine |
| `staging/` | tables that are not validated yet | this machine |
| `remote/` | the default DVC remote (`affectlake push`) | this machine |
| `forgotten.yaml` | hashes of participants whose rows were removed (`affectlake forget`) | Git |
| `format` | the format of the lake; a version of affectlake that does not support it refuses to open the lake | Git |

Files under `tables/` are read-only, because they are shared with a cache that contains every version. To change a
table, change its inputs or parameters and run `affectlake run`.
"""
"""``storage/README.md`` of every lake."""


def init(root: Path, params: str) -> None:
    """Create a lake in the empty folder `root`, with `params` as the text of its ``params.yaml``.

    Raises
    ------
    LakeError
        If `root` is not empty.
    """
    if root.exists() and any(root.iterdir()):
        raise LakeError(f"{root} is not empty", todo="name a new or empty folder")
    root.mkdir(parents=True, exist_ok=True)
    files = {"GIT_DEFAULT_REF_FORMAT": "files"}  # DVC can read only these, and SHA-1
    git(root, "init", "--quiet", "--initial-branch=main", "--object-format=sha1", env=files)
    (root / layout.PARAMS).write_text(params, encoding="utf-8")
    adopt(root)


def adopt(root: Path) -> None:
    """Add to a Git repository what a lake needs besides ``params.yaml``: DVC, ignore rules and ``storage/``.

    Raises
    ------
    LakeError
        If DVC does not support the repository's object format.
    """
    hashes = git(root, "rev-parse", "--show-object-format").strip()
    if hashes != "sha1":
        raise LakeError(
            f"{root} is a Git repository that DVC cannot read",
            wanted="SHA-1 as its object format",
            found=hashes,
            todo="make a lake in a separate folder: `affectlake init DIR`",
        )
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
    """Hold the lake's writer lock. The kernel releases it when the process ends, also after a crash.

    Parameters
    ----------
    root : Path
        Root of the lake.
    what : str
        What the holder is doing, for the messages of others.
    wait_s : float
        How long to wait for another holder, in seconds; may be infinite.
    say : callable
        Called with a line that names the holder, whenever there is a new one to wait for.

    Raises
    ------
    LakeError
        If another process still holds it after `wait_s`; the message names it.
    """
    busy = f"{root} is being written to"
    with file_lock(root / layout.WRITER_LOCK, what, busy=busy, todo="wait until it has ended", wait_s=wait_s, log=say):
        yield


RootFiles = Callable[[Manifest], Mapping[Path, bytes | None]]
"""From the manifest of a new version to files that explain the lake, such as its ``README.md``; None: to remove."""


def publish(
    root: Path,
    say: Callable[[str], None] = lambda _line: None,
    pinned: Pinned = NOTHING,
    root_files: RootFiles = lambda _manifest: {},
) -> Version | None:
    """Publish the working ``params.yaml``, ``dvc.yaml`` and ``dvc.lock`` as the next version.

    Parameters
    ----------
    root : Path
        Root of the lake.
    say : callable
        Called with a line if the version was made and something else remains to be done.
    pinned : mapping of Path to bytes
        Contents of these files in the version, in place of the current ones: those that its tables were made with.
    root_files : callable
        Returns files that explain the lake, for the manifest of a new version: their new contents by path, or None if a
        file is to be removed. A change of them alone makes no version.

    Returns
    -------
    Version or None
        The new version; None if nothing changed since the last one.

    Raises
    ------
    LakeError
        If the repository is in a state in which no version can be made.
    """
    branch_of(root)
    refuse_unjoined(root)
    refuse_secrets(root)
    refuse_behind(root)
    sort_lock(root)
    return _publish(root, [*_present(root), *_removed(root)], pinned, say, root_files)


def publish_collected(root: Path, say: Callable[[str], None] = lambda _line: None, how: str = "") -> Version | None:
    """Publish collected rows only, without parameters and tables made by steps, as the next version.

    These are taken from the last commit, so that an edit that was not run, or an interrupted run, is not published. New
    protocol files are published, because answers may have been collected with them; changed ones are not.
    If there is no commit yet, everything in the folder is published.

    Parameters
    ----------
    root, say
        As for :func:`publish`.
    how : str
        What was done, for the version's message; by default, the number of outputs that changed.

    Returns
    -------
    Version or None
        As for :func:`publish`.
    """
    if not _head(root):
        return publish(root, say)
    branch_of(root)
    refuse_unjoined(root)
    refuse_secrets(root)
    refuse_behind(root)
    of_runs = {str(path) for path in (layout.PARAMS, layout.PIPELINE, layout.PIPELINE_LOCK)}
    known = {path for path, _ in blobs(root, "HEAD", [str(layout.PROTOCOLS)])}
    return _publish(root, [path for path in _present(root) if path not in of_runs | known], NOTHING, say, how=how)


def _publish(
    root: Path,
    paths: list[str],
    pinned: Pinned,
    say: Callable[[str], None],
    root_files: RootFiles = lambda _manifest: {},
    how: str = "",
) -> Version | None:
    """Publish the last commit, with `paths` as in the folder and the `pinned` contents, as the next version."""
    branch, before = branch_of(root), _head(root)
    known = list_versions(root)
    _refuse_cut_history(root, known, before)
    tree = _tree(root, before, paths, pinned)
    if known and before and _is_published(root, tree, known[-1], before):
        return None
    manifest, old = Manifest(root, tree), last_sound(root, known)
    explaining = root_files(manifest)
    if explaining:
        tree = _tree(root, before, paths, {**pinned, **explaining})
    name = next_name(root)
    commit = _commit(root, tree, before, describe(name, manifest, old, how))
    git(root, "update-ref", "--stdin", stdin=_move(branch, before, name, commit, "commit"))
    for path, text in explaining.items():
        with suppress(OSError):  # the version has it; the next one writes it again
            (root / path).unlink(missing_ok=True) if text is None else write_whole(root / path, text)
    end_forgetting(root)
    try:
        git(root, "reset", "--quiet", "HEAD", "--", *dict.fromkeys([*paths, *map(str, [*pinned, *explaining])]))
    except LakeError as error:
        say(f"{name} was published, but Git's index could not be updated ({error.summary}); `git reset` updates it")
    return resolve(root, name)


def _is_published(root: Path, tree: str, last: Version, before: str) -> bool:
    """Return whether a tree is the last version's, apart from settings of remotes that are committed already."""
    trees = git(root, "rev-parse", f"{last.commit}^{{tree}}", f"{before}^{{tree}}").split()
    if tree == trees[0] or tree != trees[1]:
        return tree == trees[0]
    prefix = git(root, "rev-parse", "--show-prefix").rstrip("\n")
    return git(root, "diff-tree", "-r", "--name-only", trees[0], tree).splitlines() == [f"{prefix}{CONFIG}"]


def commit_config(root: Path, message: str) -> bool:
    """Commit ``.dvc/config`` alone on the branch, without making a version; the caller holds the writer lock.

    Returns
    -------
    bool
        False if there is no commit yet (the first version will have the file), or nothing to commit.

    Raises
    ------
    LakeError
        If the lake is not on a branch, or the file contains secrets.
    """
    branch, before = branch_of(root), _head(root)
    refuse_secrets(root)
    if not before:
        return False
    tree = _tree(root, before, [str(CONFIG)], NOTHING)
    if git(root, "rev-parse", f"{before}^{{tree}}").strip() == tree:
        return False
    git(root, "update-ref", branch, _commit(root, tree, before, f"{message}\n"), before)
    git(root, "reset", "--quiet", "HEAD", "--", str(CONFIG))
    return True


def rehearse(root: Path) -> None:
    """Do everything that publishing does in Git, except for moving the branch.

    Raises
    ------
    LakeError
        If publishing would fail.
    """
    branch = branch_of(root)
    refuse_secrets(root)
    before = _head(root)
    _refuse_cut_history(root, list_versions(root), before)
    commit = _commit(root, _tree(root, before, _present(root), NOTHING), before, "a version could be made here\n")
    git(root, "update-ref", "--stdin", stdin=_move(branch, before, next_name(root), commit, "abort"))


def _head(root: Path) -> str:
    """Return the last commit of the branch; an empty string if there is no commit."""
    return git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD") or ""


def _refuse_cut_history(root: Path, known: list[Version], before: str) -> None:
    """Raise :class:`LakeError` in a shallow clone without versions: the next one would be named as the first."""
    if before and not known and is_shallow(root):
        raise LakeError(f"the versions of {root} are not known", found="a shallow clone without tags", todo=UNSHALLOW)


def _commit(root: Path, tree: str, before: str, message: str) -> str:
    parents = ("-p", before) if before else ()
    return git(root, "commit-tree", tree, *parents, stdin=message, env=identity(root)).strip()


def _move(branch: str, before: str, name: str, commit: str, end: Literal["commit", "abort"]) -> str:
    """Return the transaction that moves the branch and creates the version's tag, ended by `end`."""
    nothing = "0" * len(commit)
    return f"start\nupdate {branch} {commit} {before or nothing}\ncreate {TAGS}{name} {commit}\nprepare\n{end}\n"


def _present(root: Path) -> list[str]:
    """Return the files and folders of `TRACKED` that exist; of the folder of protocols, its files."""
    found = [str(path) for path in TRACKED if path != layout.PROTOCOLS and (root / path).exists()]
    protocols = sorted(path for path in (root / layout.PROTOCOLS).rglob("*") if path.is_file())
    return [*found, *(str(path.relative_to(root)) for path in protocols)]


def _removed(root: Path) -> list[str]:
    """Return the protocol files of the last commit that are no longer in the folder."""
    known = blobs(root, "HEAD", [str(layout.PROTOCOLS)]) if _head(root) else []
    return [path for path, _ in known if not (root / path).exists()]


def _tree(root: Path, before: str, paths: list[str], pinned: Mapping[Path, bytes | None]) -> str:
    """Return the hash of a Git tree: the last commit's, with `paths` as they are now and the `pinned` contents.

    A file whose pinned content is None is left out.

    Raises
    ------
    LakeError
        If Git would store anything other than the bytes of the files.
    """
    added = [path for path in paths if Path(path) not in pinned]
    with tempfile.TemporaryDirectory() as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        whole = ("-c", "core.sparseCheckout=false")  # include files that a sparse checkout leaves out
        if before:
            git(root, *whole, "read-tree", before, env=env)
        gone = [path for path in added if not (root / path).exists()]
        if gone:
            git(root, "update-index", "--force-remove", "--", *gone, env=env)
        added = [path for path in added if path not in gone]
        if added:
            git(root, *whole, "add", "--force", "--", *added, env=env)
            refuse_altered(root, git(root, "ls-files", "--stage", "-z", "--", *added, env=env))
        prefix = git(root, "rev-parse", "--show-prefix").rstrip("\n")
        for path, content in pinned.items():
            if content is None:
                git(root, "update-index", "--force-remove", "--", str(path), env=env)
                continue
            blob = git(root, "hash-object", "-w", "--stdin", stdin=content.decode()).strip()
            git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{prefix}{path}", env=env)
        return git(root, "write-tree", env=env).strip()


def _changes(manifest: Manifest, old: Manifest | None) -> Iterator[tuple[Output, list[File], list[File]]]:
    """Yield each output that is new or changed since the old version, with its files then and now.

    Its objects are verified first, except for those that are in the old version.
    """
    for output, digest in sorted(manifest.digests.items()):
        before = old.digests.get(output) if old else None
        if digest != before:
            had = old.files(output) if old and before else []
            ensure_intact(manifest.root, output, digest, {file.md5 for file in had})
            yield output, had, manifest.files(output)


def describe(name: str, manifest: Manifest, old: Manifest | None, how: str = "") -> str:
    """Return the message of a version's commit: what changed since `old`. Its new objects are verified."""
    import pyarrow.parquet as pq  # imported late: slow, and not needed to read versions

    lines = []
    for output, before, now in _changes(manifest, old):
        rows = {file.md5: pq.read_metadata(file.cached).num_rows for file in (*before, *now)}
        n_before, n_now = (sum(rows[file.md5] for file in files) for files in (before, now))
        same = before and n_now == n_before
        words = f"rebuilt ({n_now:,} rows)" if same else f"{n_now - n_before:+,} rows ({n_now:,})"
        lines.append(f"  {output}: {words}")
    lines += [f"  {output}: removed" for output in sorted(set(old.digests if old else ()) - set(manifest.digests))]
    others, known = tracked(manifest), tracked(old) if old else {}
    lines += [f"  {path}: changed (not a table)" for path in sorted(others) if others[path] != known.get(path)]
    how = how or f"{len(lines) or 1} outputs changed"
    lines = lines or ["  parameters only"]
    steps = changed_steps(manifest, old)
    trailers = [f"{CODE_TRAILER}: {code_version()}", *([f"{STEPS_TRAILER}: {steps}"] if steps else [])]
    trailers.append(f"{ENVIRONMENT_TRAILER}: {environment()}")
    return "\n".join([f"{name}: {how}", "", *lines, "", *trailers, ""])
