"""Archives of a version: complete, the same bytes twice, readable without affectlake, without restricted content."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import duckdb
import polars as pl
import pytest
import yaml

import affectlake as package
from affectlake.errors import LakeError, UsageError
from affectlake.lake import repository
from affectlake.lake.archived import open_archive
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.tables import factory, writing
from affectlake.pipelines.outputs.archive import write_archive
from tests.support.demo_lakes import affectlake
from tests.support.disclosure import RATINGS, N, captions, disclosed, planted_copy, runs_of, scores, state

pytestmark = pytest.mark.slow

ABOUT = {
    "title": "Judgments of 50 % & more",
    "creators": ["Curie, Marie", "Noether, Emmy", "The Consortium"],
    "licence": "CC-BY-4.0",
    "description": "Judgments of planted stimuli.",
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with v1, and v2 that states what it is; its parameters alone changed."""
    lake = planted_copy(tmp_path_factory.mktemp("archive"))
    path = lake / "params.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(settings | {"about": ABOUT}, sort_keys=False), encoding="utf-8")
    steps = json.loads(affectlake("steps", "--json", "--lake", lake).stdout)
    assert {row["state"] for row in steps} == {"up to date"}
    assert "(0 stages run" in affectlake("run", "--lake", lake).stderr
    return lake


@pytest.fixture(scope="module")
def whole(lake: Path) -> Path:
    """The archive of v2, with everything."""
    file = lake.with_name("whole.zip")
    assert affectlake("archive", "v2", file, "--lake", lake).stdout.strip() == str(file)
    return file


@pytest.fixture(scope="module")
def shared(lake: Path) -> Path:
    """The archive of v2 after `params.yaml` states that nothing may be republished."""
    text = (lake / "params.yaml").read_text(encoding="utf-8")
    state(lake, False)
    file = lake.with_name("shared.zip")
    done = affectlake("archive", "v2", file, "--lake", lake)
    assert [line.split(":")[1].split()[0] for line in done.stderr.splitlines()[:-1]] == [
        "stimuli", "ratings", "captions", "frames"
    ]  # fmt: skip
    (lake / "params.yaml").write_text(text, encoding="utf-8")
    return file


def test_the_same_version_gives_the_same_bytes(lake: Path, whole: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    affectlake("archive", "v2", again, "--lake", lake)
    assert again.read_bytes() == whole.read_bytes()
    with ZipFile(again) as archive:
        assert {one.compress_type for one in archive.infolist()} == {ZIP_STORED}
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_no_restricted_content_is_in_an_archive(shared: Path, whole: Path) -> None:
    text = disclosed(shared)
    assert [one for one in captions() if any(run in text for run in runs_of(one))] == []
    assert [value for name in RATINGS for value in scores()[name] if f"{value} " in text] == []
    with ZipFile(shared) as archive:
        names = set(archive.namelist())
        readme = archive.read("README.md").decode()
        stimuli = pl.read_parquet(archive.read("tables/stimuli/part-00000.parquet"))
        assert json.loads(archive.read("affectlake-archive.json"))["left_out"] == {
            "stimuli": ["category"], "ratings": ["score"], "captions": ["caption"], "frames": ["jpeg"]
        }  # fmt: skip
    assert stimuli.columns == ["stimulus_index", "stimulus_id", "n_captions"]
    assert not [name for name in names if name.startswith(("tables/captions", "tables/ratings", "tables/frames"))]
    assert any(name.startswith("tables/embeddings") for name in names)
    for table in ("captions", "ratings", "frames", "stimuli (category)"):
        assert f"- {table}: may not be republished" in readme
    everything = disclosed(whole)  # the same search finds what is there
    assert len([one for one in captions() if any(run in everything for run in runs_of(one))]) == N
    assert len([value for name in RATINGS for value in scores()[name] if f"{value} " in everything]) > 100


def test_answers_that_may_quote_captions_are_left_out_with_them(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    repository.init(lake, "study: tiny\nsources: {kind: tables}\nshareable: {captions: false}\n")
    tables = factory.tiny_lake(12)
    secret = pl.lit("the caption of the first stimulus")
    hidden = ("answer", "thinking", "refusal", "logprobs", "error_words", "oddities")
    tables["responses"] = tables["responses"].with_columns(secret.alias(name) for name in hidden)
    names = ("stimuli", "triplets", "captions", "responses/tiny")
    outputs = [Output.named(name) for name in names]
    frames = {output: tables[output.table] for output in outputs}
    writing.write_outputs(lake, "tiny", frames, {name: frame.lazy() for name, frame in tables.items()})
    outs = [{f"{layout.TABLES}/{output}": {"persist": True}} for output in outputs]
    stages = {"tiny": {"cmd": "affectlake step tiny --step-version 1", "outs": outs}}
    (lake / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    record_done(lake, "tiny")
    version = repository.publish(lake)
    assert version is not None
    left_out = write_archive(lake, version, tmp_path / "a.zip")
    assert {one.table: one.columns for one in left_out} == {"captions": ("caption",), "responses": hidden}
    text = disclosed(tmp_path / "a.zip")
    assert "the caption of the first" not in text
    assert [caption for caption in tables["captions"]["caption"] if caption in text] == []
    with ZipFile(tmp_path / "a.zip") as archive:
        rows = pl.read_parquet(archive.read("tables/responses/tiny/part-00000.parquet"))
    assert len(rows) == len(tables["responses"]) and "request_key" in rows.columns
    assert not set(hidden) & set(rows.columns)


def test_for_myself_has_all_and_is_marked(lake: Path, tmp_path: Path) -> None:
    text = (lake / "params.yaml").read_text(encoding="utf-8")
    state(lake, False)
    affectlake("archive", "v2", tmp_path / "mine.zip", "--for-myself", "--lake", lake)
    (lake / "params.yaml").write_text(text, encoding="utf-8")
    with ZipFile(tmp_path / "mine.zip") as archive:
        assert "For your own use" in archive.read("README.md").decode()
        assert pl.read_parquet(archive.read("tables/captions/part-00000.parquet"))["caption"].to_list() == captions()


def test_every_file_has_its_checksum_and_metadata(whole: Path, tmp_path: Path) -> None:
    with ZipFile(whole) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    crate = json.loads((tmp_path / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context"
    by_id = {one["@id"]: one for one in crate["@graph"]}
    assert len(by_id) == len(crate["@graph"])
    assert by_id["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    root = by_id["./"]
    files = {one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*") if one.is_file()}
    parts = {one["@id"] for one in root["hasPart"]}
    assert files - parts == {"ro-crate-metadata.json", "SHA256SUMS"}
    assert parts < files
    for part in parts:
        content = (tmp_path / part).read_bytes()
        assert by_id[part]["sha256"] == hashlib.sha256(content).hexdigest()
        assert by_id[part]["contentSize"] == str(len(content))
    assert by_id[root["license"]["@id"]]["name"] == "CC-BY-4.0"
    assert [by_id[one["@id"]]["name"] for one in root["author"]] == ["Marie Curie", "Emmy Noether", "The Consortium"]
    references = [value["@id"] for one in crate["@graph"] for value in one.values() if isinstance(value, dict)]
    assert {one for one in references if not one.startswith("https://w3id.org")} <= set(by_id)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Judgments of planted stimuli." in readme and "CC-BY-4.0" in readme and "Left out" not in readme
    assert "`caption` | string" in (tmp_path / "data-dictionary.md").read_text(encoding="utf-8")


def test_duckdb_and_pandas_read_the_unpacked_archive_without_affectlake(
    lake: Path, whole: Path, tmp_path: Path
) -> None:
    with ZipFile(whole) as archive:
        archive.extractall(tmp_path)
    program = """
import duckdb, json, sys
with duckdb.connect() as connection:
    connection.execute(open("views.sql").read())
    rows = connection.sql("SELECT agent, count(*) FROM choices GROUP BY agent ORDER BY agent").fetchall()
    globbed = connection.sql("SELECT count(*) FROM read_parquet('tables/metrics/**/*.parquet')").fetchall()[0][0]
    views = connection.sql("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()[0][0]
assert not [name for name in sys.modules if name.startswith("affectlake")]
print(json.dumps([rows, globbed, views]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    rows, globbed, views = json.loads(done.stdout)
    found = package.open(lake)
    expected = found.sql("SELECT agent, count(*) FROM choices GROUP BY agent ORDER BY agent").fetchall()
    assert [tuple(row) for row in rows] == expected
    assert globbed == found.table("metrics").collect().height
    assert views == len(found.tables())


def test_open_makes_a_lake_of_an_archive(lake: Path, whole: Path, shared: Path, tmp_path: Path) -> None:
    done = affectlake("open", whole, tmp_path / "opened")
    assert "captions" in done.stdout
    again, before = package.open(tmp_path / "opened"), package.open(lake)
    (version,) = again.versions()
    assert (version.name, version.author, version.created[:19]) == (
        "v2", before.versions()[1].author, before.versions()[1].created[:19]
    )  # fmt: skip
    for table in before.tables("v2"):
        assert again.table(table.table).collect().equals(before.table(table.table, "v2").collect()), table.table
    assert (again.embedding("caption-tfidf") == before.embedding("caption-tfidf")).all()
    affectlake("fsck", "--local", "--lake", tmp_path / "opened")
    page = Path(affectlake("report", "--lake", tmp_path / "opened").stdout.strip())
    assert "Held-out accuracy" in page.read_text(encoding="utf-8")
    status = ["git", "-C", str(tmp_path / "opened"), "status", "--porcelain"]
    assert subprocess.run(status, capture_output=True, text=True, check=True).stdout == ""
    lacking = affectlake("open", shared, tmp_path / "shared")
    assert "the archive lacks captions: caption (may not be republished)" in lacking.stderr
    affectlake("report", "--lake", tmp_path / "shared")
    from_file = package.open(whole)
    assert from_file.table("stimuli").collect().height == N
    assert from_file.sql("SELECT count(*) FROM captions").fetchall() == [(N,)]


def test_a_damaged_or_foreign_file_is_refused(whole: Path, tmp_path: Path) -> None:
    damaged, foreign, root = tmp_path / "damaged.zip", tmp_path / "foreign.zip", tmp_path / "lake"
    content = bytearray(whole.read_bytes())
    at = content.index(b"PAR1") + 200
    content[at] ^= 0xFF
    damaged.write_bytes(content)
    with pytest.raises(LakeError, match="damaged"):
        open_archive(damaged, root)
    with ZipFile(whole) as old, ZipFile(foreign, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("../outside.txt", "x")
    with pytest.raises(LakeError, match="damaged"):
        open_archive(foreign, root)
    with ZipFile(foreign, "w") as new:
        new.writestr("README.md", "another archive")
    with pytest.raises(UsageError, match="not an archive of a lake"):
        open_archive(foreign, root)
    with pytest.raises(UsageError, match="there is no file"):
        open_archive(tmp_path / "missing.zip", root)
    assert not root.exists() and not (tmp_path / "outside.txt").exists()
    root.mkdir()
    (root / "mine.txt").write_text("mine")
    with pytest.raises(LakeError, match="is not empty"):
        open_archive(whole, root)


def test_an_existing_file_is_not_overwritten(lake: Path, whole: Path, tmp_path: Path) -> None:
    before = whole.read_bytes()
    assert "exists already" in affectlake("archive", "v1", whole, "--lake", lake, ok=2).stderr
    assert whole.read_bytes() == before
    assert ".zip" in affectlake("archive", "v1", tmp_path / "a.tar", "--lake", lake, ok=2).stderr
    assert "there is no folder" in affectlake("archive", "v1", tmp_path / "b/a.zip", "--lake", lake, ok=2).stderr
    affectlake("archive", "v9", tmp_path / "a.zip", "--lake", lake, ok=1)
    assert list(tmp_path.iterdir()) == []


def test_citations_for_programs(lake: Path) -> None:
    commit = package.open(lake).versions()[1].commit
    text = affectlake("cite", "v2", "--format", "bibtex", "--lake", lake).stdout
    assert text.startswith("@misc{judgments-of-50-more-v2,\n")
    assert "author = {Curie, Marie and Noether, Emmy and The Consortium}" in text
    assert r"title = {{Judgments of 50 \% \& more}}" in text
    assert commit in text and "version = {v2}" in text and "made with affectlake" in text
    cff = yaml.safe_load(affectlake("cite", "v2", "--format", "cff", "--lake", lake).stdout)
    assert cff["authors"][0] == {"family-names": "Curie", "given-names": "Marie"}
    assert (cff["commit"], cff["version"], cff["license"], cff["type"]) == (commit, "v2", "CC-BY-4.0", "dataset")
    unstated = yaml.safe_load(affectlake("cite", "v1", "--format", "cff", "--lake", lake).stdout)
    assert unstated["title"] == "affectlake study files" and "license" not in unstated
    assert affectlake("cite", "v2", "--lake", lake).stdout.startswith("affectlake data, version v2")


def test_views_are_read_by_duckdb_in_a_process_without_affectlake(lake: Path, tmp_path: Path) -> None:
    path = Path(affectlake("views", "--lake", lake).stdout.strip())
    assert path == lake / "lake.duckdb"
    program = """
import duckdb, json, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print(json.dumps([
        connection.sql("SELECT count(*) FROM choices").fetchall()[0][0],
        connection.sql("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()[0][0],
        connection.sql("SELECT comment FROM duckdb_views() WHERE view_name = 'choices'").fetchall()[0][0],
    ]))
assert not [name for name in sys.modules if name.startswith("affectlake")]
"""
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = package.open(lake)
    n_rows, n_views, comment = json.loads(done.stdout)
    assert (n_rows, n_views) == (found.table("choices").collect().height, len(found.tables()))
    assert comment.startswith("v2 of the lake: one row per")
    status = ["git", "-C", str(lake), "status", "--porcelain"]
    assert subprocess.run(status, capture_output=True, text=True, check=True).stdout == ""
    affectlake("views", "--at", "v1", "--output", tmp_path / "old.duckdb", "--lake", lake)
    affectlake("views", "--lake", lake)  # again, in place of the first
    own = tmp_path / "own.duckdb"
    with duckdb.connect(str(own)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS x")
    assert "has tables of its own" in affectlake("views", "--output", own, "--lake", lake, ok=2).stderr


def test_a_public_push_refuses_restricted_tables(lake: Path) -> None:
    text = (lake / "params.yaml").read_text(encoding="utf-8")
    state(lake, {"captions": False})
    done = affectlake("push", "v2", "--public", "--lake", lake, ok=1)
    (lake / "params.yaml").write_text(text, encoding="utf-8")
    assert "v2: captions" in done.stderr and "nothing was sent" in done.stderr
    assert not (lake / "storage/remote").exists()
    affectlake("push", "v2", "--public", "--lake", lake, ok=1)  # sent; without origin, nothing is announced
    assert (lake / "storage/remote").is_dir()
    shutil.rmtree(lake / "storage/remote")
