"""Download of published recordings: interrupted downloads are resumed, and every file is verified.

A file is downloaded to ``NAME.part`` and renamed only after its md5 was verified.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from affectlake.errors import SourceError

_PIECE = 1 << 20
_TOLD = 50 << 20  # bytes between two lines of progress
_ATTEMPTS = 5
_TIMEOUT_S = 60.0


class Remote(NamedTuple):
    """A file to fetch: its local name, its URL, and the md5 of its bytes."""

    name: str
    url: str
    md5: str


_FIGSHARE = "https://figshare.com/ndownloader/files"

COLLECTIONS: dict[str, tuple[Remote, ...]] = {
    "horikawa2020": tuple(
        Remote(f"fmri_Subject{number}.h5", f"{_FIGSHARE}/{file}", md5)
        for number, (file, md5) in enumerate(
            (
                (48467059, "cec485616532d5de548c9341b06ec270"),
                (48468622, "6b4baa73fbe24eea1cbb7bb6e4cb6d5a"),
                (48469468, "c1f92231f0c76e26f06b7f52f2cf9f4d"),
                (48471127, "3c2cb332dec0797f1c82b864cf6aa1a9"),
                (48472147, "defb2e73c2302648d8065aeae7a0c0bf"),
            ),
            start=1,
        )
    ),
}
"""The published recordings: five subjects of Horikawa et al. 2020 (figshare, article 26633035)."""


def fetch(remote: Remote, folder: Path, say: Callable[[str], None]) -> Path:
    """Download a file to `folder`, resuming an earlier download, and return its path.

    Parameters
    ----------
    remote : Remote
    folder : Path
        Created if it does not exist.
    say : callable
        Called with each line of progress.

    Raises
    ------
    SourceError
        If the file exists with another md5, cannot be reached, or is received with another md5 (it is then removed).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / remote.name, folder / f"{remote.name}.part"
    if path.exists():
        if _md5(path) == remote.md5:
            say(f"{path} exists and is complete")
            return path
        raise SourceError(
            f"{path} is not the published file", wanted=f"md5 {remote.md5}", found=_md5(path), todo=f"move {path} away"
        )
    _arrive(remote, part, say)
    found = _md5(part)
    if found != remote.md5:
        part.unlink()
        raise SourceError(
            f"{remote.url} did not return the published file; the download was removed",
            wanted=f"md5 {remote.md5}",
            found=found,
            todo="try again",
        )
    part.replace(path)
    say(f"fetched {path}")
    return path


def _arrive(remote: Remote, part: Path, say: Callable[[str], None]) -> None:
    """Download to `part` until it is complete, resuming interrupted transfers as long as they make progress."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _stream(remote, part, before, say):
                return
            reason = "the connection was closed early"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # the download is complete
                return
            reason = str(error)
        grew = part.exists() and part.stat().st_size > before
        failures = 0 if grew else failures + 1
        if failures >= _ATTEMPTS:
            raise SourceError(
                f"{remote.url} cannot be fetched",
                found=f"{reason}; {before:,} bytes are kept in {part}",
                todo="run the command again when the network is available; the download resumes",
            )
        say(f"{remote.name}: {reason}; resuming")


def _stream(remote: Remote, part: Path, start: int, say: Callable[[str], None]) -> bool:
    """Append the bytes from `start` on to `part`; return whether all of them were received."""
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        goes_on = answer.status == 206
        left = answer.headers.get("Content-Length")
        done = start if goes_on else 0
        total = None if left is None else done + int(left)
        with part.open("ab" if goes_on else "wb") as file:
            while piece := answer.read(_PIECE):
                file.write(piece)
                done += len(piece)
                if done // _TOLD > (done - len(piece)) // _TOLD:
                    say(f"{remote.name}: {done / 1e6:,.0f} MB" + (f" of {total / 1e6:,.0f}" if total else ""))
    return total is None or done >= total


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
