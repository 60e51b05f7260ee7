"""Append rows to collected outputs, as new parts: existing parts are not read, hashed or written again.

Rows that are not made by a step, such as the answers of served models, are collected. DVC tracks such an output by a
pointer, ``storage/collected/OUTPUT.dvc``, which names a listing of the parts; both are as DVC would write them, so that
``dvc status``, ``dvc checkout`` and stages that read the output work as for any data file.

The order of an append makes a crash harmless: new parts and their listing are added to the cache, then the pointer is
replaced atomically, then the parts are placed in the folder. After a crash :func:`place_appended` places them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import yaml

from affectlake.errors import UsageError
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import clone, md5_of, sync_folder, write_whole
from affectlake.lake.files.checksums import examine
from affectlake.lake.files.names import own_path
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import Listed, collected_parts, keep_file, keep_listing, refuse_behind
from affectlake.lake.store.unrecorded import mark_unrecorded, marked, unmark
from affectlake.lake.store.versions import Manifest, cached_object
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.parts import scan_grown, write_parts
from affectlake.lake.tables.removing import without
from affectlake.lake.tables.writing import Staged, refuse_broken


def append(lake: Path, output: Output, frame: pl.DataFrame, others: Mapping[str, pl.LazyFrame]) -> list[str]:
    """Add rows to a collected output as new parts; the caller holds the writer lock.

    Parameters
    ----------
    lake : Path
        Root of the lake.
    output : Output
        The output, such as the responses of an agent.
    frame : polars.DataFrame
        The new rows. None of their keys may be in the output already. Those of forgotten participants are left out
        (:mod:`affectlake.lake.store.forgotten`).
    others : mapping of str to polars.LazyFrame
        Tables that are referred to.

    Returns
    -------
    list of str
        The paths of the new parts within the lake, in order; empty if there are no rows.

    Raises
    ------
    ContractError
        If the rows break the contract. They are then in quarantine with a report of what broke.
    UsageError
        If the output is made by a step.
    LakeError
        If the folder lacks rows of the latest version, because an older one was checked out.
    """
    if output in Manifest(lake, "").made:
        raise UsageError(
            f"{output} is made by a step, so rows cannot be added to it", todo="change the step or its inputs"
        )
    place_appended(lake)
    refuse_behind(lake)
    table = contract(output.table)
    frame = without(lake, output, frame)
    if frame.is_empty():
        return []
    existing = collected_parts(lake, output)
    folder = own_path(lake, output.folder)
    aside = own_path(lake, layout.STAGING / "append" / output.path)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        new = write_parts(frame, table, aside, first=len(existing))
        earlier = scan_grown([folder / one.relpath for one in existing], table.name) if existing else None
        refuse_broken(lake, f"append-{output}".replace("/", "-"), [Staged(output, table, new)], others, earlier)
        listed = [Listed(path.name, md5_of(path)) for path in new]
        for path, one in zip(new, listed, strict=True):
            keep_file(lake, path, one.md5)
        _point(lake, output, existing + listed)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _place(lake, output, listed)
    return [str(output.folder / one.relpath) for one in listed]


def next_part(lake: Path, output: Output) -> int:
    """Return the number that the next part of a collected output will have."""
    return len(collected_parts(lake, output))


def place_appended(lake: Path) -> None:
    """Place the parts that pointers name and that an interrupted append or removal did not place."""
    for output in marked(lake):
        if (lake / output.pointer).exists():
            folder = lake / output.folder
            missing = [one for one in collected_parts(lake, output) if examine(folder / one.relpath, one.md5)]
            _place(lake, output, missing)


def point_and_place(lake: Path, output: Output, listed: list[Listed], changed: list[Listed]) -> None:
    """Make a collected output consist of the parts `listed`, which the cache has, and place those that `changed`."""
    _point(lake, output, listed)
    _place(lake, output, changed)


def _point(lake: Path, output: Output, listed: list[Listed]) -> None:
    """Write a listing to the cache and make the output's pointer name it."""
    digest = keep_listing(lake, listed)
    path = output.pointer
    mark_unrecorded(lake, output)
    write_whole(own_path(lake, path.parent) / path.name, pointer_text(output, digest, len(listed)).encode())


def pointer_text(output: Output, digest: str, n_parts: int) -> str:
    """Return the text of an output's pointer, as DVC would write it, for a listing of `n_parts` parts."""
    path, folder = output.pointer, output.folder
    up = "/".join([".."] * len(path.parent.parts))
    entry = {"md5": digest, "nfiles": n_parts, "hash": "md5", "path": folder.name}
    return yaml.safe_dump({"outs": [entry], "wdir": f"{up}/{folder.parent}"}, sort_keys=False)


def _place(lake: Path, output: Output, listed: list[Listed]) -> None:
    """Copy parts from the cache into the output's folder, each by rename."""
    folder = own_path(lake, output.folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = own_path(lake, layout.STAGING / "append" / "place")
    aside.mkdir(parents=True, exist_ok=True)
    for one in listed:
        clone(cached_object(lake, one.md5), aside / one.relpath)
        (aside / one.relpath).rename(folder / one.relpath)
    sync_folder(folder)
    unmark(lake, output)
