"""Versions to and from elsewhere: their files through DVC remotes, their commits and tags through Git remotes.

A version is announced (its tag pushed) only after its files are in the DVC remote, and taken as come (its tag fetched
into place) only after its files are in the cache, whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from affectlake.errors import LakeError, VersionError
from affectlake.lake.git import git, git_or_none
from affectlake.lake.integrity import examine, objects, verify
from affectlake.lake.stages import dvc_repository
from affectlake.lake.versions import TAGS, Manifest, Version, cached_object, list_versions

_INCOMING = "refs/affectlake/incoming/"


class Moved(NamedTuple):
    """What went or came: files through DVC, names of versions through Git (empty when there is no Git remote)."""

    n_files: int
    versions: list[str]


def push(root: Path, versions: list[Version], remote: str = "") -> Moved:
    """Send the files of `versions` to a DVC remote, then announce them to the Git remote ``origin``, if there is one.

    Parameters
    ----------
    root : Path
        Root of the lake.
    versions : list of Version
        Which versions; all of their files must be in the cache, whole.
    remote : str
        Name of the DVC remote; the default one when empty.

    Raises
    ------
    LakeError
        If the remote takes not all files; nothing is announced then. Running again goes on where it stopped.
    """
    for version in versions:
        verify(root, version)
    wanted = {one.md5 for version in versions for one in objects(Manifest(root, version.commit))}
    n_files, failed = _transfer(root, "push", wanted, remote)
    if failed:
        raise LakeError(
            "not all files reached the remote; no version was announced",
            found=failed,
            todo="run `affectlake push` again: it sends what is missing",
        )
    if git_or_none(root, "remote", "get-url", "origin") is None:
        return Moved(n_files, [])
    branch = git(root, "symbolic-ref", "--short", "HEAD").strip()
    names = [f"{TAGS}{v.name}" for v in versions]
    git(root, "push", "--quiet", "--atomic", "origin", branch, *names)
    return Moved(n_files, [v.name for v in versions])


def pull(root: Path, remote: str = "") -> Moved:
    """Bring the versions that the Git remote ``origin`` announces, and the files of every version, into this lake.

    Raises
    ------
    LakeError
        If this lake and the remote each have versions that the other has not.
    VersionError
        If the DVC remote lacks a file of a version or has other bytes; that version's name is not taken then.
    """
    incoming = _fetch(root)
    wanted = incoming or list_versions(root)
    listings = {digest for version in wanted for digest in Manifest(root, version.commit).digests.values()}
    n_listings = _take(root, listings, remote)
    files = {one.md5 for version in wanted for one in objects(Manifest(root, version.commit))}
    n_files = n_listings + _take(root, files, remote)
    if incoming:
        git(root, "merge", "--quiet", "--ff-only", incoming[-1].commit)
        moves = "".join(f"update {TAGS}{v.name} {v.commit}\ndelete {_INCOMING}{v.name}\n" for v in incoming)
        git(root, "update-ref", "--stdin", stdin=moves)
    return Moved(n_files, [v.name for v in incoming])


def _take(root: Path, md5s: set[str], remote: str) -> int:
    """Bring objects into the cache, whole; one that came with other bytes does not stay."""
    lacking = {md5 for md5 in md5s if examine(cached_object(root, md5), md5)}
    for md5 in lacking:
        cached_object(root, md5).unlink(missing_ok=True)
    n_files, failed = _transfer(root, "pull", lacking, remote) if lacking else (0, "")
    bad = {md5: state for md5 in lacking if (state := examine(cached_object(root, md5), md5))}
    for md5 in bad:
        cached_object(root, md5).unlink(missing_ok=True)
    if bad or failed:
        raise VersionError(
            f"{len(bad)} of {len(lacking)} files did not come from the remote as they were published",
            found=failed or ", ".join(f"{md5} {state}" for md5, state in sorted(bad.items())[:5]),
            todo="ask whoever pushed to run `affectlake fsck --repair` and push again, then pull again",
        )
    return n_files


def _transfer(root: Path, way: Literal["push", "pull"], md5s: set[str], remote: str) -> tuple[int, str]:
    """Let DVC copy objects between cache and remote; return how many moved, and in words what did not."""
    from dvc.exceptions import DvcException
    from dvc_data.hashfile.hash_info import HashInfo

    ids = [HashInfo("md5", md5) for md5 in sorted(md5s)]
    try:
        with dvc_repository(root) as repo:
            move = repo.cloud.push if way == "push" else repo.cloud.pull
            done = move(ids, remote=remote or None)
    except (DvcException, OSError) as error:
        return 0, str(error).splitlines()[0]
    return len(done.transferred), ", ".join(sorted(str(one.value) for one in done.failed)[:5])


def _fetch(root: Path) -> list[Version]:
    """Fetch the versions this lake does not have under a name of their own; refuse if the histories part."""
    if git_or_none(root, "remote", "get-url", "origin") is None:
        return []
    git(root, "fetch", "--quiet", "--no-tags", "--force", "origin", f"+{TAGS}*:{_INCOMING}*")
    have = {v.name: v.commit for v in list_versions(root)}
    came = list_versions(root, _INCOMING)
    parted = [v.name for v in came if have.get(v.name, v.commit) != v.commit]
    if parted:
        raise LakeError(
            f"{parted[0]} is another version here than at the remote",
            found=f"{have[parted[0]][:10]} here, {next(v.commit for v in came if v.name == parted[0])[:10]} there",
            todo="keep this lake as a branch of its own (`git branch mine`), or clone the remote anew",
        )
    return [v for v in came if v.name not in have]
