"""The command that joins two lakes, implemented in :mod:`affectlake.pipelines.collection.joining`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli.options import LAKE, REMOTE
from affectlake.process.terminal import log

if TYPE_CHECKING:
    from affectlake.lake.joining.join import Joined


@click.command()
@click.argument("source", default="")
@LAKE
@REMOTE
def join(source: str, lake: Path, remote: str) -> None:
    """Join this lake with SOURCE, a Git remote or the folder of another clone. No answer and no version is lost.

    Without SOURCE, the versions that Git has merged into this lake are joined.
    """
    from affectlake.lake import repository
    from affectlake.pipelines.collection.joining import join as join_lakes
    from affectlake.pipelines.collection.publishing import agents_with_journals

    root = repository.find(lake)
    if source and Path(source).is_dir() and (agents := agents_with_journals(Path(source))):
        log(
            f"unpublished answers of {', '.join(agents)} in {source} are not read; to join them too, publish them there"
            " first"
        )
    done = join_lakes(root, source, remote, log)
    for line in _format_result(done, source or "the other side"):
        log(line)


def _format_result(done: Joined, source: str) -> list[str]:
    if done.version is None:
        return [f"nothing to do: this lake has every version of {source}"]
    lines = [*done.renamed]
    for output, came in done.gained.items():
        again = f", {came.n_repeats:,} of them for questions that were answered here too" if came.n_repeats else ""
        lines.append(f"{output}: {came.n_rows:,} rows were added{again}")
    lines += done.notes
    if done.taken:
        lines.append(f"copied from {source}: {', '.join(done.taken)}")
    what = (
        f"published {done.version.name}, which joins both sides"
        if done.made
        else f"this lake is at {done.version.name}"
    )
    then = "; `affectlake run` makes tables from the answers, `affectlake push` sends the versions" if done.made else ""
    return [*lines, f"{what}{then}"]


COMMANDS: tuple[click.Command, ...] = (join,)
