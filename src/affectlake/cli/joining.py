"""The command that unites two lakes. How is in the pipeline and in the lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli.options import LAKE, REMOTE
from affectlake.process.terminal import say

if TYPE_CHECKING:
    from affectlake.lake.joining.join import Joined


@click.command()
@click.argument("source", default="")
@LAKE
@REMOTE
def join(source: str, lake: Path, remote: str) -> None:
    """Unite this lake with SOURCE: a Git remote, or the folder of another clone. No answer and no version is lost.

    Without SOURCE, what Git has merged into this lake is joined.
    """
    from affectlake.lake import repository
    from affectlake.pipelines.collection.joining import join as unite
    from affectlake.pipelines.collection.publishing import agents_with_journals

    root = repository.find(lake)
    if source and Path(source).is_dir() and (agents := agents_with_journals(Path(source))):
        say(
            f"answers of {', '.join(agents)} that {source} has in no version yet are not read: publish them there first"
        )
    done = unite(root, source, remote, say)
    for line in _told(done, source or "the other side"):
        say(line)


def _told(done: Joined, source: str) -> list[str]:
    if done.version is None:
        return [f"nothing to do: this lake has every version of {source}"]
    lines = [*done.renamed]
    for output, came in done.gained.items():
        again = f", {came.n_repeats:,} of them to questions that were answered here too" if came.n_repeats else ""
        lines.append(f"{output}: {came.n_rows:,} rows of theirs came{again}")
    lines += done.notes
    if done.taken:
        lines.append(f"{', '.join(done.taken)} came from {source}")
    what = (
        f"published {done.version.name}, which joins both sides"
        if done.made
        else f"this lake is at {done.version.name}"
    )
    then = "; `affectlake run` makes tables of the answers, `affectlake push` sends the versions" if done.made else ""
    return [*lines, f"{what}{then}"]


COMMANDS: tuple[click.Command, ...] = (join,)
