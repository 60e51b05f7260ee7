"""The commands for pages over the lake, which are implemented in :mod:`affectlake.ui`."""

from __future__ import annotations

from pathlib import Path

import click

from affectlake.cli.options import AT, LAKE
from affectlake.process.terminal import log


@click.command()
@LAKE
@AT
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; by default, a free one.")
@click.option("--open", "show", is_flag=True, help="Open the pages in the web browser.")
def ui(lake: Path, at: str, host: str, port: int, show: bool) -> None:
    """Show the lake in the browser, read-only: judgments, stimuli, similarity, versions, stages, collections, SQL.

    Prints the address with a token; only who has it can read the pages. Ends with Ctrl-C.
    """
    from affectlake.lake.store.root import find
    from affectlake.lake.store.versions import resolve

    root = find(lake)
    resolve(root, at)  # raises if there is no such version
    from affectlake.process.own_requests import LOOPBACK
    from affectlake.ui.server import serve

    def ready(address: str) -> None:
        click.echo(address)
        if host not in LOOPBACK:
            log(f"warning: {host} can be reached by other computers, and what is sent is not encrypted")
        if show:
            click.launch(address)

    serve(root, at, host, port, ready)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@LAKE
@AT
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    metavar="N",
    help="Judgments of each agent that have a page.",
)
@click.option("--all-judgments", is_flag=True, help="Also write all choices as data, a Parquet file for each agent.")
def bundle(folder: Path, lake: Path, at: str, sample: int, all_judgments: bool) -> None:
    """Write the pages of a version to FOLDER, for a web server, without what `sources.shareable` restricts."""
    from affectlake.lake.store.root import find
    from affectlake.ui.bundle import write_bundle

    done = write_bundle(find(lake), folder, at, n_sampled=sample, all_judgments=all_judgments)
    for words in done.withheld:
        log(f"not written: {words}")
    log(f"{done.n_files:,} files; open index.html, or put the folder on a web server")
    click.echo(done.folder)


COMMANDS = (ui, bundle)
