"""Push and pull versions: their files through DVC remotes, their commits and tags through Git remotes.

The tag of a version is pushed only after its files are in the DVC remote, and only if clones can fetch them from there
(:mod:`~affectlake.lake.announcing`). It is created here only after its files are in the cache and verified
(:mod:`~affectlake.lake.fetching`). Both continue where they were interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake.advance import advance, finish_advance, follows, is_ancestor, refuse_in_the_way, refuse_unready
from affectlake.lake.announcing import Clones
from affectlake.lake.fetching import PER_ROUND, authors_of, not_tables, open_to_fetch, take
from affectlake.lake.files.checksums import examine
from affectlake.lake.files.git import UNSHALLOW, branch_of, git, git_or_none, is_shallow
from affectlake.lake.fsck import users, verify
from affectlake.lake.recovery import remove_unfinished
from affectlake.lake.store.lake_format import refuse_newer_at
from affectlake.lake.store.merges import refuse_merging
from affectlake.lake.store.remotes import Remote, open_remote
from affectlake.lake.store.tags import TAGS, announced, has_origin, number
from affectlake.lake.store.version_names import pull_names, unannounced
from affectlake.lake.store.versions import Version, cache_folder, cached_object, list_versions

_INCOMING = "refs/affectlake/incoming/"
_JOIN = "join the two with `affectlake join origin`, which keeps the answers and versions of both"

Say = Callable[[str], None]


def _quiet(_: str) -> None:
    """Discard a line of progress."""


class Moved(NamedTuple):
    """Number of files sent or fetched by DVC, and names of versions by Git (empty if there is no Git remote)."""

    n_files: int
    versions: list[str]


def push(root: Path, versions: list[Version], remote: str = "", say: Say = _quiet) -> Moved:
    """Send the files of `versions` to a DVC remote, then their tags to the Git remote ``origin``, if there is one.

    Parameters
    ----------
    root : Path
        Root of the lake.
    versions : list of Version
        The versions; all files of their tables must be intact in the cache. Outputs of user-defined stages are sent
        too, as far as the cache has them.
    remote : str
        Name of the DVC remote; the default remote if empty.
    say : callable
        Called with one line of progress.

    Raises
    ------
    LakeError
        If not all files reach the remote, or a clone of the branch could not fetch them; no tag is pushed then. Running
        again continues where it stopped.
    """
    to_origin = has_origin(root)
    branch = branch_of(root) if to_origin else ""
    verify(root, *versions)
    wanted = users(root, versions)
    absent = [md5 for md5, use in wanted.items() if not use.is_table and examine(cached_object(root, md5), md5)]
    if absent:
        say(f"{not_tables(wanted, absent)} not intact in the cache and were not sent")
    sent = [md5 for md5 in wanted if md5 not in set(absent)]
    away = open_remote(root, remote)
    clones = Clones(root, git(root, "rev-parse", "HEAD").strip(), away, remote) if to_origin else None
    n_files = _send(root, away, sent, say)
    if clones is None:
        return Moved(n_files, [])
    clones.refuse_lacking({md5: cached_object(root, md5).stat().st_size for md5 in sent}, say)
    _announce(root, branch, versions, say)
    if git(root, "ls-remote", "--quiet", "origin", "HEAD") == "":
        name = branch.removeprefix("refs/heads/")
        say(
            f"a plain clone of origin has no files, since its HEAD names a branch it lacks: `git clone --branch {name}"
            f" URL`, or once, in the repository on the server, `git symbolic-ref HEAD {branch}`"
        )
    return Moved(n_files, [v.name for v in versions])


def _announce(root: Path, branch: str, versions: list[Version], say: Say) -> None:
    """Push the branch, the tags of `versions` and their names to ``origin``: all of them or none."""
    try:
        there = announced(root)  # a version tagged again by an annotated tag has the same commit
        new = [f"{TAGS}{v.name}" for v in versions if there.get(v.name) != v.commit]
        new += unannounced(root, {v.commit for v in versions} | set(there.values()), say)
        git(root, "push", "--quiet", "--atomic", "origin", branch, *new)
    except LakeError as error:
        is_refused = "rejected]" in error.found
        reach = error.todo or "check `git remote get-url origin`, the network and your credentials; then push again"
        raise LakeError(
            f"the files are in the remote, but origin {'refused the versions' if is_refused else 'did not take them'}",
            found=error.found,
            todo="if origin has newer versions, join them with `affectlake join origin`; then push again"
            if is_refused
            else reach,
        ) from error


def _send(root: Path, away: Remote, md5s: list[str], say: Say) -> int:
    """Send objects that the remote lacks or has in another size; check that all arrived and return their number."""
    local = {md5: cached_object(root, md5) for md5 in md5s}
    sizes = {md5: path.stat().st_size for md5, path in local.items()}
    try:
        there = away.sizes(md5s)
        lacking = [md5 for md5 in md5s if there.get(md5) != sizes[md5]]
        # listings last: a remote with a listing has all of its files
        lacking.sort(key=lambda md5: md5.endswith(".dir"))
        for start in range(0, len(lacking), PER_ROUND):
            away.send({md5: local[md5] for md5 in lacking[start : start + PER_ROUND]})
            say(f"{min(start + PER_ROUND, len(lacking))} of {len(lacking)} files sent")
        there = away.sizes(lacking)
    except LakeError as error:
        raise LakeError(
            "not all files reached the remote; no version was pushed",
            found=f"{error.summary}: {error.found}",
            todo=f"{error.todo}; then run `affectlake push` again: it sends the missing files",
        ) from error
    short = [md5 for md5 in lacking if there.get(md5) != sizes[md5]]
    if short:
        raise LakeError(
            "not all files reached the remote; no version was pushed",
            found=", ".join(f"{md5}: {there.get(md5, 'no')} of {sizes[md5]} bytes" for md5 in short[:5]),
            todo="run `affectlake push` again: it sends the missing files",
        )
    return len(lacking)


def pull(root: Path, remote: str = "", say: Say = _quiet) -> Moved:
    """Fetch the versions of the Git remote ``origin``, and the files of every version, into this lake.

    A folder that had the last version's tables then has those of the newest.

    Raises
    ------
    LakeError
        If this lake and the remote each have versions that the other lacks, if the folder has unpublished work,
        or if the versions were made by a newer affectlake.
    VersionError
        If the DVC remote lacks a file of a version's tables or has other bytes, or an output of the version is not a
        table; that version's tag is not created then.
    """
    remove_unfinished(root)
    finish_advance(root, say)
    refuse_merging(root)
    incoming = _fetch(root)
    target = _target(root, incoming, say)
    if incoming:
        refuse_newer_at(root, incoming[-1].commit)
        _refuse_unready(root, incoming[-1], target)
    wanted = incoming or list_versions(root)
    if not wanted:
        return Moved(0, [])
    authors = authors_of(wanted)
    moves = bool(target) and not is_ancestor(root, target, "HEAD")
    reach = cache(lambda: open_to_fetch(root, remote, target if moves else "", authors))
    cache_folder(root).mkdir(mode=0o700, parents=True, exist_ok=True)
    first = users(root, wanted)  # listings, and the files of listings that were here
    n_files = take(root, first, reach, say, authors)
    # objects of tables are fetched again if the first attempt was for another output, which may be missing
    tried = {md5 for md5, use in first.items() if use.is_table}
    rest = {md5: use for md5, use in users(root, wanted).items() if md5 not in tried}
    rest = {md5: use for md5, use in rest.items() if use.is_table or md5 not in first}
    n_files += take(root, rest, reach, say, authors)
    if target:
        _advance(root, incoming, target, say)
    if has_origin(root):
        pull_names(root, "origin", {v.commit for v in list_versions(root)}, say)
    return Moved(n_files, [v.name for v in incoming])


def _fetch(root: Path) -> list[Version]:
    """Fetch the commits of versions that this lake does not have; raise if the histories have diverged."""
    have = {v.name: v.commit for v in list_versions(root)}
    there = announced(root)
    conflicting = [name for name in sorted(there, key=number) if have.get(name, there[name]) != there[name]]
    if conflicting:
        raise LakeError(
            f"{conflicting[0]} is not the same version here and in the remote",
            found=f"{have[conflicting[0]][:10]} here, {there[conflicting[0]][:10]} there",
            todo=_JOIN,
        )
    new = there.keys() - have.keys()
    if new:
        asked = "".join(f"+{TAGS}{name}:{_INCOMING}{name}\n" for name in new)
        git(root, "fetch", "--quiet", "--no-tags", "--force", "--stdin", "origin", stdin=asked)
    return [v for v in list_versions(root, _INCOMING) if v.name in new]


def _target(root: Path, incoming: list[Version], say: Say) -> str:
    """Return the commit that the branch moves to: the newest version, or origin's branch if only settings follow it.

    It is empty if the branch stays where it is.
    """
    known = [*list_versions(root), *incoming]
    newest = incoming[-1].commit if incoming else ""
    branch = git_or_none(root, "symbolic-ref", "--quiet", "HEAD")
    if not (branch and known and has_origin(root)):
        return newest
    listed = git(root, "ls-remote", "--quiet", "origin", branch).split()
    head = git_or_none(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if not listed or head is None or listed[0] == head:
        return newest
    tip = listed[0]
    git(root, "fetch", "--quiet", "--no-tags", "origin", branch)  # also refs/remotes/origin, for `remote set`
    has_tip = not is_shallow(root) and git_or_none(root, "cat-file", "-e", tip) is not None
    commits = [version.commit for version in known]
    if not (has_tip and is_ancestor(root, head, tip) and follows(root, tip, known[-1].commit, commits)):
        return newest
    if not incoming:
        try:
            refuse_unready(root)
            refuse_in_the_way(root, tip)
        except LakeError:
            say("origin has newer settings, which come when this folder has no unpublished work (`git diff HEAD`)")
            return ""
    return tip


def _refuse_unready(root: Path, newest: Version, target: str) -> None:
    """Raise :class:`LakeError` if the branch cannot move to `target`, with `newest`, without losing anything."""
    branch = branch_of(root)
    head = git(root, "rev-parse", "HEAD").strip()
    if is_ancestor(root, target, head):
        return
    if not is_ancestor(root, head, target):
        if is_shallow(root):
            raise LakeError(
                f"it is unknown whether {newest.name} contains {branch.removeprefix('refs/heads/')}",
                found="a shallow clone",
                todo=UNSHALLOW,
            )
        raise LakeError(
            f"this lake and the remote have diverged: {newest.name} does not contain "
            f"{branch.removeprefix('refs/heads/')}",
            todo=_JOIN,
        )
    refuse_unready(root)
    refuse_in_the_way(root, target)


def _advance(root: Path, incoming: list[Version], target: str, say: Say) -> None:
    """Create the tags of `incoming`, and advance branch and folder to `target` unless the branch has it."""
    head = git(root, "rev-parse", "HEAD").strip()
    moves = "".join(f"update {TAGS}{v.name} {v.commit}\ndelete {_INCOMING}{v.name}\n" for v in incoming)
    if is_ancestor(root, target, head):
        advance(root, moves, head, say)
    else:
        advance(root, f"{moves}update {branch_of(root)} {target} {head}\n", target, say)
