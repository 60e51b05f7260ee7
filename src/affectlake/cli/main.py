"""The command line. Data goes to stdout, progress to stderr; exit status 0: done, 1: failed, 2: wrong usage."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import traceback
from collections import Counter
from copy import copy
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from affectlake.cli import completion
from affectlake.cli.options import AT, JSON, LAKE, SET, VERSION, everywhere
from affectlake.errors import AffectlakeError, UsageError, nearest
from affectlake.extras import missing_extra, require
from affectlake.process.environment import compute_on_one_thread, configure_process
from affectlake.process.streams import open_closed_streams
from affectlake.process.terminal import colour, complain, log

if TYPE_CHECKING:
    from affectlake.lake.store.versions import Version

FULL = "affectlake: the disk is full; no data was lost, no version changed\n  to do: free disk space, then run it again"


# the module of each command that is not in this one; it is imported when the command is used
MODULES = {
    **dict.fromkeys(
        ("versions", "tag", "query", "checkout", "restore", "diff", "fsck", "push", "pull", "gc", "cite"),
        "affectlake.cli.versions",
    ),
    "propose": "affectlake.cli.planning",
    **dict.fromkeys(("collect", "status", "collection"), "affectlake.cli.collection"),
    **dict.fromkeys(("positions", "injections"), "affectlake.cli.judging"),
    "figure": "affectlake.cli.figures",
    "protocols": "affectlake.cli.protocols",
    **dict.fromkeys(("schedule", "serve"), "affectlake.cli.schedules"),
    "import": "affectlake.cli.importing",
    "join": "affectlake.cli.joining",
    "remote": "affectlake.cli.remotes",
    "verify": "affectlake.cli.verification",
    "completion": "affectlake.cli.completion",
    **dict.fromkeys(("archive", "open", "views"), "affectlake.cli.archiving"),
    **dict.fromkeys(("ui", "bundle"), "affectlake.cli.pages"),
}

_OF_STUDIES = (
    "init run steps render publish maps step ui bundle collect status collection propose positions injections protocols"
    " schedule serve import join verify"
)
NEEDS = dict.fromkeys(("push", "pull", "remote"), "remote") | dict.fromkeys(_OF_STUDIES.split(), "study")
"""The extra that each command needs; all others read a lake and need none."""

EARLIER_NAMES = {"plan": "propose", "canaries": "injections"}
"""Names of commands before version 0.2. They are hidden, and will be removed in the release after it."""


class _Commands(click.Group):
    """A group that imports its commands lazily, and suggests the most similar command for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in EARLIER_NAMES:
            return _renamed(self.get_command(ctx, EARLIER_NAMES[cmd_name]), cmd_name)
        if cmd_name not in MODULES:
            return _with_options(super().get_command(ctx, cmd_name))
        commands: tuple[click.Command, ...] = import_module(MODULES[cmd_name]).COMMANDS
        return _with_options(next(command for command in commands if command.name == cmd_name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            raise UsageError(f"there is no command {args[0]!r}", allowed=", ".join(known), todo=nearest(args[0], known))
        name, command, rest = super().resolve_command(ctx, args)
        named = str(command.name) if command is not None else ""
        if named in NEEDS and not {"-h", "--help"}.intersection(rest):
            require(NEEDS[named], f"affectlake {named}")
        return name, command, rest


def _with_options(command: click.Command | None) -> click.Command | None:
    """Add the options of every command to a command and its subcommands."""
    if command is not None and not any(parameter.name == "quiet" for parameter in command.params):
        command.params.extend(everywhere(hidden=True))
        for one in command.commands.values() if isinstance(command, click.Group) else ():
            _with_options(one)
    return command


def _renamed(command: click.Command | None, earlier: str) -> click.Command:
    """Return a hidden copy of `command` under an earlier name; using it prints the current name on stderr."""
    assert command is not None
    alias = copy(command)
    alias.name, alias.hidden, alias.deprecated = earlier, True, f"use `affectlake {command.name}`"
    return alias


@click.group(cls=_Commands, params=everywhere(hidden=False), context_settings={"help_option_names": ["-h", "--help"]})
@VERSION
def cli() -> None:
    """Ask models how emotions differ, keep the answers in exact versions, and compare with people and brains.

    The options below may also follow COMMAND.
    """


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--study", default="", help="The study to start from: emotion (the default) or demo.")
@click.option(
    "--from",
    "files",
    type=click.Path(path_type=Path),
    help="A folder of your own stimuli, ratings, captions and media: params.yaml is guessed from its files.",
)
@SET
def init(folder: Path, study: str, files: Path | None, settings: tuple[str, ...]) -> None:
    """Create a new lake for a study in FOLDER."""
    from affectlake.lake import repository
    from affectlake.lake.files import layout
    from affectlake.pipelines.engine import dvcfile as render
    from affectlake.pipelines.engine.source_files import source_faults
    from affectlake.pipelines.outputs.lake_readme import first_readme
    from affectlake.pipelines.params import study as params
    from affectlake.pipelines.params import templates
    from affectlake.pipelines.params.schema import MODELINE, put_schema
    from affectlake.pipelines.params.text import override

    if files is not None and study:
        raise UsageError("--from cannot be combined with --study", todo="leave one of them out")
    found = None
    if files is not None:
        from affectlake.pipelines.params import from_folder
        from affectlake.stimuli.guessing import guess

        found = guess(files)
        text = from_folder.params_from(found, folder)
        for line in from_folder.summary_of(found):
            log(line)
    else:
        text = templates.starting_params(study or "emotion")
    text = override(text, settings)
    parsed = params.parse(text)
    repository.init(folder, f"{MODELINE}{text}")
    (folder / layout.README).write_text(first_readme(parsed.raw), encoding="utf-8")
    put_schema(folder)
    render.write(folder)
    if found is not None and found.stimuli is None:
        from_folder.write_list(found, folder)
    if found is not None:
        log(f"created the lake {folder}; next: read the guesses in {folder / 'params.yaml'}, then")
        log(f"  affectlake run --lake {folder}")
    else:
        log(f"created the lake {folder} for the study {study or 'emotion'}; next: affectlake run --lake {folder}")
    for fault in source_faults(folder, params.load(folder)):
        log(f"the sources cannot be read yet: {fault}")


@cli.command()
@LAKE
@SET
@click.option(
    "--only",
    multiple=True,
    metavar="STAGE",
    shell_complete=completion.stages,
    help="Only this stage (embed@human-category) or all stages of a step (embed), and those that it needs; repeatable.",
)
@click.option("--force", is_flag=True, help="Run stages again that are up to date: those of --only, or all.")
@click.option("--no-report", is_flag=True, help="Write no report; `affectlake report` writes it later.")
@JSON
def run(
    lake: Path, settings: tuple[str, ...], only: tuple[str, ...], force: bool, no_report: bool, as_json: bool
) -> None:
    """Bring all tables up to date, publish a version and write its report."""
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
    workers()  # raises if a number is not valid, before anything is written
    answer_limit_s()
    if settings:
        text = override((root / layout.PARAMS).read_text(encoding="utf-8"), settings)
        params.parse(text, lake=root)
        write_whole(root / layout.PARAMS, text.encode())
    with exit_on_interrupt(log, "finished stages are kept, the version did not change; run it again to continue"):
        built = build(root, log, only, force=force)
    counts = f"({len(built.ran)} stages run, {len(built.skipped)} up to date)"
    if built.left:
        log(f"no version was published {counts}")
        if as_json:
            click.echo(json.dumps({"version": None, "published": False, **built.stages()}, indent=2))
        return
    version = built.version or versions.resolve(root)
    path = None if no_report else latest_report(root, version)
    log(f"{_published(version) if built.version else f'{version.name} is up to date'} {counts}")
    lines = reporting.headlines(root, version)
    if as_json:
        said = {"version": version.name, "published": built.version is not None, **built.stages()}
        click.echo(json.dumps(said | {"report": path and str(path), "headline": lines}, indent=2))
        return
    for line in lines:
        click.echo(line)
    if path:
        click.echo(f"report: {path}")


@cli.command()
@LAKE
def publish(lake: Path) -> None:
    """Publish the tables that `dvc repro` built as the next version."""
    from affectlake.flows.build import unfinished
    from affectlake.lake import repository
    from affectlake.lake.files import layout
    from affectlake.lake.preflight import prepare
    from affectlake.pipelines.engine import dvcfile as render
    from affectlake.pipelines.outputs.lake_readme import lake_readme
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    with repository.writing(root, "affectlake publish", wait_s=math.inf, say=log):
        prepare(root, log)
        render.refuse_stale(root)
        params = load(root)
        pinned = {layout.PARAMS: params.text, layout.PIPELINE: (root / layout.PIPELINE).read_bytes()}
        pinned |= params.protocol_files
        unfinished(root, params, pinned)
        version = repository.publish(root, log, pinned, lake_readme(root, params.raw))
    log(_published(version) if version else "nothing changed since the last version")


@cli.command()
@LAKE
@JSON
def steps(lake: Path, as_json: bool) -> None:
    """List the stages of the study: up to date, to run, or (in a clone) unchanged and to be restored from the cache."""
    from affectlake.lake import repository
    from affectlake.pipelines.engine.stage_states import stage_states

    found = stage_states(repository.find(lake))
    rows = [
        {
            "stage": one.stage,
            "state": one.state,
            "reads": [str(output) for output in one.reads],
            "writes": [str(output) for output in one.writes],
            "does": one.does,
        }
        for one in found
    ]
    counts = Counter(one.state for one in found)
    if n := counts["to restore"]:
        log(f"{n} stages are unchanged: `affectlake run` restores their tables; {counts['to run']} are to run")
    if n := counts["to pull"]:
        log(f"{n} stages are unchanged, but their tables are not on this machine: `affectlake pull`")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        state = click.style(f"{row['state']:<11}", fg="green" if row["state"] == "up to date" else "yellow")
        click.echo(f"{row['stage']:<36} {state} {row['does']}", color=colour())


@cli.command()
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


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@LAKE
@AT
@click.option("--surfaces", is_flag=True, help="Also draw each map on a cortical surface: fsaverage5 or the subject's.")
@click.option(
    "--mask",
    type=click.Choice(["fdr", "fwe", "none"]),
    help="Significant voxels, in images of their own and in drawings; by default brain.mask of the version.",
)
def maps(folder: Path, lake: Path, at: str, surfaces: bool, mask: str | None) -> None:
    """Write a version's brain maps to FOLDER as NIfTI images and print their paths."""
    from affectlake.lake import repository
    from affectlake.pipelines.outputs.nifti import write_maps

    for path in write_maps(repository.find(lake), folder, at, surfaces, log, mask or ""):
        click.echo(path)


@cli.command()
@click.argument("collection")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="The folder for the files.",
)
def fetch(collection: str, folder: Path) -> None:
    """Download published recordings (horikawa2020: 5 subjects) and verify every file; resumes if interrupted."""
    from affectlake.brain.recordings.fetching import COLLECTIONS
    from affectlake.brain.recordings.fetching import fetch as fetch_file

    if collection not in COLLECTIONS:
        raise UsageError(
            f"there is no collection {collection!r}",
            allowed=", ".join(COLLECTIONS),
            todo=nearest(collection, COLLECTIONS),
        )
    for remote in COLLECTIONS[collection]:
        click.echo(fetch_file(remote, folder, log))


@cli.command()
@LAKE
def render(lake: Path) -> None:
    """Write dvc.yaml from params.yaml and the steps."""
    from affectlake.lake import repository
    from affectlake.pipelines.engine import dvcfile as renderer
    from affectlake.pipelines.params.schema import put_schema

    root = repository.find(lake)
    put_schema(root)
    log("dvc.yaml written" if renderer.write(root) else "dvc.yaml is up to date")


@cli.command(hidden=True)
@click.argument("name")
@LAKE
@click.option("--step-version", type=int, required=True)
def step(name: str, lake: Path, step_version: int) -> None:
    """Run one stage. `dvc repro` calls this command."""
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
            todo="update dvc.yaml with `affectlake render`",
        )
    sources = SourceFiles(root, stage, params)
    outcome = run_stage(root, stage, params, lambda line: log(f"{name}: {line}"))
    sources.refuse_changed()
    now = load(root)
    edited = [key for key in keys_of(stage.step, stage.agent, params, stage.agents) if now.at(key) != params.at(key)]
    if edited:  # DVC would record the current values of the file
        raise LakeError(
            f"params.yaml was changed while {name} ran; its outputs are not recorded",
            found=", ".join(edited),
            todo="run `dvc repro` again",
        )
    log(f"{name}: done in {outcome.seconds:.1f} s: {outcome}")


def _published(version: Version) -> str:
    changes = version.changes.split("; ")
    more = f"; and {len(changes) - 3} more outputs" if len(changes) > 3 else ""
    return f"published {version.name}: {'; '.join(changes[:3])}{more}"


def _is_full(error: BaseException | None) -> bool:
    """Return whether a full disk caused an error: by its number or, for Git and SQLite, its message."""
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
    named = next((word for word in given if not word.startswith("-")), "")
    configure_process(for_prefect=NEEDS.get(EARLIER_NAMES.get(named, named)) == "study")
    try:
        cli.main(given, standalone_mode=False)
        sys.stdout.flush()
        if arguments is None and given[:1] == ["query"]:
            os._exit(0)  # the rows are written and DuckDB is closed; Python's shutdown takes a tenth of the time
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        complain(shown.getvalue().rstrip())
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        complain("affectlake: interrupted; finished work is kept, the version did not change")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        lacking = missing_extra(error, f"affectlake {named}")
        if "--debug" in given:
            complain(traceback.format_exc())
        elif lacking is not None:
            complain(f"affectlake: {lacking}")
        elif _is_full(error):
            complain(FULL)
        elif isinstance(error, AffectlakeError):
            complain(f"affectlake: {error}")
        else:
            what = ", ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            complain(f"affectlake: {what}\n  to do: run again with --debug for the traceback")
        sys.exit(error.exit_code if isinstance(error, AffectlakeError) else 1)
