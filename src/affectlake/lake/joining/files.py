"""Fetch and verify the files of another lake, before any version name or pointer refers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from affectlake.errors import VersionError
from affectlake.lake.fetching import take
from affectlake.lake.files.checksums import examine
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import Users, users
from affectlake.lake.joining.other_lake import Theirs
from affectlake.lake.store.cache import read_listing
from affectlake.lake.store.versions import Version, cache_folder, cached_object
from affectlake.lake.transfer import Say


def bring_versions(root: Path, versions: Sequence[Version], theirs: Theirs, remote: str, say: Say) -> None:
    """Fetch the files of every table of `versions` that are not in the cache.

    Raises
    ------
    VersionError
        If a file is missing or damaged in the other lake.
    """
    for _ in ("listings, and the files of those that are here", "the other files"):
        _bring(root, users(root, versions), theirs, remote, say)


def bring_parts(root: Path, sides: Sequence[Mapping[Output, str]], theirs: Theirs, remote: str, say: Say) -> None:
    """Fetch the listings that pointers name (by output, of each side) and their parts, if not in the cache.

    Raises
    ------
    VersionError
        If a file is missing or damaged in the other lake.
    """
    named = dict.fromkeys(item for side in sides for item in side.items())
    listings = {digest: Users(str(output.folder), [theirs.name]) for output, digest in named}
    _bring(root, listings, theirs, remote, say)
    parts: dict[str, Users] = {}
    for digest, use in listings.items():
        for one in read_listing(root, digest):
            parts[one.md5] = Users(f"{use.path}/{one.relpath}", use.versions)
    _bring(root, parts, theirs, remote, say)


def _bring(root: Path, wanted: Mapping[str, Users], theirs: Theirs, remote: str, say: Say) -> None:
    lacking = {md5: use for md5, use in wanted.items() if examine(cached_object(root, md5), md5)}
    if not lacking:
        return
    cache_folder(root).mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        take(root, lacking, lambda: theirs.files(root, remote), say)
    except VersionError as error:
        if theirs.folder is not None:
            error.todo = f"`affectlake fsck --repair --lake {theirs.folder}`, then join again"
        else:
            error.todo += "; or name the folder of the other lake, if it is on this machine: `affectlake join FOLDER`"
        raise
