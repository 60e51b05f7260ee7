"""The commands that take a version out of a lake: archives for repositories, and views for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from affectlake.cli.options import AT, LAKE
from affectlake.process.terminal import log


@click.command()
@click.argument("version")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@LAKE
@click.option("--for-myself", is_flag=True, help="Include captions, ratings and frames that may not be republished.")
def archive(version: str, file: Path, lake: Path, for_myself: bool) -> None:
    """Write VERSION to a ZIP FILE for Zenodo or OSF: tables, parameters, README, citation, metadata, checksums."""
    from affectlake.lake import repository
    from affectlake.lake.store.versions import resolve
    from affectlake.pipelines.outputs.archive import write_archive

    root = repository.find(lake)
    found = resolve(root, version)
    for one in write_archive(root, found, file, for_myself=for_myself):
        log(f"left out: {one}")
    click.echo(file)
    log(f"{found.name}: {file.stat().st_size / 1e6:,.1f} MB")


@click.command("open")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path), default="")
def open_file(file: Path, folder: Path) -> None:
    """Make a lake of an archive FILE in FOLDER (by default, its name without .zip), after checking its checksums."""
    from affectlake.lake.archived import open_archive
    from affectlake.lake.browsing import tables_of
    from affectlake.pipelines.params.schema import put_schema

    root = folder if folder != Path() else file.with_suffix("")
    opened = open_archive(file, root)
    put_schema(root)
    for table in tables_of(root, opened.version):
        click.echo(f"{table.table:<24} {table.n_rows:>12,}  {table.grain}")
    for name, columns in opened.left_out.items():
        log(f"the archive lacks {name}: {', '.join(columns)} (may not be republished)")
    log(f"{opened.version.name} is in the lake {root}: affectlake query SQL --lake {root}")


@click.command()
@LAKE
@AT
@click.option("--output", type=click.Path(path_type=Path), help="The file; by default lake.duckdb in the lake.")
def views(lake: Path, at: str, output: Path | None) -> None:
    """Write the tables of a version as views to a DuckDB file, for DBeaver, R and DuckDB's programs; print its path."""
    from affectlake.lake import repository
    from affectlake.lake.store.versions import resolve
    from affectlake.lake.view_file import write_views

    root = repository.find(lake)
    click.echo(write_views(root, resolve(root, at), output))


COMMANDS = (archive, open_file, views)
