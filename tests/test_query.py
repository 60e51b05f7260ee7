"""Queries: one closed SELECT, over any versions, given in every form, and streamed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affectlake.errors import AffectlakeError, QueryError, VersionError
from affectlake.lake.diff import diff_rows
from affectlake.lake.query import batches, query
from affectlake.lake.versions import Manifest, cached_object, resolve

ROWS = "SELECT stimulus_index, stimulus_id, n_captions FROM stimuli ORDER BY ALL"
CLOSED = [
    "ATTACH 'x.db'", "DETACH memory", "USE memory", "COPY stimuli TO 'out.csv'", "COPY (SELECT 1) TO 'out.parquet'",
    "INSTALL httpfs", "LOAD httpfs", "PRAGMA database_list", "PRAGMA enable_profiling", "SET threads = 1",
    "SET lock_configuration = false", "RESET threads", "SET VARIABLE x = 1", "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW t AS SELECT 1", "CREATE MACRO f(x) AS x", "CREATE SECRET s (TYPE s3)", "INSERT INTO stimuli SELECT 1",
    "UPDATE stimuli SET category = 'x'", "DELETE FROM stimuli", "DROP VIEW stimuli", "ALTER VIEW stimuli RENAME TO s",
    "EXPORT DATABASE 'x'", "IMPORT DATABASE 'x'", "CALL pragma_version()", "CHECKPOINT", "VACUUM", "BEGIN",
    "EXPLAIN ANALYZE SELECT 1", "PREPARE p AS SELECT 1", "EXECUTE p", "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW stimuli",
    "WITH x AS (DELETE FROM stimuli RETURNING *) SELECT * FROM x", "", ";", "-- nothing", "SELEC 1",
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')", "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM parquet_schema('/etc/passwd')", "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')", "SELECT * FROM glob('/etc/*')", "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'https://example.org/x.parquet'", "SELECT getenv('HOME')", "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM arrow_scan(1, 2, 3)", 'SELECT * FROM "pandas_scan"(1)', "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM enable_logging()", "SELECT * FROM root", "SELECT * FROM versions", "SELECT * FROM sql",
]  # fmt: skip


@pytest.mark.parametrize("sql", CLOSED)
def test_everything_but_one_select_is_closed(published: Path, sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(published)
    before = sorted(published.rglob("*"))
    with pytest.raises(QueryError):
        list(batches(query(published, sql)))
    assert sorted(published.rglob("*")) == before


WORDS = ["SELECT", "*", "FROM", "stimuli", "stimuli@v1", "(", ")", ";", "'", '"', "--", "/*", "*/", "$$", "COPY", "TO",
         "'/tmp/affectlake-fuzz'", "ATTACH", "SET", "WITH", "AS", "x", ",", "1", "@", "v9",
         "\\", "E'", "\n", "glob"]  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=20))
def test_whatever_is_asked_is_answered_or_refused(published: Path, sql: str) -> None:
    with contextlib.suppress(AffectlakeError):
        list(batches(query(published, sql)))
    assert not Path("/tmp/affectlake-fuzz").exists()


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT (SELECT count(*) FROM stimuli@v1), (SELECT count(*) FROM stimuli@v2)", (12, 13)),
        ('SELECT count(*) FROM "stimuli@v1"', (12,)),
        ("SELECT count(*) FROM stimuli@latest -- not stimuli@v9", (13,)),
        ("SELECT 'stimuli@v9', /* stimuli@v9 */ count(*) FROM stimuli@v1", ("stimuli@v9", 12)),
        ("SELECT $$ stimuli@v9 $$, E'it\\'s stimuli@v9'", (" stimuli@v9 ", "it's stimuli@v9")),
    ],
)
def test_versions_are_named_in_the_query(published: Path, sql: str, wanted: tuple[object, ...]) -> None:
    assert query(published, sql).fetchall() == [wanted]


def test_unknown_names_offer_the_nearest(published: Path) -> None:
    with pytest.raises(VersionError, match="allowed: v1, v2"):
        query(published, "SELECT * FROM stimuli@v9")
    with pytest.raises(QueryError, match="did you mean 'stimuli@v1'"):
        query(published, "SELECT * FROM stimuly@v1")
    with pytest.raises(VersionError):
        query(published, "SELECT 1", at="v1'; DROP TABLE x")


def affectlake(*arguments: str | Path, ok: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["affectlake", *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == ok, done.stderr.decode()
    return done


@pytest.mark.parametrize("by", ["file", "pipe"])
@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_every_form_gives_the_same_rows(published: Path, tmp_path: Path, form: str, by: str) -> None:
    out = tmp_path / f"rows.{form}"
    if by == "file":
        assert affectlake("query", ROWS, "--lake", published, "--out", out).stdout == b""
        data = out.read_bytes()
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    else:
        data = affectlake("query", ROWS, "--lake", published, "--format", form).stdout
    found: list[dict[str, object]] = {
        "csv": lambda: pl.read_csv(data).to_dicts(),
        "json": lambda: [json.loads(line) for line in data.splitlines()],
        "parquet": lambda: pl.read_parquet(data).to_dicts(),
        "arrow": lambda: pa.ipc.open_stream(data).read_all().to_pylist(),
    }[form]()
    assert found == query(published, ROWS).pl().to_dicts()


def test_values_that_forms_cannot_say_are_said_plainly(published: Path) -> None:
    sql = "SELECT sum(stimulus_index) s, 'nan'::DOUBLE n, [1.5, 2.0]::DOUBLE[] v, 1 AS x, 2 AS x FROM stimuli@v1"
    (line,) = affectlake("query", sql, "--format", "json", "--lake", published).stdout.splitlines()
    assert json.loads(line) == {"s": 66, "n": None, "v": [1.5, 2.0], "x": 1, "x_1": 2}
    rows = list(
        csv.DictReader(io.StringIO(affectlake("query", sql, "--format", "csv", "--lake", published).stdout.decode()))
    )
    assert (rows[0]["s"], rows[0]["v"], rows[0]["x_1"]) == ("66", "[1.5, 2.0]", "2")


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_no_rows_still_have_columns(published: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"none.{form}"
    affectlake("query", "SELECT * FROM stimuli WHERE false", "--out", out, "--lake", published)
    read = {"csv": pl.read_csv, "parquet": pl.read_parquet, "arrow": pl.read_ipc_stream}[form]
    frame = read(out)
    assert frame.height == 0
    assert frame.columns == ["stimulus_index", "stimulus_id", "category", "n_captions"]


def test_a_query_does_not_write_into_the_versions(published: Path) -> None:
    for place in ("storage/tables/x.csv", ".dvc/cache/x.csv", ".git/x.csv"):
        done = affectlake("query", "SELECT 1", "--out", published / place, "--lake", published, ok=2)
        assert b"where the lake keeps its versions" in done.stderr
        assert not (published / place).exists()


def test_an_unknown_ending_is_refused(published: Path, tmp_path: Path) -> None:
    assert (
        b".parquet" in affectlake("query", "SELECT 1", "--out", tmp_path / "x.xlsx", "--lake", published, ok=2).stderr
    )


def test_a_row_that_cannot_be_computed_leaves_no_file(published: Path, tmp_path: Path) -> None:
    sql = "SELECT CAST(CASE WHEN i < 500000 THEN '1' ELSE 'x' END AS INTEGER) FROM range(600000) t(i)"
    affectlake("query", sql, "--out", tmp_path / "x.parquet", "--lake", published, ok=1)
    assert list(tmp_path.glob("*x.parquet*")) == []


STREAM = """
import resource, sys
from pathlib import Path
from affectlake.lake.query import batches, query
started = None
n = 0
for batch in batches(query(Path(sys.argv[1]), sys.argv[2])):
    n += batch.num_rows
    started = started or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started)
"""


def test_results_stream(published: Path) -> None:
    sql = "SELECT i, hash(i) AS h, hash(i + 1) AS k FROM range(20000000) t(i)"
    done = subprocess.run([sys.executable, "-c", STREAM, published, sql], capture_output=True, text=True, check=True)
    n, grown_kb = map(int, done.stdout.split())
    assert n == 20_000_000
    assert grown_kb < 200_000, "480 MB of rows did not stream"


def test_removed_rows_keep_the_columns_that_a_schema_change_took_away(published: Path) -> None:
    import hashlib

    import pyarrow.parquet as pq

    manifest = Manifest(published, resolve(published, "v2").commit)
    file = manifest.files("stimuli")[0]
    old = pl.read_parquet(file.cached).with_columns(mood=pl.lit("calm"))
    part = published / "old.parquet"
    pq.write_table(old.to_arrow(), part)
    digest = hashlib.md5(part.read_bytes()).hexdigest()
    listing = json.dumps([{"md5": digest, "relpath": "part-00000.parquet"}]).encode()
    for md5, data in ((digest, part.read_bytes()), (hashlib.md5(listing).hexdigest() + ".dir", listing)):
        cached_object(published, md5).parent.mkdir(exist_ok=True)
        cached_object(published, md5).write_bytes(data)
    lock = published / "dvc.lock"
    lock.write_text(lock.read_text().replace(manifest.digests["stimuli"], hashlib.md5(listing).hexdigest() + ".dir"))
    from affectlake.lake import repository

    assert repository.publish(published) is not None
    removed = diff_rows(published, resolve(published, "v3"), resolve(published, "v1"), "stimuli").removed
    assert removed.to_dicts() == old.filter(stimulus_index=12).select(removed.columns).to_dicts()
    assert set(removed.columns) == set(old.columns)
