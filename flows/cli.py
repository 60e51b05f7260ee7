"""The command line. Data goes to stdout, progress to stderr; exit 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectlake.errors import AffectlakeError, UsageError, nearest
from flows.process import configure_process

if TYPE_CHECKING:
    from affectlake.lake.versions import Version

LAKE = click.option(
    "--lake", "lake", type=click.Path(path_type=Path), default=Path(), help="A folder in the lake; by default, here."
)
AT = click.option("--at", default="", metavar="VERSION", help="The version to read; by default, the latest.")
SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change params.yaml first.")
REMOTE = click.option("--remote", default="", metavar="NAME", help="A DVC remote; by default, the default one.")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


class _Commands(click.Group):
    """A group that offers the nearest command for one it does not know."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            raise UsageError(f"there is no command {args[0]!r}", allowed=", ".join(known), todo=nearest(args[0], known))
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="affectlake")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Ask models how emotions differ, keep every answer in exact versions, compare with people and brains."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--study", default="emotion", show_default=True, help="What to start from: emotion or demo.")
@SET
def init(folder: Path, study: str, settings: tuple[str, ...]) -> None:
    """Make FOLDER a new lake for a study."""
    from affectlake.lake import repository
    from pipelines import params, render, studies

    text = params.override(studies.starting_params(study), settings)
    params.parse(text)
    repository.init(folder, text)
    render.write(folder)
    say(f"made the lake {folder} for the study {study}; next: affectlake run --lake {folder}")


@cli.command()
@LAKE
@SET
def run(lake: Path, settings: tuple[str, ...]) -> None:
    """Bring every table up to date, publish one version and write its report."""
    from affectlake.lake import layout, repository, versions
    from flows.build import build
    from pipelines import params, reporting

    root = repository.find(lake)
    if settings:
        text = params.override((root / layout.PARAMS).read_text(encoding="utf-8"), settings)
        params.parse(text)
        (root / layout.PARAMS).write_text(text, encoding="utf-8")
    built = build(root, say)
    version = built.version or versions.resolve(root)
    path = reporting.write_report(root, version.name)
    made = _published(version) if built.version else f"{version.name} is up to date"
    say(f"{made} ({len(built.ran)} stages run, {len(built.skipped)} up to date)")
    for line in reporting.headlines(root, version):
        click.echo(line)
    click.echo(f"report: {path}")


@cli.command()
@LAKE
def publish(lake: Path) -> None:
    """Make what `dvc repro` built the next version."""
    from affectlake.lake import repository
    from flows.build import unfinished
    from pipelines import render

    root = repository.find(lake)
    with repository.writing(root, "affectlake publish"):
        render.refuse_stale(root)
        unfinished(root)
        version = repository.publish(root)
    say(_published(version) if version else "nothing changed since the last version")


@cli.command()
@LAKE
@JSON
def versions(lake: Path, as_json: bool) -> None:
    """List every version: its name, time, author and what changed."""
    from affectlake.lake import repository
    from affectlake.lake.versions import list_versions

    found = list_versions(repository.find(lake))
    if as_json:
        click.echo(json.dumps([v._asdict() for v in found], indent=2))
        return
    for v in found:
        click.echo(f"{v.name}  {v.created}  {v.commit[:10]}  {v.author}  affectlake {v.code_version}")
        for change in v.changes.split("; "):
            click.echo(f"    {change}")


@cli.command()
@LAKE
@JSON
def steps(lake: Path, as_json: bool) -> None:
    """List the stages of the lake's study, and whether each is up to date."""
    from affectlake.lake import repository
    from affectlake.lake.stages import is_current
    from pipelines import render
    from pipelines.graph import stages
    from pipelines.params import load

    root = repository.find(lake)
    params = load(root)
    render.refuse_stale(root)
    rows = [
        {
            "stage": stage.name,
            "state": "up to date" if is_current(root, stage.name) else "to run",
            "reads": list(stage.reads),
            "writes": list(stage.writes),
            "does": stage.step.summary,
        }
        for stage in stages(params).values()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['stage']:<36} {row['state']:<11} {row['does']}")


@cli.command()
@click.argument("sql")
@LAKE
@AT
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True, help="Of rows."
)
def query(sql: str, lake: Path, at: str, form: str) -> None:
    """Answer one SELECT over the tables of a version; `choices@v1` names a table of another."""
    from affectlake.lake import repository
    from flows.rows import print_rows

    print_rows(repository.find(lake), sql, at, form)


@cli.command()
@click.argument("version")
@LAKE
def checkout(version: str, lake: Path) -> None:
    """Put the tables and parameters of VERSION into the folder, verified; `latest` brings the last one back."""
    from affectlake.lake import repository
    from affectlake.lake.checkout import checkout as put_in_place
    from affectlake.lake.versions import resolve

    root = repository.find(lake)
    with repository.writing(root, "affectlake checkout"):
        found = resolve(root, version)
        done = put_in_place(root, found)
    say(f"{found.name} is in {root}: {len(done.placed)} outputs placed, {len(done.kept)} the same as before")


@cli.command()
@click.argument("before")
@click.argument("after")
@click.argument("table", default="")
@LAKE
@JSON
@click.option("--rows", is_flag=True, help="List the rows, not only their number.")
def diff(before: str, after: str, table: str, lake: Path, as_json: bool, rows: bool) -> None:
    """Count the rows added, removed and changed between two versions, by key."""
    from affectlake.lake import repository
    from affectlake.lake.diff import diff as compare
    from affectlake.lake.versions import resolve
    from flows.rows import print_changed_rows

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


@cli.command()
@click.argument("version", default="")
@LAKE
@click.option("--repair", is_flag=True, help="Replace a bad copy by a whole one from the other place.")
def fsck(version: str, lake: Path, repair: bool) -> None:
    """Hash every file of VERSION (of all, when none is named) in the cache and in a remote folder."""
    from affectlake.errors import VersionError
    from affectlake.lake import repository
    from affectlake.lake.integrity import check
    from affectlake.lake.versions import list_versions, resolve

    root = repository.find(lake)
    wanted = [resolve(root, version)] if version else list_versions(root)
    found = [finding for one in wanted for finding in check(root, one, repair=repair)]
    for finding in found:
        click.echo(finding)
    bad = [finding for finding in found if not finding.repaired]
    if bad:
        todo = "rebuild those tables with `affectlake run`" if repair else "try `affectlake fsck --repair`"
        raise VersionError(f"{len(bad)} files are not as they were published", todo=todo)
    say(f"{', '.join(v.name for v in wanted)}: every file is as it was published")


@cli.command()
@click.argument("names", metavar="[VERSION]...", nargs=-1)
@LAKE
@REMOTE
def push(names: tuple[str, ...], lake: Path, remote: str) -> None:
    """Send versions (all, when none is named) to a DVC remote, then announce them to the Git remote origin."""
    from affectlake.lake import repository, sharing
    from affectlake.lake.versions import list_versions, resolve

    root = repository.find(lake)
    wanted = [resolve(root, name) for name in names] or list_versions(root)
    done = sharing.push(root, wanted, remote)
    announced = f"announced {', '.join(done.versions)}" if done.versions else "no Git remote origin: nothing announced"
    say(f"{done.n_files} files sent; {announced}")


@cli.command()
@LAKE
@REMOTE
def pull(lake: Path, remote: str) -> None:
    """Bring new versions from the Git remote origin, and the files of all from a DVC remote, verified."""
    from affectlake.lake import repository, sharing

    root = repository.find(lake)
    with repository.writing(root, "affectlake pull"):
        done = sharing.pull(root, remote)
    say(f"{done.n_files} files came; {', '.join(done.versions) or 'no'} new versions")


@cli.command()
@LAKE
@click.option("--remove", is_flag=True, help="Remove them; without it, only say what would go.")
def gc(lake: Path, remove: bool) -> None:
    """Find cached files that no commit, working table or model run refers to."""
    from affectlake.lake import garbage, repository

    root = repository.find(lake)
    with repository.writing(root, "affectlake gc"):
        found = garbage.unreferred(root)
        n_bytes = garbage.remove(found) if remove else sum(one.n_bytes for one in found)
    say(f"{len(found)} files, {n_bytes / 1e6:,.1f} MB {'removed' if remove else 'could go; --remove removes them'}")


@cli.command()
@click.argument("version", default="latest")
@LAKE
def cite(version: str, lake: Path) -> None:
    """Print the citation block of VERSION: commit, hashes of its tables and parameters, code, sources."""
    from affectlake.lake import repository
    from affectlake.lake.citing import cite as citation
    from affectlake.lake.versions import resolve
    from pipelines.reporting import params_at

    root = repository.find(lake)
    found = resolve(root, version)
    click.echo(citation(root, found, params_at(root, found).sources.kind))


@cli.command()
@LAKE
@AT
@click.option("--output", type=click.Path(path_type=Path), help="Where to write it.")
def report(lake: Path, at: str, output: Path | None) -> None:
    """Write the HTML report of a version and print its path."""
    from affectlake.lake import repository
    from pipelines.reporting import write_report

    click.echo(write_report(repository.find(lake), at, output))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@LAKE
@AT
def maps(folder: Path, lake: Path, at: str) -> None:
    """Write a version's brain maps into FOLDER as NIfTI images and print their paths."""
    from affectlake.lake import repository
    from pipelines.exporting import write_maps

    for path in write_maps(repository.find(lake), folder, at):
        click.echo(path)


@cli.command()
@click.argument("collection")
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("data"), show_default=True, help="Where.")
def fetch(collection: str, folder: Path) -> None:
    """Fetch published recordings (horikawa2020: 5 subjects); goes on where it stopped, and verifies every file."""
    from affectlake.brain.fetching import COLLECTIONS
    from affectlake.brain.fetching import fetch as fetch_file

    if collection not in COLLECTIONS:
        raise UsageError(
            f"there is no collection {collection!r}",
            allowed=", ".join(COLLECTIONS),
            todo=nearest(collection, COLLECTIONS),
        )
    for remote in COLLECTIONS[collection]:
        click.echo(fetch_file(remote, folder, say))


@cli.command()
@LAKE
def render(lake: Path) -> None:
    """Write dvc.yaml anew from params.yaml and the steps."""
    from affectlake.lake import repository
    from pipelines import render as renderer

    say("dvc.yaml written" if renderer.write(repository.find(lake)) else "dvc.yaml is up to date")


@cli.command(hidden=True)
@click.argument("name")
@LAKE
@click.option("--step-version", type=int, required=True)
def step(name: str, lake: Path, step_version: int) -> None:
    """Run one stage; what `dvc repro` calls."""
    from affectlake.errors import LakeError
    from affectlake.lake import repository
    from pipelines.graph import stage_named, stages
    from pipelines.params import load
    from pipelines.runner import run_stage

    root = repository.find(lake)
    params = load(root)
    stage = stage_named(name, stages(params))
    if stage.step.version != step_version:
        raise LakeError(
            f"dvc.yaml asks for version {step_version} of {stage.step.name}",
            found=f"version {stage.step.version}",
            todo="write dvc.yaml anew: `affectlake render`",
        )
    outcome = run_stage(root, stage, params, lambda line: say(f"{name}: {line}"))
    say(f"{name}: done in {outcome.seconds:.1f} s: {outcome}")


def _published(version: Version) -> str:
    changes = version.changes.split("; ")
    more = f"; and {len(changes) - 3} more outputs" if len(changes) > 3 else ""
    return f"published {version.name}: {'; '.join(changes[:3])}{more}"


def say(line: str) -> None:
    """Print a line of progress on stderr."""
    click.echo(line, err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    given = sys.argv[1:] if arguments is None else arguments
    configure_process()
    try:
        cli.main(given, standalone_mode=False)
    except AffectlakeError as error:
        if "--debug" in given:
            raise
        say(f"affectlake: {error}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        say("affectlake: interrupted; what had finished is kept, the version did not move")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if "--debug" in given:
            raise
        say(f"affectlake: {type(error).__name__}: {error}\n  to do: run again with --debug for the traceback")
        sys.exit(1)
