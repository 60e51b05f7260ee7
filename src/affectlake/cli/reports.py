"""The commands that write reports and brain maps. They are implemented in :mod:`affectlake.pipelines.outputs`."""

from __future__ import annotations

from pathlib import Path

import click

from affectlake.cli.options import AT, LAKE
from affectlake.errors import UsageError
from affectlake.process.terminal import log


@click.command()
@LAKE
@AT
@click.option("--output", type=click.Path(path_type=Path), help="The file to write.")
@click.option("--compare", nargs=2, default=None, metavar="V1 V2", help="Write a comparison of two versions instead.")
@click.option("--figures", is_flag=True, help="Also write every figure as SVG, PNG and PDF, and its data as CSV.")
@click.option("--no-pictures", is_flag=True, help="Show captions instead of video frames.")
@click.option(
    "--for-myself",
    is_flag=True,
    help="Include captions, ratings and frames that may not be republished; the page has a notice.",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the web browser.")
def report(
    lake: Path,
    at: str,
    output: Path | None,
    compare: tuple[str, str] | None,
    figures: bool,
    no_pictures: bool,
    for_myself: bool,
    show: bool,
) -> None:
    """Write the HTML report of a version and print its path."""
    from affectlake.lake import repository
    from affectlake.pipelines.outputs import report as reporting

    root = repository.find(lake)
    if compare and (at or figures or for_myself):
        raise UsageError(
            "--compare cannot be combined with --at, --figures or --for-myself", todo="leave the other options out"
        )
    if compare:
        path = reporting.write_comparison(root, *compare, output)
    else:
        path = reporting.write_report(root, at, output, pictures=not no_pictures, for_myself=for_myself)
    click.echo(path)
    if figures:
        folder = path.with_name(f"{path.stem}-figures")
        n_files = len(reporting.write_figures(root, at, folder, for_myself=for_myself))
        log(f"{n_files:,} files of figures in {folder}")
    if show:
        click.launch(str(path))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@LAKE
@AT
@click.option("--surfaces", is_flag=True, help="Also draw each map on a cortical surface: fsaverage5 or the subject's.")
@click.option(
    "--mask",
    type=click.Choice(["fdr", "fwe", "tfce", "cluster", "none"]),
    help="Significant voxels, in images of their own and in drawings; by default brain.mask of the version.",
)
def maps(folder: Path, lake: Path, at: str, surfaces: bool, mask: str | None) -> None:
    """Write a version's brain maps to FOLDER as NIfTI images and print their paths."""
    from affectlake.lake import repository
    from affectlake.pipelines.outputs.nifti import write_maps

    for path in write_maps(repository.find(lake), folder, at, surfaces, log, mask or ""):
        click.echo(path)


COMMANDS = (report, maps)
