"""The commands for versions: list, query, check out, compare, verify, share and cite them.

They are implemented in :mod:`affectlake.lake`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli.options import AT, JSON, LAKE, REMOTE
from affectlake.errors import UsageError
from affectlake.process.terminal import log

if TYPE_CHECKING:
    from affectlake.cli.query_output import Form


@click.command()
@LAKE
@JSON
def versions(lake: Path, as_json: bool) -> None:
    """List all versions with their time, author and changes."""
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
    help="Output format (JSON: one row per line; Arrow: an IPC stream); by default from FILE's extension, or a table.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The file to write.")
def query(sql: str, lake: Path, at: str, form: Form | None, out: Path | None) -> None:
    """Run one SELECT on the tables of a version; `choices@v1` is a table of another version."""
    from affectlake.cli.query_output import write_rows
    from affectlake.lake.store.root import find

    write_rows(find(lake), sql, at, form, out)


@click.command()
@click.argument("version")
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
@click.argument("before")
@click.argument("after")
@click.argument("table", default="")
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
@click.argument("version", default="")
@LAKE
@REMOTE
@click.option("--local", is_flag=True, help="Check only the cache, not a remote.")
@click.option("--repair", is_flag=True, help="Replace a damaged copy by the intact one in the other place.")
def fsck(version: str, lake: Path, remote: str, local: bool, repair: bool) -> None:
    """Verify every file of VERSION (by default, of all versions) in the cache and in a DVC remote."""
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
        raise VersionError(f"{len(bad)} files differ from those that were published", todo=todo)
    log(f"{', '.join(v.name for v in wanted) or 'no version yet'}: every file is as it was published")


@click.command()
@click.argument("names", metavar="[VERSION]...", nargs=-1)
@LAKE
@REMOTE
def push(names: tuple[str, ...], lake: Path, remote: str) -> None:
    """Send versions (by default, all) to a DVC remote, then push their commits and tags to the Git remote origin."""
    from affectlake.lake import repository, transfer
    from affectlake.lake.store.versions import list_versions, resolve

    root = repository.find(lake)
    wanted = [resolve(root, name) for name in names] or list_versions(root)
    done = transfer.push(root, wanted, remote, log)
    pushed = f"pushed {', '.join(done.versions)} to origin" if done.versions else "no Git remote origin: no tag pushed"
    log(f"{done.n_files} files sent; {pushed}")


@click.command()
@LAKE
@REMOTE
def pull(lake: Path, remote: str) -> None:
    """Fetch new versions from the Git remote origin, and the files of all versions from a DVC remote, verified."""
    from affectlake.lake import repository, transfer
    from affectlake.pipelines.params.schema import put_schema

    root = repository.find(lake)
    with repository.writing(root, "affectlake pull", wait_s=math.inf, say=log):
        done = transfer.pull(root, remote, log)
    put_schema(root)  # Git does not track it, so a clone lacks it
    log(f"{done.n_files} files received; new versions: {', '.join(done.versions) or 'none'}")


@click.command()
@LAKE
@click.option("--remove", is_flag=True, help="Remove the files; without it, only count them.")
@click.option("--days", type=click.FloatRange(min=0), help="Keep newer files; default: 1, or 14 for a shared cache.")
@click.option(
    "--shared-with",
    "others",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    metavar="DIR",
    help="Another repository that uses the same cache; its files are kept. Repeat for each.",
)
@click.option("--not-shared", is_flag=True, help="The cache is outside the lake, but no other repository uses it.")
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
    with repository.writing(root, "affectlake gc", wait_s=math.inf, say=log):
        found = garbage.unreferred(root, young_s=young_s, others=users)
        n_bytes = garbage.remove(found) if remove else sum(one.n_bytes for one in found)
    log(f"{len(found)} files, {n_bytes / 1e6:,.1f} MB {'removed' if remove else 'can be removed with --remove'}")
    if shared and not users:
        log("the cache is outside the lake, and these may include files of other repositories; see --shared-with")


@click.command()
@click.argument("version", default="latest")
@LAKE
def cite(version: str, lake: Path) -> None:
    """Print a citation of VERSION: commit, hashes of its tables and parameters, code version and sources."""
    from affectlake.lake import repository
    from affectlake.lake.cite import cite as citation
    from affectlake.lake.store.versions import resolve
    from affectlake.pipelines.params.record import record_at

    root = repository.find(lake)
    found = resolve(root, version)
    click.echo(citation(root, found, record_at(root, found).text("sources.kind")))


COMMANDS = (versions, query, checkout, restore, diff, fsck, push, pull, gc, cite)
