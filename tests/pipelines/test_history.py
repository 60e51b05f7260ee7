"""Versions are read for ever: whatever has become required, renamed or re-versioned since they were published."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from polars.testing import assert_frame_equal
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from affectlake.cli.main import cli
from affectlake.errors import CollectionError, ContractError, FigureError, LakeError, UsageError
from affectlake.judge.requests.answers import Reply, answered
from affectlake.judge.requests.journal import Journal
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.joining.join import Sides
from affectlake.lake.open import open_lake
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import resolve
from affectlake.lake.tables import contracts, factory, writing
from affectlake.lake.tables.contracts import Contract
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection.joining import merged_params
from affectlake.pipelines.collection.publishing import publish_waiting
from affectlake.pipelines.outputs.report import gather
from affectlake.pipelines.outputs.version_tables import VersionTables
from affectlake.pipelines.params import templates
from affectlake.pipelines.params.study import load, parse
from affectlake.report.agent_summary import agent_facts
from affectlake.report.columns import COLUMNS, Columns
from affectlake.report.figures.catalogue import FIGURES
from tests.attacks.planting import plant, raise_contracts
from tests.support.lakes import ROOT
from tests.support.questions import make_questions

GROWING = ("responses", "proposals")
CHAT = {
    "kind": "chat", "model": "tiny-llama", "revision": None, "servers": ["http://127.0.0.1:9/v1"],
    "protocol": "forced-choice", "modality": "captions", "sampling": {}, "l1": 0.004,
}  # fmt: skip


def tables() -> dict[str, pl.DataFrame]:
    """Return small tables of every kind that steps make, with a picture that can be shown."""
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(picture, "JPEG")
    made = {name: frame for name, frame in factory.tiny_lake().items() if name not in GROWING}
    made["frames"] = made["frames"].with_columns(jpeg=pl.lit(picture.getvalue()))
    cube = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    for table in ("voxels", "encoding_maps", "rsa_maps"):
        rows = pl.concat([made[table].head(1)] * len(cube))
        made[table] = rows.with_columns(voxel_index=pl.Series(range(len(cube)), dtype=pl.Int32))
    for at, (index, mm) in enumerate(zip(("voxel_i", "voxel_j", "voxel_k"), ("x_mm", "y_mm", "z_mm"), strict=True)):
        places = [place[at] for place in cube]
        made["voxels"] = made["voxels"].with_columns(
            pl.Series(index, places, pl.Int32), pl.Series(mm, [3.0 * place for place in places], pl.Float32)
        )
    weights = pl.Series("voxel_weights", [[0.5] * len(cube)] * 2, pl.List(pl.Float32))
    made["encoding_weights"] = made["encoding_weights"].with_columns(weights)
    return made


def output(table: str) -> str:
    return f"{table}/tiny" if contracts.contract(table).partition == "agent" else table


def starting_params() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(templates.starting_params("demo"))
    return raw | {"agents": raw["agents"] | {"tiny": deepcopy(CHAT)}}


@cache
def params_of_before() -> str:
    """Return parameters as an affectlake might have had them under which other keys and kinds were known.

    In each section one key that is required today is missing and one is there that is unknown; kinds of agents have
    other names.
    """
    raw = starting_params()
    found = starting_params()
    sections = list(_sections(found))
    for path in sections:
        section = _at(found, path)
        for key in list(section):
            if path in ((), ("agents",)) or key == "kind" or (*path, key) in sections:
                continue
            if _is_required(raw, (*path, key)):
                del section[key]
                break
        section["of_before"] = {"kind": "other"} if path == ("agents",) else 7
    kinds = {"chat": "llm", "ratings": "person", "features": "encoder"}
    for agent in found["agents"].values():
        agent["kind"] = kinds.get(agent.get("kind"), "other")
    return yaml.safe_dump(found, sort_keys=False)


def _sections(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _sections(value, (*path, key))


def _at(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def _is_required(raw: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    copy = yaml.safe_load(yaml.safe_dump(dict(raw)))
    del _at(copy, path[:-1])[path[-1]]
    try:
        parse(yaml.safe_dump(copy))
    except UsageError:
        return True
    return False


def make(lake: Path) -> None:
    """Make a lake with one version of tiny tables, under parameters of before."""
    repository.init(lake, params_of_before())
    frames = {Output.named(output(name)): frame for name, frame in tables().items()}
    writing.write_outputs(lake, "tiny", frames, {name: frame.lazy() for name, frame in tables().items()})
    outs = [{f"{layout.TABLES}/{name}": {"persist": True}} for name in frames]
    stage = {"cmd": "affectlake step tiny --step-version 1", "outs": outs}
    (lake / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"tiny": stage}}))
    record_done(lake, "tiny")
    assert repository.publish(lake) is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("history") / "lake"
    make(lake)
    return lake


@pytest.fixture
def lake(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "lake", symlinks=True)


def run(lake: Path, *words: str) -> str:
    """Run a command and return what it prints."""
    done = CliRunner().invoke(cli, [*words, "--lake", str(lake)], catch_exceptions=False, standalone_mode=False)
    return done.output


def later(known: Contract) -> Contract:
    """Return a contract that requires another column and has lost its last one."""
    first, *rest = known.columns
    return replace(known, columns=(replace(first, name="later", nullable=False), first, *rest[:-1]))


def test_what_is_about_to_run_is_checked(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        load(lake)
    raise_contracts(monkeypatch, later)
    with pytest.raises(ContractError):
        read_output(lake, Output("stimuli"))


def test_an_older_version_is_read_cited_reported_mapped_and_compared(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: open_lake(lake).table(name, "v1").collect() for name in tables()}
    page = Path(run(lake, "report", "--at", "v1").split()[0]).read_text(encoding="utf-8")
    second = plant(lake, {"stimuli": [tables()["stimuli"].head(9).to_arrow()]})
    raise_contracts(monkeypatch, later)
    for name, rows in before.items():
        assert_frame_equal(open_lake(lake).table(name, "v1").collect(), rows)
    assert "v1" in run(lake, "versions")
    assert "Synthetic data" in run(lake, "cite", "v1")
    assert "12" in run(lake, "query", "SELECT count(*) FROM stimuli", "--at", "v1")
    assert Path(run(lake, "report", "--at", "v1").split()[0]).read_text(encoding="utf-8") == page
    assert "Not in this version" not in page
    assert "tiny" in run(lake, "positions", "--at", "v1")
    images = [Path(line).name for line in run(lake, "maps", str(tmp_path / "maps"), "--at", "v1").split()]
    assert "tiny_searchlight_embedding.nii.gz" in images
    assert "tiny_weights_01.nii.gz" in images
    assert "stimuli: 0 added, 3 removed, 0 changed" in run(lake, "diff", "v1", "v2")
    assert second.name in Path(run(lake, "report", "--compare", "v1", "v2").split()[0]).read_text(encoding="utf-8")
    assert open_lake(lake).patterns("a", "v1").shape == (12, 2)
    run(lake, "restore")  # the second version was planted past the folder
    run(lake, "checkout", "v1")
    assert yaml.safe_load((lake / "params.yaml").read_text()) == yaml.safe_load(params_of_before())
    run(lake, "checkout", "latest")


@contextmanager
def requiring_more() -> Iterator[None]:
    """Let every section of ``params.yaml`` require one more key."""
    waiting, models = [BaseModel], list[type[BaseModel]]()
    while waiting:
        waiting += (found := waiting.pop().__subclasses__())
        models += [model for model in found if model.__module__.startswith("affectlake.")]

    def rebuild() -> None:
        for _ in range(4):  # a section's own is built from those within it
            for model in models:
                model.model_rebuild(force=True)

    try:
        for model in models:
            model.__pydantic_fields__["later"] = FieldInfo(annotation=int)
        rebuild()
        yield
    finally:
        for model in models:
            model.__pydantic_fields__.pop("later", None)
        rebuild()


def test_a_lake_of_older_code_is_read_whatever_has_changed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(ROOT / "tests/fixtures/lake_b629e22.tar.xz") as archive:
        archive.extractall(tmp_path, filter="tar")
    lake, versions = tmp_path / "lake", ("v1", "v5")

    def read() -> list[str]:
        found = [run(lake, "cite", "v1"), run(lake, "positions", "--at", "v5", "--json"), run(lake, "diff", *versions)]
        found += [run(lake, "query", "SELECT count(*) FROM metrics", "--at", at) for at in versions]
        maps = run(lake, "maps", str(tmp_path / "maps"), "--at", "v1").splitlines()
        found += [hashlib.sha256(Path(line).read_bytes()).hexdigest() for line in maps if line.endswith(".gz")]
        return [*found, str(open_lake(lake).table("metrics", "v1").collect().hash_rows().sum())]

    before = read()
    parse(templates.starting_params("demo"))
    with requiring_more():
        with pytest.raises(UsageError, match="later"):
            parse(templates.starting_params("demo"))
        raise_contracts(monkeypatch, later)
        assert read() == before
        page = Path(run(lake, "report", "--at", "v1").strip()).read_text(encoding="utf-8")
    for words in ("Not in this version", "cannot be drawn"):
        assert words not in page
    agents = ("human-category", "human-dimension", "caption-tfidf")
    assert all(f'id="agent-{agent}"' in page for agent in agents)
    assert page.count("<figure") > 20 * len(agents) // 2


def test_kinds_and_sources_of_other_names_are_shown_as_they_are(lake: Path) -> None:
    params = yaml.safe_load((lake / "params.yaml").read_text())
    (lake / "params.yaml").write_text(yaml.safe_dump(params | {"sources": {"kind": "dreams"}}))
    assert repository.publish(lake) is not None
    cited = run(lake, "cite", "v2")
    assert "Sources of kind 'dreams', which is unknown to this affectlake" in cited
    assert "Synthetic data" not in cited
    page = Path(run(lake, "report").split()[0]).read_text(encoding="utf-8")
    assert "<small>llm</small>" in page
    assert "SYNTHETIC" not in page


def test_parameters_that_are_not_yaml_do_not_hide_the_tables(lake: Path) -> None:
    (lake / "params.yaml").write_text("study: [unfinished\n")
    assert repository.publish(lake) is not None
    page = Path(run(lake, "report").split()[0]).read_text(encoding="utf-8")
    assert "params.yaml: while parsing" in page
    assert "of a kind that is not given in its params.yaml" in run(lake, "cite")


def test_every_column_of_every_table_can_be_read_and_has_the_type_of_its_contract(lake: Path) -> None:
    every = {
        name: Columns(contracts.contract(name).key[:1], tuple(rows.columns[1:])) for name, rows in tables().items()
    }
    read = VersionTables(lake, resolve(lake, "v1"), every)
    assert read.shortcomings == ()
    for name, rows in tables().items():
        assert {**read.table(name).schema} == {**rows.schema}, name


def test_a_column_that_no_contract_has_any_more_is_read_as_it_was_published(lake: Path) -> None:
    version = plant(lake, {"stimuli": [tables()["stimuli"].with_columns(brightness=pl.lit(0.5)).to_arrow()]})
    read = VersionTables(lake, version, {"stimuli": Columns(("stimulus_index",), ("brightness", "darkness"))})
    assert read.table("stimuli")["brightness"].dtype == pl.Float64
    assert read.table("stimuli")["darkness"].null_count() == len(tables()["stimuli"])
    assert read.shortcomings == ("stimuli: no column darkness",)


def test_a_page_says_what_a_version_lacks(lake: Path, tmp_path: Path) -> None:
    changed: dict[str, list[pa.Table]] = {}
    for table, columns in COLUMNS.items():
        rows = tables()[table].to_arrow()
        changed[output(table)] = [rows.drop_columns([columns.needed[-1]])]
    version = plant(lake, changed)
    inputs = gather(lake, version)
    for table, columns in COLUMNS.items():
        assert any(
            line == f"{table}: no column {columns.needed[-1]}; its rows cannot be shown" for line in inputs.left_out
        )
    page = Path(run(lake, "report").split()[0]).read_text(encoding="utf-8")
    assert "metrics: no column measure; its rows cannot be shown" in page
    with pytest.raises(LakeError, match="the positions chosen in v2 cannot be read"):
        run(lake, "positions")
    with pytest.raises(LakeError, match="the brain maps of v2 cannot be read"):
        run(lake, "maps", str(tmp_path / "maps"))


def test_answers_that_wait_are_published_under_the_entry_of_before(lake: Path) -> None:
    folder = lake / layout.COLLECTING / "tiny" / "0123456789abcdef"
    answers = [answered(question, Reply("2", "stop", None, 9, 1, 0, "tiny-llama"), 1, 0.5)
               for question in make_questions(3)]  # fmt: skip
    with Journal(folder / "answers.sqlite") as journal:
        journal.write(answers)
    before = {"kind": "llm", "model": "tiny-llama", "protocol": "forced-choice", "modality": "captions",
              "sampling": {}, "of_before": 7}  # fmt: skip
    (folder / "agent.yaml").write_text(yaml.safe_dump(before | {"protocol": "of-tomorrow"}))
    with pytest.raises(CollectionError, match="is not a valid entry of an agent") as refused:
        publish_waiting(lake, "tiny", lambda _line: None)
    assert "agents.tiny.protocol must be one of" in str(refused.value) and "forced-choice" in str(refused.value)
    (folder / "agent.yaml").write_text(yaml.safe_dump(before))
    done = publish_waiting(lake, "tiny", lambda _line: None)
    assert done.n_added == 3
    rows = open_lake(lake).table("responses").collect()
    assert rows["request_key"].to_list() == sorted(answer.key for answer in answers)
    assert rows["model"].unique().to_list() == ["tiny-llama"]
    assert rows["protocol"].unique().to_list() == ["forced-choice/caption/1"]


def test_lakes_are_joined_whose_parameters_are_of_before() -> None:
    base = yaml.safe_load(params_of_before())
    ours = yaml.safe_dump(base).encode()
    theirs = base | {"agents": base["agents"] | {"second": base["agents"]["tiny"]}}
    sides = Sides(ours, ours, [yaml.safe_dump(theirs).encode(), b"study: [unfinished"], ours, {})
    found = merged_params(sides)
    assert found.text == ours
    assert any(note.startswith("params.yaml: their agent second is left out: ") for note in found.notes)
    assert any("agents.second.kind (ours nothing" in note for note in found.notes)
    assert any(note.startswith("their params.yaml is ignored: ") for note in found.notes)
    todays = starting_params()
    added = yaml.safe_dump(theirs | {"agents": theirs["agents"] | {"third": todays["agents"]["tiny"]}}).encode()
    ours = yaml.safe_dump(todays).encode()
    found = merged_params(Sides(ours, ours, [added], yaml.safe_dump(base).encode(), {}))
    assert "params.yaml: their agent third is added" in found.notes
    assert "third" in parse(found.text.decode()).agents


@pytest.mark.parametrize("at", range(max(len(one.needed) + len(one.optional) for one in COLUMNS.values())))
def test_a_page_is_written_whichever_column_a_version_lacks(lake: Path, at: int) -> None:
    """Of every table another column is missing, and half of the next one is null and the rest of another type."""
    changed, missing = {}, {}
    for table, columns in COLUMNS.items():
        names = (*columns.needed, *columns.optional)
        lost, odd = names[at % len(names)], names[(at + 1) % len(names)]
        rows = tables()[table].drop(lost)
        if odd != lost:
            half = pl.int_range(pl.len()) % 2 == 0
            rows = rows.with_columns(pl.when(half).then(pl.lit("odd")).alias(odd))
        changed[output(table)], missing[table] = [rows.to_arrow()], lost
    plant(lake, changed)
    page = Path(run(lake, "report").split()[0]).read_text(encoding="utf-8")
    for table, name in missing.items():
        assert f"<li>{table}: no column {name}" in page


def test_a_page_is_written_whichever_table_a_version_lacks(lake: Path) -> None:
    lock = yaml.safe_load((lake / "dvc.lock").read_text())
    every = lock["stages"]["tiny"]["outs"]
    for start in range(3):  # a third of the tables at a time
        kept = [one for at, one in enumerate(every) if at % 3 != start]
        lock["stages"]["tiny"]["outs"] = kept
        (lake / "dvc.lock").write_text(yaml.safe_dump(lock))
        assert repository.publish(lake) is not None
        page = Path(run(lake, "report").split()[0]).read_text(encoding="utf-8")
        assert "This version has no" in page
        assert "Not in this version" not in page


def test_a_figure_that_fails_is_left_out_on_tables_of_other_contracts_alone(lake: Path) -> None:
    inputs = gather(lake, resolve(lake, "v1"), pictures=False, brain=False)
    assert inputs.is_todays
    (entry,) = (one for one in FIGURES if one.name == "learning_curves")
    about = agent_facts(inputs, "tiny")
    spoilt = replace(inputs, learning_curves=inputs.learning_curves.drop("epoch"))
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        entry.made(spoilt, about)
    with pytest.raises(FigureError, match="learning_curves cannot be drawn") as refused:
        entry.made(replace(spoilt, is_todays=False), about)
    assert "ColumnNotFoundError" in refused.value.found
    other = plant(lake, {"stimuli": [tables()["stimuli"].to_arrow()]})  # it does not name its contract
    assert not gather(lake, other, pictures=False, brain=False).is_todays


def test_a_page_and_maps_ask_git_a_few_times_however_many_tables_there_are(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git, calls = shutil.which("git"), tmp_path / "calls"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\nexec "{git}" "$@"\n')
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for words in (("report", "--at", "v1"), ("maps", str(tmp_path / "maps"), "--at", "v1"), ("positions",)):
        calls.write_text("")
        run(lake, *words)
        assert 1 <= len(calls.read_text().splitlines()) <= 7  # names, commits, manifests and params.yaml
