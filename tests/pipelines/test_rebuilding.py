"""A version is rebuilt beside the lake: the same bytes, or the table, the rows and the cause are named."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from affectlake.cli.main import cli
from affectlake.errors import VersionError
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store import versions
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.tables.writing import read_output, write_outputs
from affectlake.pipelines import catalogue
from affectlake.pipelines.engine.rebuilding import Rebuilt, _source_digest, rebuild
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.text import override
from affectlake.pipelines.step import OutputTables, StepContext, Tables
from affectlake.process.provenance import environment, environment_changes
from tests.support import demo_lakes
from tests.support.builds import copy_of
from tests.support.chat import ENTRY
from tests.support.chat_lakes import build_steps, make_lake
from tests.support.lakes import ROOT


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of 30 stimuli with one version."""
    make_lake(tmp_path / "lake", ENTRY)
    return tmp_path / "lake"


def rebuilt(lake: Path, tmp_path: Path, version: str = "latest") -> dict[str, Rebuilt]:
    """Return what a rebuild yields, by output."""
    aside = Path(tempfile.mkdtemp(dir=tmp_path))
    found = list(rebuild(lake, resolve(lake, version), aside, lambda _line: None))
    assert len({one.output for one in found}) == len(found)
    return {str(one.output): one for one in found}


def unlike(found: dict[str, Rebuilt]) -> dict[str, Rebuilt]:
    """Return the tables that are not the same."""
    return {name: one for name, one in found.items() if one.state != "same"}


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return every file below a folder, with the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def publish_changed(lake: Path, output: str, stage: str, change: pl.Expr) -> None:
    """Publish a table in which a column was changed by hand, as if its stage had made it."""
    named = Output.named(output)
    frame = read_output(lake, named).collect().with_columns(change)
    others = {path.name: read_output(lake, Output(path.name)) for path in (lake / layout.TABLES).iterdir()
              if (path / "part-00000.parquet").exists()}  # fmt: skip
    write_outputs(lake, stage, {named: frame}, others)
    record_done(lake, stage)
    assert repository.publish(lake) is not None


def test_a_whole_study_gives_the_same_bytes_and_the_lake_is_not_touched(tmp_path: Path) -> None:
    lake = copy_of(demo_lakes.two_versions(), tmp_path / "lake")
    before = contents(lake)
    for version in ("v1", "v2"):
        done = CliRunner().invoke(cli, ["verify", version, "--lake", str(lake)], catch_exceptions=False)
        n = len(versions.Manifest(lake, resolve(lake, version).commit).made)
        assert done.exit_code == 0
        assert done.stdout.splitlines()[-1] == f"{n} of {n} tables, byte for byte"
    assert contents(lake) == before


def test_a_table_that_no_code_made_is_found_with_its_rows(lake: Path, tmp_path: Path) -> None:
    row = pl.col("rating") == pl.col("rating").first()
    first = pl.col("stimulus_index") == 3
    publish_changed(lake, "ratings", "ingest", pl.when(row & first).then(pl.col("score") + 0.25)
                    .otherwise(pl.col("score")).alias("score"))  # fmt: skip
    found = unlike(rebuilt(lake, tmp_path))
    assert set(found) == {"ratings", *(name for name in found if found[name].output.table != "ratings")}
    ratings = found["ratings"]
    assert ratings.state == "differs"
    assert any("score: 1 rows differ (by at most 0.25)" in reason for reason in ratings.reasons), ratings
    assert any(
        reason.startswith("first: stimulus_index 3") or "stimulus_index 3" in reason for reason in ratings.reasons
    )
    assert unlike(rebuilt(lake, tmp_path, "v1")) == {}


def test_a_changed_step_is_named_with_its_versions(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = catalogue.STEPS["lay_out"]

    def moved(tables: Tables, params: object, context: StepContext) -> OutputTables:
        made = real.function(tables, params, context)  # type: ignore[arg-type]
        return {"layouts": made["layouts"].with_columns(pl.col("x") + 1.0)}

    changed = replace(real, function=moved, version=real.version + 1)  # type: ignore[arg-type]
    monkeypatch.setitem(catalogue.STEPS, "lay_out", changed)
    found = unlike(rebuilt(lake, tmp_path))
    assert {one.output.table for one in found.values()} == {"layouts"}
    (one,) = found.values()
    assert any("(by at most 1)" in reason for reason in one.reasons), one
    assert f"published with version {real.version} of the step lay_out; here it is {real.version + 1}" in one.reasons


def test_a_stage_that_fails_does_not_stop_the_others(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_tables: Tables, _params: object, _context: StepContext) -> OutputTables:
        raise RuntimeError("no such\ndevice")

    monkeypatch.setitem(catalogue.STEPS, "lay_out", replace(catalogue.STEPS["lay_out"], function=broken))
    whole = rebuilt(lake, tmp_path)
    found = unlike(whole)
    assert {one.output.table for one in found.values()} == {"layouts"} and len(whole) > 10
    (one,) = found.values()
    assert one.state == "not rebuilt"
    assert one.reasons[-1] == "lay_out@human-category failed: RuntimeError: no such device"


def test_the_command_exits_with_1_and_keeps_the_tables_on_request(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = catalogue.STEPS["sample"]
    monkeypatch.setitem(catalogue.STEPS, "sample", replace(real, function=lambda t, p, c: {
        name: frame.head(frame.height - 1) for name, frame in real.function(t, p, c).items()}))  # fmt: skip
    kept = tmp_path / "kept"
    done = CliRunner().invoke(cli, ["verify", "--lake", str(lake), "--into", str(kept), "--json"])
    assert isinstance(done.exception, VersionError) and done.exception.exit_code == 1
    listed = {one["output"]: one for one in json.loads(done.stdout)}
    assert listed["triplets"]["state"] == "differs"
    assert "1 published rows are missing" in listed["triplets"]["reasons"]
    n = pl.read_parquet(kept / "rebuilt" / layout.TABLES / "triplets").height
    assert n == read_output(lake, Output("triplets")).collect().height - 1
    again = CliRunner().invoke(cli, ["verify", "--lake", str(lake), "--into", str(kept)])
    assert "is not empty" in str(again.exception)


def test_a_changed_or_missing_source_is_the_cause_that_is_given(real_data: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    text = templates.starting_params("emotion").replace("../shared/data", str(real_data))
    source = shutil.copy(real_data / "cowen_keltner_2017/CowenKeltnerEmotionalVideos.csv", tmp_path / "ratings.csv")
    repository.init(lake, override(text, ("sources.ratings=../ratings.csv", "sources.captions=null")))
    build_steps(lake, "ingest")
    repository.publish(lake)
    assert set(rebuilt(lake, tmp_path)) == {"stimuli", "exclusions", "families", "captions", "ratings"}
    assert unlike(rebuilt(lake, tmp_path)) == {}
    text = source.read_text()
    source.chmod(0o644)
    source.write_text(text.replace("0.1", "0.2", 1))
    found = unlike(rebuilt(lake, tmp_path))
    assert all(
        "the source ../ratings.csv is not the one that was recorded" in one.reasons[-1] for one in found.values()
    )
    assert "ratings" in found and "stimuli" not in found
    source.unlink()
    found = unlike(rebuilt(lake, tmp_path))
    assert {one.state for one in found.values()} == {"not rebuilt"} and len(found) == 5
    assert all(one.reasons[0] == "the source ../ratings.csv is missing" for one in found.values())


def test_a_folder_of_sources_has_the_hash_that_dvc_records(lake: Path) -> None:
    for name in ("b.mp4", "a/b.mp4", "a.c/d.mp4", "a/\N{LATIN SMALL LETTER E WITH ACUTE}.mp4", "a/.hidden"):
        (lake / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (lake / "videos" / name).write_text(name)
    subprocess.run(["dvc", "add", "--quiet", "videos"], cwd=lake, check=True)
    (out,) = yaml.safe_load((lake / "videos.dvc").read_text())["outs"]
    assert _source_digest(lake / "videos") == out["md5"]


def test_a_lake_of_older_code_is_rebuilt_as_far_as_its_contracts_allow(tmp_path: Path) -> None:
    with tarfile.open(ROOT / "tests/fixtures/lake_b629e22.tar.xz") as archive:
        archive.extractall(tmp_path, filter="tar")
    lake = tmp_path / "lake"
    before = contents(lake)
    found = rebuilt(lake, tmp_path, "v1")
    assert {found[name].state for name in ("stimuli", "ratings", "captions")} == {"same"}
    assert found["betas"].state == "differs"  # there was no agreement of split halves
    assert "here it is 4" in " ".join(found["betas"].reasons)
    assert found["betas"].reasons[0] == "column split_half_r added"
    assert not any("all rows are the same" in reason for reason in found["betas"].reasons)
    assert found["triplets"].state == "differs"  # there was no validation split
    assert "published with version 1 of the step sample; here it is 2" in found["triplets"].reasons
    choices = found["choices/human-category"]
    assert choices.state == "not rebuilt"
    assert choices.reasons[0].startswith("made by affectlake 0.1.0; this is ")
    assert "failed: storage/tables/triplets/part-00000.parquet does not have the schema" in choices.reasons[-1]
    assert contents(lake) == before


def test_parameters_that_this_code_does_not_accept_are_refused_with_the_code_that_does(
    lake: Path, tmp_path: Path
) -> None:
    path = lake / layout.PARAMS
    path.write_text(path.read_text() + "\nolder: setting\n")
    assert repository.publish(lake) is not None
    with pytest.raises(VersionError, match="v2 cannot be rebuilt by affectlake") as raised:
        rebuilt(lake, tmp_path)
    assert "install the code that published it, affectlake" in raised.value.todo
    assert unlike(rebuilt(lake, tmp_path, "v1")) == {}


def test_damaged_bytes_are_not_taken_as_inputs(lake: Path, tmp_path: Path) -> None:
    (file,) = versions.Manifest(lake, resolve(lake).commit).files(Output("ratings"))
    file.cached.chmod(0o644)
    file.cached.write_bytes(file.cached.read_bytes()[:-1])
    with pytest.raises(VersionError, match="damaged"):
        rebuilt(lake, tmp_path)


def test_each_version_records_its_packages_and_processor(lake: Path) -> None:
    (version,) = list_versions(lake)
    assert version.environment == environment()
    assert "; polars " in version.environment and "; processor " in version.environment
    assert environment_changes(version.environment, version.environment) == []
    other = version.environment.replace("; polars ", "; polars 9.")
    assert environment_changes(other, version.environment)[0].startswith("polars ")
    assert environment_changes("", version.environment) == []
