"""The media of the offer, by their SHA-256. No other file can be asked for, and a changed file is not served."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from affectlake.experiment.offer import MediaFile

_FOREVER = "private, max-age=31536000, immutable"
_ENDINGS = {"video/mp4": "mp4", "video/webm": "webm", "audio/mpeg": "mp3", "audio/wav": "wav", "image/jpeg": "jpg"}


class Media:
    """The media of an offer.

    Parameters
    ----------
    files : iterable of MediaFile or None
        The files.
    """

    def __init__(self, files: Iterable[MediaFile | None]) -> None:
        self._files = {self.name(one): one for one in files if one is not None}
        self._seen: dict[str, tuple[int, ...]] = {}

    @staticmethod
    def name(file: MediaFile) -> str:
        """Return the name by which a file is asked for."""
        ending = _ENDINGS.get(file.type) or (mimetypes.guess_extension(file.type) or ".bin").lstrip(".")
        return f"{file.sha256}.{ending}"

    async def response(self, name: str) -> Response | None:
        """Return the file with a name, or the part that the request's ``Range`` names; None if there is none.

        A file that is not a regular one, or has another size or SHA-256 than in the offer, is not served.
        """
        file = self._files.get(name)
        if file is None:
            return None
        found = await run_in_threadpool(self._checked, name, file)
        if found is None:
            return None
        headers = {"Cache-Control": _FOREVER, "ETag": f'"{file.sha256}"'}
        return FileResponse(file.path, headers=headers, media_type=file.type, stat_result=found)

    def _checked(self, name: str, file: MediaFile) -> os.stat_result | None:
        try:
            found = file.path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
                return None
            mark = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if self._seen.get(name) != mark:
                if _sha256(file.path) != file.sha256:
                    return None
                self._seen[name] = mark
        except OSError:
            return None
        return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
