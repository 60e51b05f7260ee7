"""The commands for versions: list, name, query, check out, compare and cite them.

They are implemented in :mod:`affectlake.lake`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import AT, JSON, LAKE
from affectlake.errors import UsageError
from affectlake.process.terminal import log

if TYPE_CHECKING:
    from affectlake.cli.query_output import Form
    from affectlake.lake.store.versions import Version


class _Versions(click.Group):
    """A group whose own call, without a command, lists the versions."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (the name is click's)
        return ["[OPTIONS]", "[show VERSION]"]


@click.group(cls=_Versions, invoke_without_command=True)
@LAKE
@JSON
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help="At most N versions; 0: all. By default 20, with --json all.",
)
@click.option("--before", default="", metavar="VERSION", help="Only versions before this one.")
@click.pass_context
def versions(context: click.Context, lake: Path, as_json: bool, limit: int | None, before: str) -> None:
    """List the versions, newest first, with time, author, names and changes; `versions show V` prints all of one."""
    from affectlake.lake.store.root import find
    from affectlake.lake.store.tags import number
    from affectlake.lake.store.version_names import version_names
    from affectlake.lake.store.versions import list_versions, resolve

    if context.invoked_subcommand:
        context.obj = lake
        return
    root = find(lake)
    found = list_versions(root)[::-1]
    if before:
        end = number(resolve(root, before).name)
        found = [v for v in found if number(v.name) < end]
    most = (0 if as_json else _LISTED) if limit is None else limit
    shown = found[: most or None]
    names: dict[str, list[str]] = {}
    for one in version_names(root).values():
        names.setdefault(one.commit, []).append(one.name)
    if as_json:
        click.echo(json.dumps([{**v._asdict(), "names": names.get(v.commit, [])} for v in shown], indent=2))
        return
    for v in shown:
        named = f"  [{', '.join(names[v.commit])}]" if v.commit in names else ""
        click.echo(f"{v.name}  {v.created[:16].replace('T', ' ')}  {v.author}{named}  {_phrase(v)}")
    if len(shown) < len(found):
        log(f"{len(found) - len(shown):,} older: `affectlake versions --before {shown[-1].name}`, or --limit 0 for all")


_LISTED, _CHANGES_SHOWN = 20, 2


def _phrase(version: Version) -> str:
    """Return what changed in a version, in one line."""
    changes = version.changes.split("; ")
    more = len(changes) - _CHANGES_SHOWN
    return "; ".join(changes[:_CHANGES_SHOWN]) + (f"; and {more} more" if more > 0 else "")


@versions.command("show")
@click.argument("version", default="latest", shell_complete=completion.versions)
@LAKE
@JSON
@click.pass_context
def show_version(context: click.Context, version: str, lake: Path, as_json: bool) -> None:
    """Print all that is known of VERSION: commit, author, code, environment, names with notes, and every change."""
    from affectlake.lake.store.root import find
    from affectlake.lake.store.version_names import version_names
    from affectlake.lake.store.versions import resolve

    root = find(context.obj if lake == Path() else lake)  # --lake before or after `show`
    v = resolve(root, version)
    names = [one for one in version_names(root).values() if one.commit == v.commit]
    if as_json:
        click.echo(json.dumps({**v._asdict(), "names": [one._asdict() for one in names]}, indent=2))
        return
    click.echo(f"{v.name}  {v.created}  {v.commit}  {v.author}  affectlake {v.code_version}")
    for one in names:
        click.echo(f"    {one.name}{f': {one.note}' if one.note else ''} ({one.author}, {one.created})")
    if v.steps:
        click.echo(f"    steps: {v.steps}")
    if v.environment:
        click.echo(f"    environment: {v.environment}")
    for change in v.changes.split("; "):
        click.echo(f"    {change}")


@click.command()
@click.argument("name", default="")
@click.argument("version", default="latest", shell_complete=completion.versions)
@LAKE
@JSON
@click.option("--note", default="", help="Why it has this name, such as the journal.")
@click.option("--remove", is_flag=True, help="Take the name away, in this lake.")
def tag(name: str, version: str, lake: Path, as_json: bool, note: str, remove: bool) -> None:
    """Give VERSION (by default, the latest) a NAME, such as submitted, by which commands know it; or list the names."""
    from affectlake.lake import repository
    from affectlake.lake.store.version_names import add_name, remove_name, version_names
    from affectlake.lake.store.versions import list_versions, resolve

    root = repository.find(lake)
    of = {v.commit: v.name for v in list_versions(root)}
    if not name:
        if remove:
            raise UsageError("--remove needs the name to take away")
        found = version_names(root).values()
        if as_json:
            rows = [{**one._asdict(), "version": of.get(one.commit)} for one in found]
            click.echo(json.dumps(rows, indent=2))
            return
        for one in found:
            click.echo(
                f"{one.name}  {of.get(one.commit, one.commit[:10])}  {one.created[:16]}  {one.author}  {one.note}"
            )
        if not found:
            log("no version has a name: affectlake tag NAME [VERSION] --note TEXT")
        return
    if remove:
        with repository.writing(root, "affectlake tag", wait_s=math.inf, say=log):
            remove_name(root, name)
        log(
            f"{name} is no longer a name here; `git push origin :refs/tags/lake-name/{name}` removes it from origin too"
        )
        return
    wanted = resolve(root, version)
    with repository.writing(root, "affectlake tag", wait_s=math.inf, say=log):
        add_name(root, name, wanted.commit, note)
    log(f"{name} is {wanted.name}: use it as a version, such as --at {name}; `affectlake push` shares it")


@click.command()
@click.argument("sql")
@LAKE
@AT
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "jsonl", "parquet", "arrow"]),
    help="Output format (json: an array; jsonl: a row per line; arrow: a stream); by default from FILE, or a table.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The file to write.")
@click.option(
    "--param",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="The value of $NAME in SQL: number, true, null or text.",
)
def query(sql: str, lake: Path, at: str, form: Form | None, out: Path | None, given: tuple[str, ...]) -> None:
    """Run one SELECT on the tables of a version; `choices@v1` is a table of another version."""
    from affectlake.cli.query_output import parameters_of, write_rows
    from affectlake.lake.store.root import find

    write_rows(find(lake), sql, at, form, out, parameters_of(given) or None)


@click.command()
@click.argument("version", shell_complete=completion.versions)
@LAKE
def checkout(version: str, lake: Path) -> None:
    """Place the tables and parameters of VERSION in the folder, verified; `latest` returns to the latest version."""
    from affectlake.lake import repository
    from affectlake.lake.checkout import checkout as put_in_place
    from affectlake.lake.store.tracked import tracked
    from affectlake.lake.store.versions import Manifest, resolve

    root = repository.find(lake)
    with repository.writing(root, "affectlake checkout", wait_s=math.inf, say=log):
        found = resolve(root, version)
        done = put_in_place(root, found)
    log(f"{found.name} is in {root}: {len(done.placed)} outputs placed, {len(done.kept)} the same as before")
    if tracked(Manifest(root, found.commit)):
        log("outputs of your own stages were not changed; `dvc checkout` places those of this version")


@click.command()
@LAKE
def restore(lake: Path) -> None:
    """Return the folder to the latest version, from any state; unpublished files are moved aside."""
    from affectlake.lake import repository
    from affectlake.lake.restore import restore as bring_back

    root = repository.find(lake)
    with repository.writing(root, "affectlake restore", wait_s=math.inf, say=log):
        done = bring_back(root, log)
    if done.branch:
        log(f"back on the branch {done.branch}")
    moved = f"files were moved to {done.aside}" if done.aside else "no file was moved aside"
    log(f"{done.version.name} is in {root}; {moved}")


@click.command()
@click.argument("before", shell_complete=completion.versions)
@click.argument("after", shell_complete=completion.versions)
@click.argument("table", default="", shell_complete=completion.tables)
@LAKE
@JSON
@click.option("--rows", is_flag=True, help="List the rows instead of counting them.")
def diff(before: str, after: str, table: str, lake: Path, as_json: bool, rows: bool) -> None:
    """Count the rows added, removed and changed between two versions, by key."""
    from affectlake.cli.query_output import print_changed_rows
    from affectlake.lake import repository
    from affectlake.lake.diff import diff as compare
    from affectlake.lake.store.versions import resolve

    root = repository.find(lake)
    old, new = resolve(root, before), resolve(root, after)
    if rows:
        print_changed_rows(root, old, new, table)
        return
    found = compare(root, old, new, table)
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found], indent=2))
        return
    for one in found:
        click.echo(one)
    if not found:
        log(f"{old.name} and {new.name} are the same")


@click.command()
@click.argument("version", default="latest", shell_complete=completion.versions)
@LAKE
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "bibtex", "cff"]),
    default="text",
    show_default=True,
    help="A block of text, a BibTeX entry, or the content of a CITATION.cff; see `about` in params.yaml.",
)
def cite(version: str, lake: Path, form: str) -> None:
    """Print a citation of VERSION: commit, hashes of its tables and parameters, code version and sources."""
    from affectlake.lake import repository
    from affectlake.lake.cite import cite as citation
    from affectlake.lake.store.versions import resolve
    from affectlake.pipelines.outputs.citations import bibtex, cff
    from affectlake.pipelines.params.about import described
    from affectlake.pipelines.params.record import record_at

    root = repository.find(lake)
    found = resolve(root, version)
    record = record_at(root, found)
    if form == "text":
        click.echo(citation(root, found, record.text("sources.kind")))
        return
    about = described(record.raw)
    click.echo(bibtex(found, about) if form == "bibtex" else cff(about, version=found).rstrip("\n"))


COMMANDS = (versions, tag, query, checkout, restore, diff, cite)
