"""The commands that verify, share and clean up the files of versions, implemented in :mod:`affectlake.lake`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from affectlake.cli import completion
from affectlake.cli.options import JSON, LAKE, REMOTE
from affectlake.errors import UsageError
from affectlake.process.terminal import log


@click.command()
@click.argument("version", default="", shell_complete=completion.versions)
@LAKE
@REMOTE
@click.option("--local", is_flag=True, help="Check only the cache, not a remote.")
@click.option("--repair", is_flag=True, help="Replace a damaged copy by the intact one in the other place.")
@JSON
def fsck(version: str, lake: Path, remote: str, local: bool, repair: bool, as_json: bool) -> None:
    """Verify every file of VERSION in the cache and in a DVC remote; by default, of all versions, and the folder's."""
    from affectlake.errors import LakeError, VersionError
    from affectlake.lake import repository
    from affectlake.lake.fsck import check
    from affectlake.lake.store.versions import list_versions, resolve
    from affectlake.lake.store.working_tables import folder_faults

    root = repository.find(lake)
    wanted = [resolve(root, version)] if version else list_versions(root)
    try:
        found = check(root, *wanted, repair=repair, remote=None if local else remote)
    except LakeError as error:
        error.todo += "; or check only the cache with --local"
        raise
    faults = [] if version else folder_faults(root)
    if as_json:
        said = {"versions": [one._asdict() for one in found], "folder": [one._asdict() for one in faults]}
        click.echo(json.dumps(said, indent=2))
    for line in () if as_json else (*found, *faults):
        click.echo(line)
    bad = [finding for finding in found if not finding.repaired]
    if faults and not bad:
        cut_off = all(one.state == "not recorded" for one in faults)
        back = "put them back with `affectlake restore`, which moves changed ones to quarantine"
        raise LakeError(
            f"{len(faults)} files of tables in the folder are not as recorded; the versions are intact",
            todo="finish the run with `affectlake run`" if cut_off else back,
        )
    if bad:
        todo = "rebuild those tables with `affectlake run`" if repair else "try `affectlake fsck --repair`"
        raise VersionError(f"{len(bad)} files differ from those that were published", todo=todo)
    log(f"{', '.join(v.name for v in wanted) or 'no version yet'}: every file is as it was published")


@click.command()
@click.argument("names", metavar="[VERSION]...", nargs=-1, shell_complete=completion.versions)
@LAKE
@REMOTE
@click.option("--public", is_flag=True, help="The remotes are public: refuse versions that may not be republished.")
def push(names: tuple[str, ...], lake: Path, remote: str, public: bool) -> None:
    """Send versions (by default, all) to a DVC remote, then push their commits and tags to the Git remote origin.

    Nothing is pushed to origin unless a clone could fetch the files (see `affectlake remote`).
    """
    from affectlake.errors import LakeError
    from affectlake.lake import repository, transfer
    from affectlake.lake.store.versions import list_versions, resolve

    root = repository.find(lake)
    wanted = [resolve(root, name) for name in names] or list_versions(root)
    if not wanted:
        raise LakeError("there is no version to push yet", todo="`affectlake run` makes one")
    if public:
        from affectlake.pipelines.outputs.restricted import refuse_restricted

        refuse_restricted(root, wanted)
    done = transfer.push(root, wanted, remote, log)
    if not done.versions:
        raise LakeError(
            f"{done.n_files} files were sent to the DVC remote, but no version was announced",
            wanted="a Git remote origin, from which others clone",
            todo="`git remote add origin URL`, then push again",
        )
    log(f"{done.n_files} files sent; pushed {', '.join(done.versions)} to origin")


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
@JSON
def gc(lake: Path, remove: bool, days: float | None, others: tuple[Path, ...], not_shared: bool, as_json: bool) -> None:
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
    if as_json:
        click.echo(json.dumps({"n_files": len(found), "n_bytes": n_bytes, "removed": remove}))
    log(f"{len(found)} files, {n_bytes / 1e6:,.1f} MB {'removed' if remove else 'can be removed with --remove'}")
    if shared and not users:
        log("the cache is outside the lake, and these may include files of other repositories; see --shared-with")


COMMANDS = (fsck, push, pull, gc)
