"""Tables as files: Parquet parts of bounded size, written deterministically. Rules are not checked here.

A table's folder holds ``part-00000.parquet``, ``part-00001.parquet``, …: rows sorted by the key, zstd, at most
:data:`ROWS_PER_PART` rows each and, in list columns, at most :data:`VALUES_PER_PART` values. The bytes do not depend on
time or host: the same data gives the same files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from affectlake.errors import ContractError
from affectlake.lake.files.atomic import sync_folder
from affectlake.lake.tables.contracts import Contract, contract
from affectlake.lake.tables.scanning import scan_files

if TYPE_CHECKING:  # imported late: reading a lake does without it
    import pyarrow as pa

ROWS_PER_PART = 1_000_000
ROWS_PER_GROUP = 250_000
VALUES_PER_PART = 64_000_000  # of float32: 256 MB, the memory that validating a part needs
VALUES_PER_GROUP = 8_000_000


def sort_breaks(frame: pl.DataFrame, key: tuple[str, ...]) -> pl.Series:
    """Return, for each row, whether it does not come strictly after the row before it in the order of `key`.

    Nulls come first and are equal. The first row never breaks the order.
    """
    equal_so_far, after = pl.lit(value=True), pl.lit(value=False)
    for name in key:
        now, before = pl.col(name), pl.col(name).shift(1)
        after = after | (
            equal_so_far & ((now > before) | (before.is_null() & now.is_not_null())).fill_null(value=False)
        )
        equal_so_far = equal_so_far & now.eq_missing(before)
    flags = frame.lazy().select((~after).alias("breaks")).collect()["breaks"]
    return flags if flags.is_empty() else pl.concat([pl.Series("breaks", [False]), flags.slice(1)])


def as_arrow(frame: pl.DataFrame, table: Contract) -> pa.Table:
    """Return `frame` in the contract's schema: its columns, order and exact types, rows sorted by the key.

    Raises
    ------
    ContractError
        If a column is missing or unknown, or a value does not fit its type.
    """
    import pyarrow as pa

    wanted, found = [c.name for c in table.columns], frame.columns
    if set(wanted) != set(found):
        raise ContractError(
            f"{table.name} does not have the columns of its contract", wanted=", ".join(wanted), found=", ".join(found)
        )
    if sort_breaks(frame, table.key).any():
        frame = frame.sort(table.key, nulls_last=False)
    loose = frame.select(wanted).to_arrow()
    try:
        # validation reports null values with their rows, so the cast must accept them
        fields = [field.with_nullable(True) for field in table.schema]
        return loose.cast(pa.schema(fields, metadata=table.schema.metadata))
    except pa.ArrowException as error:
        raise ContractError(
            f"a value of {table.name} does not fit the type of its column", wanted=str(table.schema), found=str(error)
        ) from error


def write_parts(frame: pl.DataFrame, table: Contract, folder: Path, first: int = 0) -> list[Path]:
    """Write `frame` as the parts of `table` into the new folder `folder`, flushed to the disk.

    Parameters
    ----------
    frame : polars.DataFrame
        The rows.
    table : Contract
        The table's contract.
    folder : Path
        A folder that does not exist.
    first : int
        Number of the first part.

    Returns
    -------
    list of Path
        The files written, in order; one part without rows if the frame is empty.
    """
    import pyarrow.parquet as pq

    arrow = as_arrow(frame, table)
    folder.mkdir(parents=True)
    paths: list[Path] = []
    longest = _longest_list(arrow)
    rows_per_part = min(ROWS_PER_PART, max(VALUES_PER_PART // longest, 1))
    rows_per_group = min(ROWS_PER_GROUP, max(VALUES_PER_GROUP // longest, 1))
    for start in range(0, max(arrow.num_rows, 1), rows_per_part):
        path = folder / f"part-{first + len(paths):05d}.parquet"
        with path.open("wb") as sink:
            pq.write_table(
                arrow.slice(start, rows_per_part),
                sink,
                row_group_size=rows_per_group,
                compression="zstd",
                compression_level=3,
            )
            sink.flush()
            os.fsync(sink.fileno())
        path.chmod(0o444)
        paths.append(path)
    sync_folder(folder)
    return paths


def _longest_list(arrow: pa.Table) -> int:
    """Return the number of values in the table's longest list; 1 if it has no lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = [column for column in arrow.columns if pa.types.is_list(column.type)]
    return max((pc.max(pc.list_value_length(column)).as_py() or 1 for column in lists), default=1) or 1


def part_files(folder: Path) -> list[Path]:
    """Return the parts in `folder`, in order."""
    return sorted(folder.glob("part-*.parquet"))


def scan(paths: list[Path], table: str) -> pl.LazyFrame:
    """Open the parts of `table` lazily; refuse files of another table or contract version.

    Raises
    ------
    ContractError
        If a part is truncated, or was written for another table or an older contract.
    """
    wanted = contract(table)
    for path in paths:
        check_footer(path, wanted)
    return scan_files(paths)


def scan_grown(paths: list[Path], table: str) -> pl.LazyFrame:
    """Open the parts of a collected output, including those of older contracts, as they cannot be made again.

    Their columns must be in today's contract with the same type; columns added since are null in their rows.

    Raises
    ------
    ContractError
        If a part is truncated, was written for another table, or does not fit today's contract.
    """
    wanted = contract(table)
    for path in paths:
        _check_older(path, wanted)
    return scan_files(paths, pl.DataFrame(wanted.schema.empty_table()).schema)


def check_footer(path: Path, table: Contract) -> None:
    """Raise :class:`ContractError` unless the Parquet file at `path` is intact and has the contract's schema."""
    found, version = _footer(path)
    if not found.equals(_nullable(table.schema)) or version != str(table.version):
        raise ContractError(
            f"{path} does not have the schema of {table.name}, version {table.version}",
            wanted=", ".join(f"{f.name}: {f.type}" for f in table.schema),
            found=", ".join(f"{f.name}: {f.type}" for f in found) + f" (version {version})",
            todo="rebuild the table with `affectlake run`",
        )


def _check_older(path: Path, table: Contract) -> None:
    """Raise :class:`ContractError` unless `path` has this contract, or an older one that it only extends."""
    found, version = _footer(path)
    if version == str(table.version) or (found.metadata or {}).get(b"affectlake.table") != table.name.encode():
        check_footer(path, table)
        return
    types = {column.name: column.arrow_type for column in table.columns}
    unlike = [
        f"{field.name}: {field.type} is {types.get(field.name, 'missing')}"
        for field in found
        if field.type != types.get(field.name)
    ]
    unlike += [f"{c.name} may not be null" for c in table.columns if c.name not in found.names and not c.nullable]
    if not version.isdecimal() or int(version) > table.version:
        unlike = [f"the contract is newer than this affectlake, or has no version: {version}"]
    if unlike:
        raise ContractError(
            f"{path} was written under version {version} of {table.name}, not extended by version {table.version}",
            wanted="a contract that only adds columns that may be null",
            found="; ".join(unlike),
            todo="install the affectlake that wrote it, or a newer one: collected rows cannot be made again",
        )


def _footer(path: Path) -> tuple[pa.Schema, str]:
    """Return the schema of a Parquet file, and the version of the contract under which it was written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ContractError(
            f"{path} is not a complete Parquet file",
            found=f"{path.stat().st_size if path.exists() else 'no'} bytes: {error}".splitlines()[0],
            todo="restore it with `dvc checkout`, or rebuild it with `affectlake run`",
        ) from error
    return found, (found.metadata or {}).get(b"affectlake.version", b"none").decode()


def _nullable(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([field.with_nullable(True) for field in schema])
