"""The commands that make and build a study: create a lake, run its stages, publish, fetch recordings."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from affectlake.cli import completion
from affectlake.cli.options import JSON, LAKE, SET
from affectlake.errors import UsageError, nearest
from affectlake.process.environment import compute_on_one_thread
from affectlake.process.terminal import colour, log

if TYPE_CHECKING:
    from affectlake.lake.store.versions import Version


@click.command()
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
    from affectlake.pipelines.engine import dvcfile as render
    from affectlake.pipelines.engine.source_files import source_faults
    from affectlake.pipelines.outputs.root_files import write_first_files
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
    write_first_files(folder, parsed.raw)
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


@click.command()
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


@click.command()
@LAKE
def publish(lake: Path) -> None:
    """Publish the tables that `dvc repro` built as the next version."""
    from affectlake.flows.build import unfinished
    from affectlake.lake import repository
    from affectlake.lake.files import layout
    from affectlake.lake.preflight import prepare
    from affectlake.pipelines.engine import dvcfile as render
    from affectlake.pipelines.outputs.root_files import root_files
    from affectlake.pipelines.params.study import load

    root = repository.find(lake)
    with repository.writing(root, "affectlake publish", wait_s=math.inf, say=log):
        prepare(root, log)
        render.refuse_stale(root)
        params = load(root)
        pinned = {layout.PARAMS: params.text, layout.PIPELINE: (root / layout.PIPELINE).read_bytes()}
        pinned |= params.protocol_files
        unfinished(root, params, pinned)
        version = repository.publish(root, log, pinned, root_files(root, params.raw))
    log(_published(version) if version else "nothing changed since the last version")


@click.command()
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


@click.command()
@LAKE
def render(lake: Path) -> None:
    """Write dvc.yaml from params.yaml and the steps."""
    from affectlake.lake import repository
    from affectlake.pipelines.engine import dvcfile as renderer
    from affectlake.pipelines.params.schema import put_schema

    root = repository.find(lake)
    put_schema(root)
    log("dvc.yaml written" if renderer.write(root) else "dvc.yaml is up to date")


@click.command(hidden=True)
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


@click.command()
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


def _published(version: Version) -> str:
    changes = version.changes.split("; ")
    more = f"; and {len(changes) - 3} more outputs" if len(changes) > 3 else ""
    return f"published {version.name}: {'; '.join(changes[:3])}{more}"


COMMANDS = (init, run, publish, steps, render, step, fetch)
