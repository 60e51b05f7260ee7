"""The commands of versions: list, query, check out, compare, verify, share, cite. How each is done is in the lake."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli.options import AT, JSON, LAKE, REMOTE
from affectlake.errors import UsageError
from affectlake.process.terminal import say

if TYPE_CHECKING:
    from affectlake.cli.query_output import Form


@click.command()
@LAKE
@JSON
def versions(lake: Path, as_json: bool) -> None:
    """List every version: its name, time, author and what changed."""
    from affectlake.lake.store.root import find
    from affectlake.lake.store.versions import list_versions

    found = list_versions(find(lake))
    if as_json:
        click.echo(json.dumps([v._asdict() for v in found], indent=2))
        return
    for v in found:
        click.echo(f"{v.name}  {v.created}  {v.commit[:10]}  {v.author}  affectlake {v.code_version}")
        if v.steps:
            click.echo(f"    steps: {v.steps}")
        for change in v.changes.split("; "):
            click.echo(f"    {change}")


@click.command()
@click.argument("sql")
@LAKE
@AT
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet", "arrow"]),
    help="Of rows (JSON: one a line; Arrow: an IPC stream); by default that of FILE's ending, or a table.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to write them.")
def query(sql: str, lake: Path, at: str, form: Form | None, out: Path | None) -> None:
    """Answer one SELECT over the tables of a version; `choices@v1` names a table of another."""
    from affectlake.cli.query_output import give_rows
    from affectlake.lake.store.root import find

    give_rows(find(lake), sql, at, form, out)


@click.command()
@click.argument("version")
@LAKE
def checkout(version: str, lake: Path) -> None:
    """Put the tables and parameters of VERSION into the folder, verified; `latest` brings the last one back."""
    from affectlake.lake import repository
    from affectlake.lake.checkout import checkout as put_in_place
    from affectlake.lake.store.tracked import tracked
    from affectlake.lake.store.versions import Manifest, resolve

    root = repository.find(lake)
    with repository.writing(root, "affectlake checkout", wait_s=math.inf, say=say):
        found = resolve(root, version)
        done = put_in_place(root, found)
    say(f"{found.name} is in {root}: {len(done.placed)} outputs placed, {len(done.kept)} the same as before")
    if tracked(Manifest(root, found.commit)):
        say("outputs of stages of your own are left as they are; `dvc checkout` brings those of this version")


@click.command()
@LAKE
def restore(lake: Path) -> None:
    """Bring the folder back to the latest version, whatever state it is in; what is in no version is kept aside."""
    from affectlake.lake import repository
    from affectlake.lake.restore import restore as bring_back

    root = repository.find(lake)
    with repository.writing(root, "affectlake restore", wait_s=math.inf, say=say):
        done = bring_back(root, say)
    if done.branch:
        say(f"back on the branch {done.branch}")
    say(f"{done.version.name} is in {root}; {f'kept aside in {done.aside}' if done.aside else 'nothing was put aside'}")


@click.command()
@click.argument("before")
@click.argument("after")
@click.argument("table", default="")
@LAKE
@JSON
@click.option("--rows", is_flag=True, help="List the rows, not only their number.")
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
        say(f"{old.name} and {new.name} are the same")


@click.command()
@click.argument("version", default="")
@LAKE
@REMOTE
@click.option("--local", is_flag=True, help="Only the cache; do not look at a remote.")
@click.option("--repair", is_flag=True, help="Replace a bad copy by a whole one from the other place.")
def fsck(version: str, lake: Path, remote: str, local: bool, repair: bool) -> None:
    """Hash every file of VERSION (of all, when none is named) in the cache and in a DVC remote."""
    from affectlake.errors import LakeError, VersionError
    from affectlake.lake import repository
    from affectlake.lake.fsck import check
    from affectlake.lake.store.versions import list_versions, resolve

    root = repository.find(lake)
    wanted = [resolve(root, version)] if version else list_versions(root)
    try:
        found = check(root, *wanted, repair=repair, remote=None if local else remote)
    except LakeError as error:
        error.todo += "; or check only the cache with --local"
        raise
    for finding in found:
        click.echo(finding)
    bad = [finding for finding in found if not finding.repaired]
    if bad:
        todo = "rebuild those tables with `affectlake run`" if repair else "try `affectlake fsck --repair`"
        raise VersionError(f"{len(bad)} files are not as they were published", todo=todo)
    say(f"{', '.join(v.name for v in wanted) or 'no version yet'}: every file is as it was published")


@click.command()
@click.argument("names", metavar="[VERSION]...", nargs=-1)
@LAKE
@REMOTE
def push(names: tuple[str, ...], lake: Path, remote: str) -> None:
    """Send versions (all, when none is named) to a DVC remote, then announce them to the Git remote origin."""
    from affectlake.lake import repository, transfer
    from affectlake.lake.store.versions import list_versions, resolve

    root = repository.find(lake)
    wanted = [resolve(root, name) for name in names] or list_versions(root)
    done = transfer.push(root, wanted, remote, say)
    announced = f"announced {', '.join(done.versions)}" if done.versions else "no Git remote origin: nothing announced"
    say(f"{done.n_files} files sent; {announced}")


@click.command()
@LAKE
@REMOTE
def pull(lake: Path, remote: str) -> None:
    """Bring new versions from the Git remote origin, and the files of all from a DVC remote, verified."""
    from affectlake.lake import repository, transfer
    from affectlake.pipelines.params.schema import put_schema

    root = repository.find(lake)
    with repository.writing(root, "affectlake pull", wait_s=math.inf, say=say):
        done = transfer.pull(root, remote, say)
    put_schema(root)  # a clone has none yet
    say(f"{done.n_files} files came; {', '.join(done.versions) or 'no'} new versions")


@click.command()
@LAKE
@click.option("--remove", is_flag=True, help="Remove them; without it, only say what would go.")
@click.option("--days", type=click.FloatRange(min=0), help="Keep what is younger; default 1, of a shared cache 14.")
@click.option(
    "--shared-with",
    "others",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    metavar="DIR",
    help="Another repository that uses the same cache; what it refers to stays. Repeat for each.",
)
@click.option("--not-shared", is_flag=True, help="Nobody else uses the cache, though it lies outside the lake.")
def gc(lake: Path, remove: bool, days: float | None, others: tuple[Path, ...], not_shared: bool) -> None:
    """Find cached files that no commit, .dvc file, working table or model run refers to."""
    from affectlake.lake import garbage, repository
    from affectlake.lake.store.dvc_settings import is_shared

    root = repository.find(lake)
    if others and not_shared:
        raise UsageError("--shared-with and --not-shared contradict each other", todo="leave one of them out")
    users = garbage.users_of_cache(root, others)
    shared = bool(users) or (is_shared(root) and not not_shared)
    if remove and shared:
        garbage.refuse_shared(root, users)
    young_s = 24 * 3600.0 * days if days is not None else garbage.YOUNG_SHARED_S if shared else garbage.YOUNG_S
    with repository.writing(root, "affectlake gc", wait_s=math.inf, say=say):
        found = garbage.unreferred(root, young_s=young_s, others=users)
        n_bytes = garbage.remove(found) if remove else sum(one.n_bytes for one in found)
    say(f"{len(found)} files, {n_bytes / 1e6:,.1f} MB {'removed' if remove else 'could go; --remove removes them'}")
    if shared and not users:
        say("the cache lies outside the lake: files of others who use it are among them; name those with --shared-with")


@click.command()
@click.argument("version", default="latest")
@LAKE
def cite(version: str, lake: Path) -> None:
    """Print the citation block of VERSION: commit, hashes of its tables and parameters, code, sources."""
    from affectlake.lake import repository
    from affectlake.lake.cite import cite as citation
    from affectlake.lake.store.versions import resolve
    from affectlake.pipelines.params.record import record_at

    root = repository.find(lake)
    found = resolve(root, version)
    click.echo(citation(root, found, record_at(root, found).text("sources.kind")))


COMMANDS = (versions, query, checkout, restore, diff, fsck, push, pull, gc, cite)
