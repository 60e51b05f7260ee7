"""Open an archive of a version: a ZIP file of ``affectlake archive`` becomes a lake with this one version, for reading.

Every file is checked against the checksums in the archive before anything is written. The commit of the version in the
new lake is another one than in the lake that it comes from; author, time and message are the same.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile, is_zipfile

import yaml

from affectlake.errors import LakeError, UsageError
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.git import git
from affectlake.lake.files.names import is_file_name
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.tags import TAGS, is_version_name
from affectlake.lake.store.versions import (
    CODE_TRAILER,
    ENVIRONMENT_TRAILER,
    STEPS_TRAILER,
    Version,
    cached_object,
    resolve,
)

CONTENTS, CHECKSUMS, FORMAT = "affectlake-archive.json", "SHA256SUMS", 1
_STAGE = "archive"
_READ_BYTES = 1 << 20


class Opened(NamedTuple):
    """A lake that was made of an archive.

    Attributes
    ----------
    root : Path
        Root of the lake.
    version : Version
        Its version.
    left_out : mapping of str to list of str
        Columns that the archive lacks because they may not be republished, by table.
    """

    root: Path
    version: Version
    left_out: Mapping[str, list[str]]


def temporary_lake(path: Path) -> Path:
    """Open an archive in a temporary folder, which is removed when the process ends, and return the lake's root."""
    folder = Path(tempfile.mkdtemp(prefix="affectlake-archive-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return open_archive(path, folder / "lake").root


def open_archive(path: Path, root: Path) -> Opened:
    """Make a lake of an archive in the empty or missing folder `root`.

    Raises
    ------
    UsageError
        If the file is not an archive, or is of a later format.
    LakeError
        If its content differs from its checksums, or `root` is not empty.
    """
    if not (path.is_file() and is_zipfile(path)):
        what = "there is no file" if not path.exists() else "this is not a ZIP file:"
        raise UsageError(f"{what} {path}", wanted="a file that `affectlake archive` wrote")
    try:
        with ZipFile(path) as archive:
            contents = _contents(path, archive)
            _refuse_changed(path, archive)
            return _lake_of(path, archive, contents, root)
    except BadZipFile as error:
        raise _damaged(path, str(error)) from error


def _contents(path: Path, archive: ZipFile) -> Mapping[str, Any]:
    names = archive.namelist()
    if CONTENTS not in names or CHECKSUMS not in names:
        todo = "" if CONTENTS not in names else "download it again"
        raise UsageError(
            f"{path.name} is not an archive of a lake", wanted=f"{CONTENTS} and {CHECKSUMS} in it", todo=todo
        )
    try:
        found: dict[str, Any] = json.loads(archive.read(CONTENTS))
        if found["format"] != FORMAT:
            raise UsageError(
                f"{path.name} has a format that this affectlake does not support",
                wanted=f"format {FORMAT}",
                found=str(found["format"]),
                todo="install the latest affectlake; the Parquet files in it can be read without",
            )
        version = Version(**found["version"])
        outputs = [_output(name) for name in found["tables"]]
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path, f"{CONTENTS}: {error}") from error
    if not (is_version_name(version.name) and all(one.is_legal for one in outputs)):
        raise _damaged(path, f"{CONTENTS} has names that are not valid")
    return found


def _output(name: str) -> Output:
    """Return the output of a part, ``tables/TABLE/part`` or ``tables/TABLE/PARTITION/part``."""
    first, *middle, last = name.split("/")
    if first != "tables" or not is_file_name(last):
        raise ValueError(f"{name!r} is not a part of a table")
    return Output.named("/".join(middle))


def _refuse_changed(path: Path, archive: ZipFile) -> None:
    """Raise if a file is missing, was added, or differs from its checksum."""
    lines = archive.read(CHECKSUMS).decode().splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    here = [name for name in archive.namelist() if name != CHECKSUMS]
    if sorted(here) != sorted(listed):
        odd = sorted(set(here) ^ set(listed)) or ["files that occur twice"]
        raise _damaged(path, f"{odd[0]} is not both in the archive and in {CHECKSUMS}")
    for name in here:
        with archive.open(name) as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != listed[name]:  # type: ignore[arg-type]
                raise _damaged(path, f"{name} differs from its checksum")


def _lake_of(path: Path, archive: ZipFile, contents: Mapping[str, Any], root: Path) -> Opened:
    repository.init(root, archive.read(str(layout.PARAMS)).decode())
    parts: dict[Output, list[dict[str, str]]] = {}
    for name in contents["tables"]:
        md5 = _store(archive, name, root)
        parts.setdefault(_output(name), []).append({"md5": md5, "relpath": name.rpartition("/")[2]})
    outs = []
    for output, listed in sorted(parts.items()):
        listing = json.dumps(sorted(listed, key=lambda one: one["relpath"])).encode()
        digest = f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"
        _write_object(root, digest, listing)
        outs.append({"path": str(output.folder), "hash": "md5", "md5": digest, "nfiles": len(listed)})
    stages = {_STAGE: {"cmd": f"affectlake open {path.name}", "outs": outs}}
    (root / layout.PIPELINE_LOCK).write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
    for name in archive.namelist():
        folder, _, last = name.rpartition("/")
        if folder == str(layout.PROTOCOLS) and is_file_name(last):
            (root / folder).mkdir(exist_ok=True)
            (root / name).write_bytes(archive.read(name))
    _commit(root, Version(**contents["version"]))
    return Opened(root, resolve(root, contents["version"]["name"]), contents.get("left_out", {}))


def _store(archive: ZipFile, name: str, root: Path) -> str:
    """Write a part to the cache of the lake, and return its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    aside = root / layout.STAGING / "part"
    aside.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, aside.open("wb") as sink:
        while block := source.read(_READ_BYTES):
            digest.update(block)
            sink.write(block)
    target = cached_object(root, digest.hexdigest())
    target.parent.mkdir(parents=True, exist_ok=True)
    aside.chmod(0o444)
    aside.replace(target)
    return digest.hexdigest()


def _write_object(root: Path, digest: str, content: bytes) -> None:
    target = cached_object(root, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(0o444)


def _commit(root: Path, version: Version) -> None:
    lines = [f"{version.name}: opened from an archive of {version.commit}", ""]
    lines += [f"  {change}" for change in version.changes.split("; ")]
    trailers = {CODE_TRAILER: version.code_version, STEPS_TRAILER: version.steps,
                ENVIRONMENT_TRAILER: version.environment}  # fmt: skip
    lines += ["", *(f"{name}: {value}" for name, value in trailers.items() if value)]
    env = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER")
           for field, value in {"NAME": version.author or "unknown", "EMAIL": "unknown",
                                "DATE": version.created}.items()}  # fmt: skip
    git(root, "add", "--all", ".")
    git(root, "commit", "--quiet", "--file=-", stdin="\n".join(lines) + "\n", env=env)
    git(root, "update-ref", f"{TAGS}{version.name}", "HEAD")


def _damaged(path: Path, found: str) -> LakeError:
    return LakeError(f"{path.name} is damaged", found=found, todo="download it again; nothing was written")
