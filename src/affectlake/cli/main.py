"""The command line. Data goes to stdout, progress to stderr; exit 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import traceback
from copy import copy
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectlake.cli.options import AT, JSON, LAKE, SET, VERSION
from affectlake.errors import AffectlakeError, UsageError, nearest
from affectlake.process.environment import compute_on_one_thread, configure_process
from affectlake.process.streams import open_closed_streams
from affectlake.process.terminal import say

if TYPE_CHECKING:
    from affectlake.lake.store.versions import Version

FULL = "affectlake: the disk is full; nothing was lost and no version moved\n  to do: make room, then run it again"


# the module of each command that is not here; it is imported when the command is asked for
MODULES = {
    **dict.fromkeys(
        ("versions", "query", "checkout", "restore", "diff", "fsck", "push", "pull", "gc", "cite"),
        "affectlake.cli.versions",
    ),
    "propose": "affectlake.cli.planning",
    **dict.fromkeys(("collect", "status", "collection"), "affectlake.cli.collection"),
    **dict.fromkeys(("positions", "injections"), "affectlake.cli.judging"),
    **dict.fromkeys(("schedule", "serve"), "affectlake.cli.schedules"),
    "join": "affectlake.cli.joining",
}

EARLIER_NAMES = {"plan": "propose", "canaries": "injections"}
"""Commands under the names that they had before 0.2; hidden, and gone in the release after it."""


class _Commands(click.Group):
    """A group that imports its commands late, and offers the nearest for one it does not know."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in EARLIER_NAMES:
            return _renamed(self.get_command(ctx, EARLIER_NAMES[cmd_name]), cmd_name)
        if cmd_name not in MODULES:
            return super().get_command(ctx, cmd_name)
        commands: tuple[click.Command, ...] = import_module(MODULES[cmd_name]).COMMANDS
        return next(command for command in commands if command.name == cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            raise UsageError(f"there is no command {args[0]!r}", allowed=", ".join(known), todo=nearest(args[0], known))
        return super().resolve_command(ctx, args)


def _renamed(command: click.Command | None, earlier: str) -> click.Command:
    """Return `command` under an earlier name, hidden; using it prints the present name on stderr."""
    assert command is not None
    alias = copy(command)
    alias.name, alias.hidden, alias.deprecated = earlier, True, f"use `affectlake {command.name}`"
    return alias


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@VERSION
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
    from affectlake.pipelines.engine import dvcfile as render
    from affectlake.pipelines.params import study as params
    from affectlake.pipelines.params import templates
    from affectlake.pipelines.params.schema import MODELINE, put_schema
    from affectlake.pipelines.params.text import override

    text = override(templates.starting_params(study), settings)
    params.parse(text)
    repository.init(folder, f"{MODELINE}{text}")
    put_schema(folder)
    render.write(folder)
    say(f"made the lake {folder} for the study {study}; next: affectlake run --lake {folder}")


@cli.command()
@LAKE
@SET
def run(lake: Path, settings: tuple[str, ...]) -> None:
    """Bring every table up to date, publish one version and write its report."""
    compute_on_one_thread()
    from affectlake.flows.build import build
    from affectlake.lake import repository
    from affectlake.lake.files import layout
    from affectlake.lake.files.atomic import write_whole
    from affectlake.lake.store import versions
    from affectlake.pipelines.engine.runner import workers
    from affectlake.pipelines.engine.tracking_server import answer_limit_s
    from affectlake.pipelines.outputs import report as reporting
    from affectlake.pipelines.outputs.latest_report import latest_report
    from affectlake.pipelines.params import study as params
    from affectlake.pipelines.params.text import override
    from affectlake.process.interrupts import exit_on_interrupt

    root = repository.find(lake)
    workers()  # wrong numbers are refused before anything is written
    answer_limit_s()
    if settings:
        text = override((root / layout.PARAMS).read_text(encoding="utf-8"), settings)
        params.parse(text)
        write_whole(root / layout.PARAMS, text.encode())
    with exit_on_interrupt(say, "what had finished is kept, the version did not move; run it again to go on"):
        built = build(root, say)
    version = built.version or versions.resolve(root)
    path = latest_report(root, version)
    made = _published(version) if built.version else f"{version.name} is up to date"
    say(f"{made} ({len(built.ran)} stages run, {len(built.skipped)} up to date)")
    for line in reporting.headlines(root, version):
        click.echo(line)
    click.echo(f"report: {path}")


@cli.command()
@LAKE
def publish(lake: Path) -> None:
    """Make what `dvc repro` built the next version."""
    from affectlake.flows.build import unfinished
    from affectlake.lake import repository
    from affectlake.lake.files import layout
    from affectlake.lake.preflight import prepare
    from affectlake.pipelines.engine import dvcfile as render
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    with repository.writing(root, "affectlake publish", wait_s=math.inf, say=say):
        prepare(root, say)
        render.refuse_stale(root)
        params = load(root)
        pinned = {layout.PARAMS: params.text, layout.PIPELINE: (root / layout.PIPELINE).read_bytes()}
        unfinished(root, params, pinned)
        version = repository.publish(root, say, pinned)
    say(_published(version) if version else "nothing changed since the last version")


@cli.command()
@LAKE
@JSON
def steps(lake: Path, as_json: bool) -> None:
    """List the stages of the lake's study, and whether each is up to date."""
    from affectlake.lake import repository
    from affectlake.lake.files import layout
    from affectlake.lake.store.dvc_stages import is_current
    from affectlake.pipelines.engine import dvcfile as render
    from affectlake.pipelines.engine.graph import stages
    from affectlake.pipelines.params.study import load
    from affectlake.pipelines.stored import stored

    root = repository.find(lake)
    params = load(root)
    held = stored(root)
    pinned = {layout.PIPELINE: render.render(params, held).encode()}  # as the next run writes it
    rows = [
        {
            "stage": stage.name,
            "state": "up to date" if is_current(root, stage.name, pinned) else "to run",
            "reads": [str(output) for output in stage.reads],
            "writes": [str(output) for output in stage.writes],
            "does": stage.step.summary,
        }
        for stage in stages(params, held).values()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['stage']:<36} {row['state']:<11} {row['does']}")


@cli.command()
@LAKE
@AT
@click.option("--output", type=click.Path(path_type=Path), help="Where to write it.")
@click.option("--compare", nargs=2, default=None, metavar="V1 V2", help="Set two versions beside each other instead.")
@click.option("--figures", is_flag=True, help="Also write every figure as SVG, PNG and PDF, and its numbers as CSV.")
@click.option("--no-pictures", is_flag=True, help="Leave frames of videos out, captions in their place.")
@click.option("--open", "show", is_flag=True, help="Open it in the web browser.")
def report(
    lake: Path,
    at: str,
    output: Path | None,
    compare: tuple[str, str] | None,
    figures: bool,
    no_pictures: bool,
    show: bool,
) -> None:
    """Write the HTML report of a version and print its path."""
    from affectlake.lake import repository
    from affectlake.pipelines.outputs import report as reporting

    root = repository.find(lake)
    if compare and (at or figures):
        raise UsageError("--compare names its own versions", todo="leave --at and --figures out")
    if compare:
        path = reporting.write_comparison(root, *compare, output)
    else:
        path = reporting.write_report(root, at, output, pictures=not no_pictures)
    click.echo(path)
    if figures:
        folder = path.with_name(f"{path.stem}-figures")
        say(f"{len(reporting.write_figures(root, at, folder)):,} files of figures in {folder}")
    if show:
        click.launch(str(path))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@LAKE
@AT
@click.option("--surfaces", is_flag=True, help="Draw each map on the cortex too: fsaverage5, or the subject's own.")
def maps(folder: Path, lake: Path, at: str, surfaces: bool) -> None:
    """Write a version's brain maps into FOLDER as NIfTI images and print their paths."""
    from affectlake.lake import repository
    from affectlake.pipelines.outputs.nifti import write_maps

    for path in write_maps(repository.find(lake), folder, at, surfaces, say):
        click.echo(path)


@cli.command()
@click.argument("collection")
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("data"), show_default=True, help="Where.")
def fetch(collection: str, folder: Path) -> None:
    """Fetch published recordings (horikawa2020: 5 subjects); goes on where it stopped, and verifies every file."""
    from affectlake.brain.recordings.fetching import COLLECTIONS
    from affectlake.brain.recordings.fetching import fetch as fetch_file

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
    from affectlake.pipelines.engine import dvcfile as renderer
    from affectlake.pipelines.params.schema import put_schema

    root = repository.find(lake)
    put_schema(root)
    say("dvc.yaml written" if renderer.write(root) else "dvc.yaml is up to date")


@cli.command(hidden=True)
@click.argument("name")
@LAKE
@click.option("--step-version", type=int, required=True)
def step(name: str, lake: Path, step_version: int) -> None:
    """Run one stage; what `dvc repro` calls."""
    compute_on_one_thread()
    from affectlake.errors import LakeError
    from affectlake.lake import repository
    from affectlake.pipelines.engine.graph import stage_named, stages
    from affectlake.pipelines.engine.parameters import keys_of
    from affectlake.pipelines.engine.runner import run_stage
    from affectlake.pipelines.engine.source_files import SourceFiles
    from affectlake.pipelines.params.study import load
    from affectlake.pipelines.stored import stored

    root = repository.find(lake)
    params = load(root)
    stage = stage_named(name, stages(params, stored(root)))
    if stage.step.version != step_version:
        raise LakeError(
            f"dvc.yaml asks for version {step_version} of {stage.step.name}",
            found=f"version {stage.step.version}",
            todo="write dvc.yaml anew: `affectlake render`",
        )
    sources = SourceFiles(root, stage, params)
    outcome = run_stage(root, stage, params, lambda line: say(f"{name}: {line}"))
    sources.refuse_changed()
    now = load(root)
    edited = [key for key in keys_of(stage.step, stage.agent, params, stage.agents) if now.at(key) != params.at(key)]
    if edited:  # DVC would record the values that the file has by now
        raise LakeError(
            f"params.yaml was changed while {name} ran; what it made is not recorded",
            found=", ".join(edited),
            todo="run `dvc repro` again",
        )
    say(f"{name}: done in {outcome.seconds:.1f} s: {outcome}")


def _published(version: Version) -> str:
    changes = version.changes.split("; ")
    more = f"; and {len(changes) - 3} more outputs" if len(changes) > 3 else ""
    return f"published {version.name}: {'; '.join(changes[:3])}{more}"


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, by its number or, of Git and SQLite, by their words."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "database or disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    given = sys.argv[1:] if arguments is None else arguments
    open_closed_streams()
    configure_process()
    try:
        cli.main(given, standalone_mode=False)
        sys.stdout.flush()
        if arguments is None and given[:1] == ["query"]:
            os._exit(0)  # the rows are out and DuckDB is closed; unloading Python's modules is a tenth of the wait
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip())
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        say("affectlake: interrupted; what had finished is kept, the version did not move")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if "--debug" in given:
            say(traceback.format_exc())
        elif _is_full(error):
            say(FULL)
        elif isinstance(error, AffectlakeError):
            say(f"affectlake: {error}")
        else:
            what = f"{type(error).__name__}: {error}"
            say(f"affectlake: {what}\n  to do: run again with --debug for the traceback")
        sys.exit(error.exit_code if isinstance(error, AffectlakeError) else 1)
