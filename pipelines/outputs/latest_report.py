"""The report of the latest version, written only if it is missing or out of date."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

from affectlake.lake.files import layout
from affectlake.lake.files.atomic import write_whole
from affectlake.lake.files.names import own_path
from affectlake.lake.store.versions import Version
from affectlake.pipelines.outputs.report import write_report
from affectlake.pipelines.outputs.restricted import restricted

_NOTES = layout.SCRATCH / "reports"


def latest_report(lake: Path, version: Version) -> Path:
    """Return the path of a version's HTML report; write the report first unless it is up to date.

    A report is up to date if it is unchanged since this code wrote it for this commit, with the same content left out
    because it may not be republished.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    version : Version
        The version.
    """
    path = lake / layout.REPORTS / f"{version.name}.html"
    note = own_path(lake, _NOTES / f"{version.name}.json")
    left_out = "; ".join(map(str, restricted(lake, version).values()))
    if not _is_as_noted(path, note, version, left_out):
        write_report(lake, version.name)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps(_facts(path, version, left_out)).encode())
    return path


def _is_as_noted(path: Path, note: Path, version: Version, left_out: str) -> bool:
    try:
        return bool(json.loads(note.read_text(encoding="utf-8")) == _facts(path, version, left_out))
    except (OSError, ValueError):
        return False


def _facts(path: Path, version: Version, left_out: str) -> dict[str, str]:
    page = sha256(path.read_bytes()).hexdigest()
    return {"commit": version.commit, "code": _code(), "left_out": left_out, "page": page}


def _code() -> str:
    """Return a hash of every file of this package: its programs, templates and schemas."""
    import affectlake

    digest, root = sha256(), str(Path(affectlake.__file__).parent)
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            path = Path(folder, name)
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()
