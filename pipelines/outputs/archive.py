"""An archive of a version for repositories such as Zenodo and OSF: one ZIP file that explains itself.

It has the tables as Parquet files, ``params.yaml`` and protocols, a README, a data dictionary, ``CITATION.cff``,
RO-Crate metadata, SQL of views, and SHA-256 checksums. Tables that may not be republished are left out
(:mod:`affectlake.pipelines.outputs.restricted`). :mod:`affectlake.lake.archived` opens it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from affectlake.errors import UsageError
from affectlake.lake.archived import CHECKSUMS, CONTENTS, FORMAT
from affectlake.lake.browsing import tables_of
from affectlake.lake.cite import cite
from affectlake.lake.files import layout
from affectlake.lake.files.git import git_bytes
from affectlake.lake.store.git_objects import blobs, read_blobs
from affectlake.lake.store.known_hashes import whole_files
from affectlake.lake.store.versions import Manifest, Version
from affectlake.lake.tables.contracts import contracts
from affectlake.lake.tables.dictionary import render_tables
from affectlake.lake.view_file import view_sql
from affectlake.pipelines.outputs.citations import bibtex, cff
from affectlake.pipelines.outputs.crate import FILE, Packed, crate
from affectlake.pipelines.outputs.restricted import Restricted, restricted
from affectlake.pipelines.params.about import Described, described
from affectlake.pipelines.params.record import StudyRecord, record_at

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP file can state
_READ_BYTES = 1 << 20


class Member(NamedTuple):
    """A file to pack: its path in the archive, its content or the file that has it, and what it is."""

    path: str
    content: bytes | Path
    what: str


class _Plan(NamedTuple):
    """What an archive is made of: a version, its parameters, and what is left out or kept although restricted."""

    lake: Path
    version: Version
    record: StudyRecord
    about: Described
    left_out: Mapping[str, Restricted]
    is_private: bool


def write_archive(lake: Path, version: Version, target: Path, *, for_myself: bool = False) -> list[Restricted]:
    """Write the archive of a version; the same version, parameters and code give the same bytes.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    version : Version
        The version.
    target : Path
        Path of the file, which ends in ``.zip`` and does not exist.
    for_myself : bool
        Whether to include what may not be republished.

    Returns
    -------
    list of Restricted
        The tables that are left out, or of which columns are.

    Raises
    ------
    UsageError
        If `target` exists or does not end in ``.zip``, or its folder does not exist.
    """
    if target.suffix != ".zip":
        raise UsageError(f"{target.name} does not end in .zip", todo=f"name it {target.stem or 'archive'}.zip")
    if target.exists():
        raise UsageError(f"{target} exists already", todo="remove it, or choose another name")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {target.absolute().parent}", todo="make it first")
    unshareable = restricted(lake, version)
    left_out = {} if for_myself else unshareable
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}-") as folder:
        record = record_at(lake, version)
        plan = _Plan(lake, version, record, described(record.raw), left_out, for_myself and bool(unshareable))
        tables = list(_tables(plan, Path(folder)))
        whole = Path(folder) / "archive.zip"
        _pack(whole, plan, [*_documents(plan, tables), *tables])
        os.link(whole, target)  # fails if it was made meanwhile
    return list(left_out.values())


def _tables(plan: _Plan, folder: Path) -> Iterator[Member]:
    """Yield the parts of the tables; those without columns that are left out are written to a folder."""
    import pyarrow.parquet as pq

    manifest, known = Manifest(plan.lake, plan.version.commit), contracts()
    for table, outputs in manifest.tables().items():
        hidden = plan.left_out.get(table)
        if hidden and hidden.is_whole:
            continue
        what = known[table].grain if table in known else f"rows of {table}"
        for file in whole_files(manifest, *outputs):
            path = f"tables/{file.path.relative_to(layout.TABLES).as_posix()}"
            content = file.cached
            if hidden:
                rows = pq.read_table(file.cached, partitioning=None)
                content = folder / path
                content.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(rows.drop_columns([c for c in hidden.columns if c in rows.column_names]), content)
            yield Member(path, content, what)


def _documents(plan: _Plan, tables: Sequence[Member]) -> Iterator[Member]:
    lake, version = plan.lake, plan.version
    params = git_bytes(lake, "cat-file", "blob", f"{version.commit}:./{layout.PARAMS}")
    yield Member("README.md", _readme(plan).encode(), "what this archive is")
    yield Member("CITATION.cff", cff(plan.about, version=version).encode(), "how to cite it")
    yield Member(str(layout.PARAMS), params, "the parameters of the study")
    found = blobs(lake, version.commit, [str(layout.PROTOCOLS)])
    for (path, _), content in zip(found, read_blobs(lake, [blob for _, blob in found]), strict=True):
        yield Member(path, content, "a protocol: the wording of questions")
    dictionary = render_tables([name for name in _by_table(tables) if name in contracts()])
    yield Member("data-dictionary.md", dictionary.encode(), "the meaning of each table and column")
    yield Member("views.sql", view_sql(_by_table(tables)).encode(), "the tables as views, for DuckDB")
    contents = {
        "format": FORMAT,
        "version": version._asdict(),
        "tables": [one.path for one in tables],
        "left_out": {name: list(one.columns) for name, one in plan.left_out.items()},
    }
    yield Member(CONTENTS, (json.dumps(contents, indent=1) + "\n").encode(), "the content, for `affectlake open`")


def _by_table(tables: Sequence[Member]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in sorted(tables, key=lambda one: one.path):
        found.setdefault(one.path.split("/")[1], []).append(one.path)
    return found


def _readme(plan: _Plan) -> str:
    version, about = plan.version, plan.about
    lines = [f"# {about.title}, version {version.name}", ""]
    lines += [about.description, ""] if about.description else []
    if plan.is_private:
        lines += ["**For your own use: this archive contains content that may not be republished.**", ""]
    lines += [
        f"Published {version.created} by {', '.join(about.creators) or version.author}, made with affectlake "
        f"{version.code_version}.",
        "",
        f"Licence of the content: {about.licence or 'not stated by its authors'}.",
        "",
        "## Files",
        "",
        "| path | content |",
        "|---|---|",
        "| `tables/TABLE/…/part-*.parquet` | the tables below |",
        "| `data-dictionary.md` | meaning, unit and values of each column |",
        "| `params.yaml`, `protocols/` | parameters of the study |",
        "| `views.sql` | the tables as views, for DuckDB |",
        "| `CITATION.cff`, `ro-crate-metadata.json` | metadata for programs |",
        f"| `{CHECKSUMS}` | checksums of all other files: `sha256sum -c {CHECKSUMS}` |",
        "",
        "| table | rows | one row is |",
        "|---|---|---|",
        *(
            f"| `{one.table}` | {one.n_rows:,} | {one.grain.removeprefix('one row per ')} |"
            for one in tables_of(plan.lake, version)
            if not (one.table in plan.left_out and plan.left_out[one.table].is_whole)
        ),
        "",
    ]
    if plan.left_out:
        lines += ["## Left out", "", "The terms of the sources do not allow to republish this content:", ""]
        lines += [f"- {one}" for one in plan.left_out.values()]
        lines += ["", "What was computed from it is in the other tables.", ""]
    lines += [
        "## Open it",
        "",
        'With affectlake: `affectlake open FILE.zip FOLDER`, then `affectlake query "SELECT …" --lake FOLDER`; or in '
        'Python `affectlake.open("FILE.zip").table("choices")`.',
        "",
        "Without it, unpack the file first:",
        "",
        "- DuckDB, in the unpacked folder: `duckdb -init views.sql`, then `SELECT * FROM metrics;`, or "
        "`SELECT * FROM read_parquet('tables/metrics/**/*.parquet');`",
        '- Python: `pandas.read_parquet("tables/metrics")`',
        '- R: `arrow::open_dataset("tables/metrics")`',
        "",
        "## Cite it",
        "",
        "```bibtex",
        bibtex(version, about),
        "```",
        "",
        "```text",
        cite(plan.lake, version, plan.record.text("sources.kind")),
        "```",
        "",
    ]
    return "\n".join(lines)


def _pack(target: Path, plan: _Plan, members: Sequence[Member]) -> None:
    """Write the archive: members in the order of their paths, uncompressed, with one fixed time."""
    packed = [_packed(one) for one in sorted(members, key=lambda one: one.path)]
    metadata = Member(FILE, crate(plan.version, plan.about, packed).encode(), "metadata")
    listed = sorted([*packed, _packed(metadata)])
    sums = Member(CHECKSUMS, "".join(f"{one.sha256}  {one.path}\n" for one in listed).encode(), "checksums")
    with ZipFile(target, "x", ZIP_STORED) as archive:
        for member in sorted([*members, metadata, sums], key=lambda one: one.path):
            info = ZipInfo(member.path, _EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            info.file_size = _size(member.content)
            with archive.open(info, "w") as sink:
                if isinstance(member.content, Path):
                    with member.content.open("rb") as source:
                        shutil.copyfileobj(source, sink, _READ_BYTES)
                else:
                    sink.write(member.content)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _packed(member: Member) -> Packed:
    if isinstance(member.content, bytes):
        return Packed(member.path, _size(member.content), hashlib.sha256(member.content).hexdigest(), member.what)
    with member.content.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    return Packed(member.path, _size(member.content), digest, member.what)
