"""Listings: the files of a folder, as DVC writes them. Checked strictly, because a listing may come from a remote."""

from __future__ import annotations

import json
from typing import NamedTuple

from affectlake.errors import LakeError
from affectlake.lake.files.names import is_digest, is_file_name


class Listed(NamedTuple):
    """One entry of a listing: a file's path within the output's folder, and its MD5."""

    relpath: str
    md5: str


def parse_listing(content: bytes, digest: str, *, nested: bool = False) -> list[Listed]:
    """Return the entries of a listing, sorted by path.

    Parameters
    ----------
    content : bytes
        Content of the listing.
    digest : str
        Hash of the listing, for messages.
    nested : bool
        Whether files may be in subfolders, which is legal for outputs that are not tables.

    Raises
    ------
    LakeError
        If it is not a listing, or if an entry is a path outside its folder or has an invalid hash.
    """
    try:
        found = [Listed(entry["relpath"], entry["md5"]) for entry in json.loads(content)]
    except (ValueError, TypeError, KeyError) as error:
        raise _refused(digest, f"{type(error).__name__}: {error}") from error
    for one in found:
        if not is_digest(one.md5) or one.md5.endswith(".dir"):
            raise _refused(digest, f"{one.relpath!r} with the hash {one.md5!r}")
        if not (isinstance(one.relpath, str) if nested else is_file_name(one.relpath)):
            raise _refused(digest, f"the path {one.relpath!r}")
    return sorted(found)


def _refused(digest: str, found: str) -> LakeError:
    return LakeError(
        f"{digest} is not the listing of a table; nothing was written or removed",
        wanted="plain file names, each with the MD5 of its content",
        found=found,
        todo="ask whoever published the version that refers to it; other versions can be read",
    )
