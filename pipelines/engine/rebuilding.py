"""Rebuild a version beside the lake, and compare every table byte for byte with the published one.

Each stage reads the published tables, not those that were rebuilt before it, except tables that the version does not
have because later code added them. A difference is therefore reported for the stage in which it arises and for no
other; if every stage gives the published bytes, so does the whole study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from affectlake.errors import AffectlakeError, UsageError, VersionError
from affectlake.lake.diff import Rows, column_changes, compare_files
from affectlake.lake.files import layout
from affectlake.lake.files.atomic import md5_of
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import Listed, listing_digest
from affectlake.lake.store.git_objects import blobs, content_at, read_blobs
from affectlake.lake.store.step_versions import stage_version
from affectlake.lake.store.versions import File, Manifest, Version, list_versions
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.parts import write_parts
from affectlake.pipelines.engine.graph import Stage, stages
from affectlake.pipelines.engine.runner import opened, part_paths, workers
from affectlake.pipelines.params.study import Params, parse
from affectlake.pipelines.step import StepContext
from affectlake.pipelines.stored import stored
from affectlake.process.code_version import code_version
from affectlake.process.provenance import environment, environment_changes

State = Literal["same", "differs", "not rebuilt"]


class Rebuilt(NamedTuple):
    """One table of a version after its stage ran again.

    `state` is 'same' if the bytes are those that were published; otherwise `reasons` has the rows that differ and what
    is known of the cause, or why the table could not be rebuilt.
    """

    output: Output
    state: State
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Rebuild:
    """The rebuild of one version: its lake, the folder beside it, its parameters, and all versions, oldest first."""

    lake: Path
    version: Version
    aside: Path
    manifest: Manifest
    params: Params
    history: list[tuple[Version, Manifest]]
    log: Callable[[str], None]

    @property
    def published(self) -> Path:
        """Folder with the published tables, laid out as a lake."""
        return self.aside / "published"

    @property
    def rebuilt(self) -> Path:
        """Folder with the rebuilt tables, laid out as a lake."""
        return self.aside / "rebuilt"


def rebuild(lake: Path, version: Version, aside: Path, log: Callable[[str], None]) -> Iterator[Rebuilt]:
    """Run each stage of a version again and yield its tables, compared with the published ones.

    Nothing is written in the lake. The random numbers of a stage depend on the study's seed alone, so that the same
    code, packages and processor give the same bytes.

    Parameters
    ----------
    lake : Path
        Root of the lake; source files are read from where the version's parameters say.
    version : Version
        The version.
    aside : Path
        An empty folder for links to the published tables and for the rebuilt ones.
    log : callable
        Takes one line of progress.

    Yields
    ------
    Rebuilt
        Every table that a step made, in the order of the steps; collected tables are inputs.

    Raises
    ------
    VersionError
        If a file of the version is missing or damaged, or this code cannot run its parameters.
    """
    manifest = Manifest(lake, version.commit)
    log(f"{version.name} was published by affectlake {version.code_version}; this is affectlake {code_version()}")
    _link_published(manifest, aside / "published")
    params = _params(lake, version, aside / "published")
    history = [(known, Manifest(lake, known.commit)) for known in list_versions(lake) if not known.is_lost]
    one = _Rebuild(lake, version, aside, manifest, params, history, log)
    graph = stages(params, stored(one.published))
    left = dict.fromkeys(sorted(manifest.made))
    for number, stage in enumerate(graph.values(), start=1):
        outputs = [output for output in stage.writes if output in left]
        if outputs:
            log(f"[{number}/{len(graph)}] {stage.name}")
            yield from _run(one, stage, outputs)
        for output in outputs:
            del left[output]
    for output in left:
        yield Rebuilt(output, "not rebuilt", ("no step of this affectlake makes it for these parameters",))


def _link_published(manifest: Manifest, folder: Path) -> None:
    """Make a folder laid out as a lake, whose tables are links to the version's files; verify these first."""
    places = (str(layout.PARAMS), str(layout.PIPELINE_LOCK), str(layout.COLLECTED), str(layout.PROTOCOLS))
    found = blobs(manifest.root, manifest.commit, places)
    for (name, _), content in zip(found, read_blobs(manifest.root, [blob for _, blob in found]), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for output in manifest.digests:
        for file in manifest.files(output):
            if md5_of(file.cached) != file.md5:
                raise manifest.damaged(output, file.path.name, file.cached)
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.path).symlink_to(file.cached.resolve())


def _params(lake: Path, version: Version, published: Path) -> Params:
    """Return the parameters of a version, with its protocols, which are in the folder of its tables."""
    text = content_at(lake, version.commit, layout.PARAMS) or b""
    try:
        return parse(text.decode(), f"params.yaml of {version.name}", published)
    except (UsageError, UnicodeDecodeError) as error:
        raise VersionError(
            f"{version.name} cannot be rebuilt by affectlake {code_version()}, which does not accept its parameters",
            found=str(getattr(error, "summary", error)),
            todo=f"install the code that published it, affectlake {version.code_version}, and verify with that",
        ) from error


def _run(one: _Rebuild, stage: Stage, outputs: list[Output]) -> Iterator[Rebuilt]:
    """Run one stage on the published tables and compare what it returns."""
    sources = _changed_sources(one, stage)
    scratch = one.aside / "scratch" / stage.name
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        context = StepContext(
            stage.agent, one.published, scratch, workers(), partial(_indented, one.log), lambda _line: None,
            part_paths(one.published, stage.reads), stage.agents, one.lake,
        )  # fmt: skip
        frames = stage.step.function(opened(one.published, stage.reads), one.params, context)
    except Exception as error:  # a stage may fail in any way; the others are still verified
        what = error.summary if isinstance(error, AffectlakeError) else f"{type(error).__name__}: {error}"
        failed = f"{stage.name} failed: {' '.join(what.replace(f'{one.published}/', '').split())}"
        for output in outputs:
            yield Rebuilt(output, "not rebuilt", (*_causes(one, stage, output, sources), failed))
        return
    for output in stage.writes:
        if output not in one.manifest.digests:  # a table that later code added: stages that read it get this one
            write_parts(frames[output.table], contract(output.table), one.published / output.folder)
    for output in outputs:
        parts = write_parts(frames[output.table], contract(output.table), one.rebuilt / output.folder)
        files = [File(output.folder / part.name, md5_of(part), part) for part in parts]
        if listing_digest(Listed(file.path.name, file.md5) for file in files) == one.manifest.digests[output]:
            yield Rebuilt(output, "same")
            continue
        published = one.manifest.files(output)
        differences = [*column_changes(published, files), *_differences(compare_files(output, published, files))]
        differences = differences or ["all rows are the same; the files differ in how they are written"]
        causes = _causes(one, stage, output, sources)
        none = "no cause is known: code, packages, processor and sources are those that were recorded"
        yield Rebuilt(output, "differs", (*differences, *(causes or [none])))


def _indented(log: Callable[[str], None], line: str) -> None:
    log(f"    {line}")


def _differences(rows: Rows) -> list[str]:
    """Return how the rebuilt rows differ from the published ones, one line per kind of difference."""
    found = []
    if rows.unmatched:
        found.append(rows.unmatched)
    for name in [name for name in rows.changed.columns if f"{name}_before" in rows.changed.columns]:
        now, before = rows.changed[name], rows.changed[f"{name}_before"]
        differing = now.ne_missing(before)
        if differing.any():
            found.append(f"{name}: {differing.sum():,} rows differ{_at_most(now, before)}")
    if rows.removed.height:
        found.append(f"{rows.removed.height:,} published rows are missing")
    if rows.added.height:
        found.append(f"{rows.added.height:,} rows were not published")
    if rows.changed.height:
        names = [name for name in rows.changed.columns if f"{name}_before" not in rows.changed.columns]
        key = [name for name in names if not name.endswith("_before")]
        found.append("first: " + ", ".join(f"{name} {rows.changed[name][0]}" for name in key))
    return found


def _at_most(now: pl.Series, before: pl.Series) -> str:
    """Return the largest difference of a numeric column, or of a column of lists of equal lengths."""
    if isinstance(now.dtype, pl.List):
        same = now.list.len().eq_missing(before.list.len())
        if not same.all():
            return ", and lists differ in length"
        now, before = now.explode(), before.explode()
    if not (now.dtype.is_numeric() and before.dtype.is_numeric()):
        return ""
    gap = np.abs(now.cast(pl.Float64).to_numpy() - before.cast(pl.Float64).to_numpy())
    return f" (by at most {np.nanmax(gap):.2g})" if np.isfinite(gap).any() else ""


def _causes(one: _Rebuild, stage: Stage, output: Output, sources: list[str]) -> list[str]:
    """Return what is known to differ from when the table was made."""
    return [*sources, *_changed_code(one, stage), *_changed_environment(one, output)]


def _changed_code(one: _Rebuild, stage: Stage) -> list[str]:
    """Return whether the stage's recorded step version is another one than that of this code."""
    recorded = stage_version(one.manifest, stage.name)
    if recorded not in (None, stage.step.version):
        return [f"published with version {recorded} of the step {stage.step.name}; here it is {stage.step.version}"]
    return []


def _changed_environment(one: _Rebuild, output: Output) -> list[str]:
    """Return how code, packages and processor differ from those of the version in which the table is first found."""
    digest = one.manifest.digests[output]
    made = next((version for version, manifest in one.history if _has(manifest, output, digest)), one.version)
    found = []
    if made.code_version != code_version():
        found.append(f"made by affectlake {made.code_version}; this is {code_version()}")
    changes = environment_changes(made.environment, environment())
    if changes:
        found.append(f"another environment than that of {made.name}: {', '.join(changes)}")
    return found


def _has(manifest: Manifest, output: Output, digest: str) -> bool:
    try:
        return manifest.digests.get(output) == digest
    except AffectlakeError:
        return False


def _changed_sources(one: _Rebuild, stage: Stage) -> list[str]:
    """Return the recorded source files of a stage that are missing or have other bytes now."""
    found = []
    deps: Any = one.manifest.stages.get(stage.name, {}).get("deps") or []
    for dep in deps:
        path, recorded = str(dep.get("path")), str(dep.get("md5"))
        if path.startswith(f"{layout.TABLES}/"):
            continue
        place = (one.published if Path(path).is_relative_to(layout.PROTOCOLS) else one.lake) / path
        if not place.exists():
            found.append(f"the source {path} is missing")
        elif _source_digest(place) != recorded:
            found.append(f"the source {path} is not the one that was recorded (MD5 {recorded})")
    return found


def _source_digest(place: Path) -> str:
    """Return the hash by which DVC names a source file or folder."""
    if not place.is_dir():
        return md5_of(place)
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    return listing_digest(Listed(path.relative_to(place).as_posix(), md5_of(path)) for path in files)
