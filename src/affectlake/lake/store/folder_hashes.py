"""The hashes of files and folders as they are now, by which ``dvc.lock`` records inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from affectlake.lake.files.names import own_path
from affectlake.lake.store.cache import Listed, listing_digest
from affectlake.lake.store.known_hashes import known_md5s


def folder_hashes(lake: Path, folders: Iterable[str]) -> dict[str, str]:
    """Return the hash of the listing of each folder of a table that exists, by its path in the lake.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    folders : iterable of str
        Paths of the folders, relative to the lake.
    """
    places = {folder: own_path(lake, Path(folder)) for folder in folders}
    files = {
        folder: sorted(path for path in place.rglob("*") if not path.is_dir())
        for folder, place in places.items()
        if place.is_dir()
    }
    known = iter(known_md5s(lake, [path for some in files.values() for path in some]))
    return {
        folder: listing_digest(Listed(path.relative_to(places[folder]).as_posix(), next(known)) for path in some)
        for folder, some in files.items()
    }


def file_hashes(lake: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the MD5 of each file that exists, by its path, which is absolute or relative to the lake."""
    there = [path for path in files if (lake / path).is_file()]
    return dict(zip(there, known_md5s(lake, [lake / path for path in there]), strict=True))
