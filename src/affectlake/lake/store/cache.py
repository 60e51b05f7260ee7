"""Objects in DVC's cache: putting parts and listings there, and making sure of them before a version names them.

DVC takes an object that exists for a whole one. After a power failure it may not be, so what is new is hashed here.
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
from affectlake.lake.store.listings import Listed as Listed  # noqa: PLC0414 (asked for here)
from affectlake.lake.store.listings import parse_listing
from affectlake.lake.store.versions import Manifest, cached_object, last_sound, list_versions


def read_listing(root: Path, digest: str) -> list[Listed]:
    """Return what the listing `digest` names.

    Raises
    ------
    LakeError
        If the listing is missing or damaged, or not one of a table.
    """
    path = cached_object(root, digest)
    state = examine(path, digest)
    if state:
        raise LakeError(
            f"the listing {digest} is {state}",
            found=str(path),
            todo="mend it with `affectlake fsck --repair` or `affectlake pull`",
        )
    return parse_listing(path.read_bytes(), digest)


def keep_file(root: Path, source: Path, md5: str) -> None:
    """Put a copy of `source`, whose hash is `md5`, into the cache; a whole one that is there already stays."""
    target = cached_object(root, md5)
    if examine(target, md5) is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.new")
    clone(source, aside)
    aside.replace(target)
    sync_folder(target.parent)


def keep_listing(root: Path, listed: Iterable[Listed]) -> str:
    """Put a listing into the cache, in DVC's own form, and return its hash."""
    content, digest = _listing(listed)
    if examine(cached_object(root, digest), digest):
        write_whole(cached_object(root, digest), content, 0o444)
    return digest


def secure(root: Path, output: Output, digest: str, known: Collection[str]) -> None:
    """Make sure that an output's objects are whole and flushed to the disk; mend them from the working tables.

    Parameters
    ----------
    root : Path
        Root of the lake.
    output : Output
        The output.
    digest : str
        Hash of its listing.
    known : collection of str
        Hashes that an earlier version names: they were made sure of then.

    Raises
    ------
    LakeError
        If an object is missing or damaged, and the working tables are not what it should be.
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
                    f"{output}/{one.relpath} is {state} in the cache, and the working table is no copy of it",
                    todo="run `affectlake run`: it makes the table again",
                )
            keep_file(root, folder / one.relpath, one.md5)
        places.add(cached_object(root, one.md5))
    for path in places:
        sync_file(path)
    for parent in {path.parent for path in places}:
        sync_folder(parent)


def listing_digest(listed: Iterable[Listed]) -> str:
    """Return the name that DVC gives to a folder of such files."""
    return _listing(listed)[1]


def collected_parts(root: Path, output: Output) -> list[Listed]:
    """Return the parts that the pointer of a collected output names; none where it has no pointer."""
    stands = (root / output.pointer).exists()
    return read_listing(root, Manifest(root, "").collected[output]) if stands else []


def refuse_behind(root: Path) -> None:
    """Raise :class:`LakeError` if the latest version has collected rows that the folder does not have.

    What was collected cannot be made again, so no version drops it: after the checkout of an older version nothing is
    collected or published until the latest is back.
    """
    known = list_versions(root)
    latest, now = last_sound(root, known), Manifest(root, "")
    if latest is None:
        return
    name = next(version.name for version in known if version.commit == latest.commit)
    for output in latest.collected:
        digest = latest.digests[output]
        if now.digests.get(output) == digest:
            continue
        apart = git_or_none(root, "merge-base", "--is-ancestor", latest.commit, "HEAD") is None
        unknown = apart and bool(examine(cached_object(root, digest), digest))  # Git brought its name and no files
        lost = [] if unknown else set(read_listing(root, digest)) - set(collected_parts(root, output))
        if lost or unknown:
            why = "that version is of another history" if apart else "an older version is checked out"
            back = "affectlake restore` (edits are kept aside)"
            if name != known[-1].name:
                back = f"affectlake checkout {name}`"
            raise LakeError(
                f"the folder lacks rows of {output} that {name} has",
                found=f"{len(lost) or 'some'} of its parts are not there: {why}",
                todo="unite the two with `affectlake join`, then do this again"
                if apart
                else f"bring them back with `{back}, then do this again",
            )


def _listing(listed: Iterable[Listed]) -> tuple[bytes, str]:
    """Return the bytes that DVC writes for a folder, and the name it gives them."""
    entries = [{"md5": one.md5, "relpath": one.relpath} for one in sorted(listed)]
    content = json.dumps(entries, sort_keys=True).encode()
    return content, hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"
