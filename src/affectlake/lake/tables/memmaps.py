"""Memory-mapped arrays of list columns. Parquet itself (encoded, compressed pages) cannot be mapped.

For each value of a grouping column there is one ``.npy`` file of float32 (n_rows, n_values), rows in the table's order.
Files are made from the parts on first reading, a few rows at a time, in a folder named by the hash of their source, so
that they are never stale and all processes map the same pages. Beside each file is its MD5: a file with another MD5 is
made again. The files are a cache: they are not part of a version, ``affectlake gc`` removes those that cannot be used
by a version or working table, and they may be deleted at any time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray

from affectlake.errors import ContractError
from affectlake.lake.files import layout, names
from affectlake.lake.files.atomic import UNFINISHED, md5_of, write_whole
from affectlake.lake.files.names import own_path
from affectlake.lake.store.cache import Listed, listing_digest
from affectlake.lake.store.known_hashes import known_md5s
from affectlake.lake.tables.scanning import scan_files

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_ROWS = 64  # of a list column that are decoded at a time


def map_lists(
    root: Path, parts: Sequence[Path], column: str, by: str, value: str, digest: str = ""
) -> NDArray[np.float32]:
    """Return the lists of the rows in which `by` is `value`, mapped read-only.

    Parameters
    ----------
    root : Path
        Root of the lake.
    parts : sequence of Path
        The table's Parquet parts, in order.
    column, by : str
        The column of lists of float32, and the text column that groups rows.
    value : str
        The value of `by` in the rows to return.
    digest : str
        MD5 of the output's listing; if empty, the parts are hashed, once.

    Returns
    -------
    numpy.memmap of float32 (n_rows, n_values)

    Raises
    ------
    ContractError
        If there is no such row, a list is null, or the lists differ in length.
    """
    folder = own_path(root, layout.MAPPED / names.digest(digest or _digest(root, parts)).removesuffix(".dir"))
    path = folder / f"{column}-{quote(value, safe='')}.npy"
    found = _opened(root, path)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        _make(path, parts, column, by, value)
        found = np.load(path, mmap_mode="r")
    return found


def mapped_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Return the listing's MD5 and the path of every mapped file that the lake keeps."""
    for path in sorted(own_path(root, layout.MAPPED).glob("*/*")):
        if names.is_digest(path.parent.name) and not path.parent.is_symlink():
            yield path.parent.name, path


def _opened(root: Path, path: Path) -> NDArray[np.float32] | None:
    """Return the mapped file, or None if it is missing or damaged and has to be made again."""
    try:
        if known_md5s(root, [path]) != [_md5_file(path).read_text(encoding="ascii")]:
            return None
        found: NDArray[np.float32] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return found


def _md5_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.md5")


def _make(path: Path, parts: Sequence[Path], column: str, by: str, value: str) -> None:
    """Write the file under a temporary name and rename it; two concurrent processes write the same bytes."""
    n_rows = scan_files(parts).filter(pl.col(by) == value).select(pl.len()).collect().item()
    blocks = _blocks(parts, column, by, value)
    first = next(blocks, None)
    if first is None:
        raise ContractError(f"{column} has no row in which {by} is {value!r}")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{UNFINISHED}")
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as sink:
            header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, first.shape[1])}
            np.lib.format.write_array_header_1_0(sink, header)
            _fill(sink, first, blocks, (n_rows, first.shape[1]), f"{column} of {by} {value!r}")
            sink.flush()
            os.fsync(sink.fileno())
        aside.chmod(0o444)
        md5 = md5_of(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    write_whole(_md5_file(path), md5.encode())


def _fill(
    sink: BinaryIO,
    first: NDArray[np.float32],
    blocks: Iterator[NDArray[np.float32]],
    shape: tuple[int, int],
    what: str,
) -> None:
    block: NDArray[np.float32] | None = first
    n_written = 0
    while block is not None:
        if block.shape[1] != shape[1]:
            raise ContractError(f"the lists in {what} differ in length", found=f"{block.shape[1]} and {shape[1]}")
        sink.write(np.ascontiguousarray(block, dtype="<f4").data)
        n_written += len(block)
        block = next(blocks, None)
    if n_written != shape[0]:
        raise ContractError(f"a list in {what} is missing", wanted=f"{shape[0]:,} lists", found=f"{n_written:,}")


def _blocks(parts: Sequence[Path], column: str, by: str, value: str) -> Iterator[NDArray[np.float32]]:
    """Yield the lists, :data:`_ROWS` rows at a time; row groups whose statistics exclude `value` are not read."""
    import pyarrow.compute as pc  # imported late: reading a lake does without it
    import pyarrow.parquet as pq

    for part in parts:
        with pq.ParquetFile(part, pre_buffer=False) as file:
            groups = [i for i in range(file.num_row_groups) if _may_hold(file, i, by, value)]
            if not groups:
                continue
            for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=[by, column]):
                mine = pc.equal(batch[by], value)
                kept = batch if pc.all(mine).as_py() else batch.filter(mine)
                if not kept.num_rows:
                    continue
                lengths = pc.list_value_length(kept[column])
                if lengths.null_count or pc.min_max(lengths)["min"] != pc.min_max(lengths)["max"]:
                    raise ContractError(f"the lists in {column} of {by} {value!r} differ in length, or are missing")
                values = pc.list_flatten(kept[column])
                yield values.to_numpy(zero_copy_only=False).reshape(kept.num_rows, -1)


def _may_hold(file: pq.ParquetFile, group: int, by: str, value: str) -> bool:
    about = file.metadata.row_group(group).column(file.schema_arrow.get_field_index(by))
    bounds = about.statistics if about.is_stats_set else None
    return bounds is None or not bounds.has_min_max or bounds.min <= value <= bounds.max


def _digest(root: Path, parts: Sequence[Path]) -> str:
    """Return the hash by which DVC names these parts; a part is hashed again only if it changed."""
    return listing_digest(map(Listed, (part.name for part in parts), known_md5s(root, parts)))
