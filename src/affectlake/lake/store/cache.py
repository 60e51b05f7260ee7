"""Objects in DVC's cache: adding parts and listings, and verifying them before a version refers to them.

DVC assumes that an object that exists is complete. After a power failure it may not be, so new objects are hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

from affectlake.errors import LakeError
from affectlake.lake.files.atomic import clone, md5_of, sync_file, sync_folder, write_whole
from affectlake.lake.files.checksums import examine
from affectlake.lake.files.git import git_or_none
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.forgotten import being_forgotten
from affectlake.lake.store.listings import Listed as Listed  # noqa: PLC0414 (part of this interface)
from affectlake.lake.store.listings import parse_listing
from affectlake.lake.store.versions import Manifest, cached_object, last_sound, list_versions


def read_listing(root: Path, digest: str) -> list[Listed]:
    """Return the entries of the listing `digest`.

    Raises
    ------
    LakeError
        If the listing is missing or damaged, or is not the listing of a table.
    """
    path = cached_object(root, digest)
    state = examine(path, digest)
    if state:
        raise LakeError(
            f"the listing {digest} is {state}",
            found=str(path),
            todo="repair it with `affectlake fsck --repair` or `affectlake pull`",
        )
    return parse_listing(path.read_bytes(), digest)


def keep_file(root: Path, source: Path, md5: str) -> None:
    """Copy `source`, whose hash is `md5`, into the cache, unless an intact copy is there already."""
    target = cached_object(root, md5)
    if examine(target, md5) is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.new")
    clone(source, aside)
    aside.replace(target)
    sync_folder(target.parent)


def keep_listing(root: Path, listed: Iterable[Listed]) -> str:
    """Write a listing to the cache, in DVC's format, and return its hash."""
    content, digest = _listing(listed)
    if examine(cached_object(root, digest), digest):
        write_whole(cached_object(root, digest), content, 0o444)
    return digest


def ensure_intact(root: Path, output: Output, digest: str, known: Collection[str]) -> None:
    """Verify that an output's objects are intact and flushed to disk; repair them from the working tables.

    Parameters
    ----------
    root : Path
        Root of the lake.
    output : Output
        The output.
    digest : str
        Hash of its listing.
    known : collection of str
        Hashes that an earlier version refers to: they were verified then.

    Raises
    ------
    LakeError
        If an object is missing or damaged, and the working tables do not have a copy of it.
    """
    folder = root / output.folder
    if examine(cached_object(root, digest), digest):
        listed = [Listed(path.name, md5_of(path)) for path in folder.iterdir()] if folder.is_dir() else []
        if _listing(listed)[1] == digest:
            keep_listing(root, listed)
    places = {cached_object(root, digest)}
    for one in read_listing(root, digest):
        if one.md5 in known:
            continue
        state = examine(cached_object(root, one.md5), one.md5)
        if state:
            if examine(folder / one.relpath, one.md5):
                raise LakeError(
                    f"{output}/{one.relpath} is {state} in the cache, and the working table is not a copy of it",
                    todo="rebuild the table with `affectlake run`",
                )
            keep_file(root, folder / one.relpath, one.md5)
        places.add(cached_object(root, one.md5))
    for path in places:
        sync_file(path)
    for parent in {path.parent for path in places}:
        sync_folder(parent)


def listing_digest(listed: Iterable[Listed]) -> str:
    """Return the hash by which DVC names a folder of these files."""
    return _listing(listed)[1]


def collected_parts(root: Path, output: Output) -> list[Listed]:
    """Return the parts that the pointer of a collected output names; an empty list if there is no pointer."""
    has_pointer = (root / output.pointer).exists()
    return read_listing(root, Manifest(root, "").collected[output]) if has_pointer else []


def refuse_behind(root: Path) -> None:
    """Raise :class:`LakeError` if the latest version has collected rows that the folder does not have.

    Collected rows cannot be made again, so no version may drop them: after the checkout of an older version, nothing
    can be collected or published until the latest version is checked out again. Rows that `affectlake forget` is
    removing are not missed.
    """
    known = list_versions(root)
    latest, now, removed = last_sound(root, known), Manifest(root, ""), being_forgotten(root)
    if latest is None:
        return
    name = next(version.name for version in known if version.commit == latest.commit)
    for output in latest.collected:
        digest = latest.digests[output]
        if now.digests.get(output) == digest:
            continue
        apart = git_or_none(root, "merge-base", "--is-ancestor", latest.commit, "HEAD") is None
        unknown = apart and bool(examine(cached_object(root, digest), digest))  # Git fetched its name without its files
        missing = set() if unknown else set(read_listing(root, digest)) - set(collected_parts(root, output))
        lost = [one for one in missing if one.md5 not in removed.get(str(output), ())]
        if lost or unknown:
            why = "that version belongs to another history" if apart else "an older version is checked out"
            back = "affectlake restore` (edits are moved to quarantine)"
            if name != known[-1].name:
                back = f"affectlake checkout {name}`"
            raise LakeError(
                f"the folder lacks rows of {output} that {name} has",
                found=f"{len(lost) or 'some'} of its parts are missing: {why}",
                todo="join the two with `affectlake join`, then do this again"
                if apart
                else f"restore them with `{back}, then do this again",
            )


def _listing(listed: Iterable[Listed]) -> tuple[bytes, str]:
    """Return the listing that DVC writes for a folder, and its hash."""
    entries = [{"md5": one.md5, "relpath": one.relpath} for one in sorted(listed)]
    content = json.dumps(entries, sort_keys=True).encode()
    return content, hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"
