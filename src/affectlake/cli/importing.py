"""The command that imports judgments that people gave. :mod:`affectlake.pipelines.collection.importing` does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import JSON, LAKE
from affectlake.process.terminal import log
from affectlake.process.text_table import text_table

if TYPE_CHECKING:
    from affectlake.judge.judgments.options import AnsweredBy, Layout, Unit
    from affectlake.pipelines.collection.importing import FileAccount, ReadFiles

_BAD_SHOWN = 10


@click.command("import")
@click.argument("agent", shell_complete=completion.agents)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@LAKE
@click.option(
    "--layout",
    type=click.Choice(["auto", "things", "table", "psychopy", "jspsych", "salmon", "triplettools"]),
    default="auto",
    show_default=True,
    help="Layout of the files.",
)
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="What a column is: odd=chosen_image.")
@click.option("--unit", type=click.Choice(["s", "ms"]), help="Unit of response times; by default, it is recognised.")
@click.option(
    "--answer", type=click.Choice(["id", "position"]), help="How the chosen one is named; by default, it is recognised."
)
@click.option("--first-position", type=click.Choice(["0", "1"]), help="Number of the first position.")
@click.option("--position", "positions", multiple=True, metavar="ANSWER=N", help="What an answer stands for: left=1.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be used, rather than refuse the files.")
@click.option("--dry-run", is_flag=True, help="Only print what is read, and how much of it is new.")
@JSON
def import_judgments(
    agent: str,
    files: tuple[Path, ...],
    lake: Path,
    layout: str,
    columns: tuple[str, ...],
    unit: Unit | None,
    answer: AnsweredBy | None,
    first_position: str | None,
    positions: tuple[str, ...],
    skip_bad: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import judgments of triplets that people gave, from FILEs, as answers of AGENT."""
    from typing import cast

    from affectlake.judge.judgments.options import ReadingOptions, parse_columns, parse_positions
    from affectlake.lake import repository
    from affectlake.pipelines.collection.importing import import_files, imported_agent, new_rows, read_files
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    params = load(root)
    options = ReadingOptions(
        layout=None if layout == "auto" else cast("Layout", layout),
        columns=parse_columns(columns, imported_agent(params, agent).task),
        unit=unit,
        answered_by=answer,
        first_position=None if first_position is None else int(first_position),
        positions=parse_positions(positions),
    )
    read = read_files(root, params, agent, files, options, skip_bad=skip_bad or dry_run)
    if not as_json:
        click.echo(_read(read))
    if dry_run:
        n_new, version = new_rows(root, read).height, None
    else:
        done = import_files(root, read, log)
        n_new, version = done.n_added, done.version
    n_known = read.rows.height - n_new
    if as_json:
        found = {
            "agent": agent, "new": n_new, "stored": n_known, "unusable": read.n_bad,
            "version": version.name if version else None, "notes": read.notes,
            "files": [{**one._asdict(), "bad": [{"row": row, "reason": why} for row, why in one.bad]}
                      for one in read.files],
        }  # fmt: skip
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(_ending(n_new, n_known, dry_run=dry_run))
    if version is not None:
        log(f"published {version.name}; `affectlake run` converts the judgments to choices")


def _ending(n_new: int, n_known: int, *, dry_run: bool) -> str:
    if not n_new:
        return f"nothing is new: all {n_known:,} judgments are stored"
    known = f"; {n_known:,} are stored already" if n_known else ""
    return f"{n_new:,} judgments {'would be ' if dry_run else ''}added{known}"


def _read(read: ReadFiles) -> str:
    head = [
        "file",
        "layout",
        "judgments",
        "participants",
        "stimuli",
        "triplets",
        "repeats",
        "catch",
        "skipped",
        "unusable",
    ]
    rows = [
        [
            one.file,
            one.layout,
            *(
                f"{n:,}"
                for n in (
                    one.n_judgments, one.n_participants, one.n_stimuli, one.n_triplets, one.n_repeats, one.n_catch,
                    sum(one.skipped.values()), len(one.bad),
                )
            ),
        ]
        for one in read.files
    ]  # fmt: skip
    lines = [text_table([head], rows, right=range(2, len(head)))]
    for one in read.files:
        lines += _details(one)
    return "\n".join([*lines, *(f"note: {note}" for note in read.notes)])


def _details(one: FileAccount) -> list[str]:
    lines = [f"{one.file}: {', '.join(f'{role} = {name}' for role, name in one.columns.items())}"]
    lines += [f"{one.file}: {note}" for note in one.notes]
    lines += [f"{one.file}: {n:,} rows have {why}" for why, n in one.skipped.items()]
    lines += [f"{one.file}, row {row}: {why}" for row, why in one.bad[:_BAD_SHOWN]]
    more = len(one.bad) - _BAD_SHOWN
    return [*lines, f"{one.file}: {more:,} more rows cannot be used"] if more > 0 else lines


COMMANDS: tuple[click.Command, ...] = (import_judgments,)
