"""Outputs that grow: rows come in as new parts, and nothing that stood there is read again, hashed or written.

What no step makes, such as the answers of served models, is collected. DVC keeps such an output by a pointer,
``storage/collected/OUTPUT.dvc``, which names a listing of the parts; both are what DVC itself would write, so that
``dvc status``, ``dvc checkout`` and stages that read the output work as for any data file.

The order of an append makes a crash harmless: new parts and their listing go into the cache, then the pointer moves in
one step, then the parts are placed in the folder. After a crash :func:`settle` places what the pointer names.
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
from affectlake.lake.files.names import own_path
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import Listed, collected_parts, keep_file, keep_listing, refuse_behind
from affectlake.lake.store.unrecorded import mark_unrecorded, marked, unmark
from affectlake.lake.store.versions import Manifest, cached_object
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.parts import scan_grown, write_parts
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
        The new rows. None of their keys may stand in the output already.
    others : mapping of str to polars.LazyFrame
        Tables that references point at.

    Returns
    -------
    list of str
        The paths of the new parts within the lake, in order; none if there are no rows.

    Raises
    ------
    ContractError
        If the rows break the contract. They are then in quarantine with an account of what broke.
    UsageError
        If a step makes the output.
    LakeError
        If the folder does not hold all rows of the latest version, because an older one was checked out.
    """
    if output in Manifest(lake, "").made:
        raise UsageError(f"{output} is made by a step, so nothing can be added to it", todo="change what makes it")
    settle(lake)
    refuse_behind(lake)
    if frame.is_empty():
        return []
    table = contract(output.table)
    stood = collected_parts(lake, output)
    folder = own_path(lake, output.folder)
    aside = own_path(lake, layout.STAGING / "append" / output.path)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        new = write_parts(frame, table, aside, first=len(stood))
        earlier = scan_grown([folder / one.relpath for one in stood], table.name) if stood else None
        refuse_broken(lake, f"append-{output}".replace("/", "-"), [Staged(output, table, new)], others, earlier)
        listed = [Listed(path.name, md5_of(path)) for path in new]
        for path, one in zip(new, listed, strict=True):
            keep_file(lake, path, one.md5)
        _point(lake, output, stood + listed)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _place(lake, output, listed)
    return [str(output.folder / one.relpath) for one in listed]


def next_part(lake: Path, output: Output) -> int:
    """Return the number that the next part of a collected output will have."""
    return len(collected_parts(lake, output))


def settle(lake: Path) -> None:
    """Place the parts that a pointer names and that an append cut off did not place."""
    for output in marked(lake):
        if (lake / output.pointer).exists():
            folder = lake / output.folder
            _place(lake, output, [one for one in collected_parts(lake, output) if not (folder / one.relpath).exists()])


def _point(lake: Path, output: Output, listed: list[Listed]) -> None:
    """Keep a listing in the cache and let the output's pointer name it."""
    digest = keep_listing(lake, listed)
    path = output.pointer
    mark_unrecorded(lake, output)
    write_whole(own_path(lake, path.parent) / path.name, pointer_text(output, digest, len(listed)).encode())


def pointer_text(output: Output, digest: str, n_parts: int) -> str:
    """Return what the pointer of an output holds, as DVC would write it, when it names a listing of so many parts."""
    path, folder = output.pointer, output.folder
    up = "/".join([".."] * len(path.parent.parts))
    entry = {"md5": digest, "nfiles": n_parts, "hash": "md5", "path": folder.name}
    return yaml.safe_dump({"outs": [entry], "wdir": f"{up}/{folder.parent}"}, sort_keys=False)


def _place(lake: Path, output: Output, listed: list[Listed]) -> None:
    """Put parts from the cache into the output's folder, each by rename."""
    folder = own_path(lake, output.folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = own_path(lake, layout.STAGING / "append" / "place")
    aside.mkdir(parents=True, exist_ok=True)
    for one in listed:
        clone(cached_object(lake, one.md5), aside / one.relpath)
        (aside / one.relpath).rename(folder / one.relpath)
    sync_folder(folder)
    unmark(lake, output)
