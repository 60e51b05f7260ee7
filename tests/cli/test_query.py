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

from affectlake.cli.query_output import FORMS, Form, write_rows
from affectlake.errors import AffectlakeError, QueryError, VersionError
from affectlake.lake.diff import diff_rows
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.query import batches, query, stream, tuples
from affectlake.lake.store.versions import Manifest, cached_object, resolve

ROWS = "SELECT stimulus_index, stimulus_id, n_captions FROM stimuli ORDER BY ALL"
CLOSED = [
    "ATTACH 'x.db'", "DETACH memory", "USE memory", "COPY stimuli TO 'out.csv'", "COPY (SELECT 1) TO 'out.parquet'",
    "INSTALL httpfs", "LOAD httpfs", "PRAGMA database_list", "PRAGMA enable_profiling", "SET threads = 1",
    "SET lock_configuration = false", "RESET threads", "SET VARIABLE x = 1", "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW t AS SELECT 1", "CREATE MACRO f(x) AS x", "CREATE SECRET s (TYPE s3)", "INSERT INTO stimuli SELECT 1",
    "UPDATE stimuli SET category = 'x'", "DELETE FROM stimuli", "DROP VIEW stimuli", "ALTER VIEW stimuli RENAME TO s",
    "COPY (PIVOT stimuli ON category USING count(*)) TO 'out.csv'",
    "CREATE TABLE t AS PIVOT stimuli ON category USING count(*)", "(/* a */ COPY (PIVOT stimuli ON category) TO 'x')",
    "PIVOT stimuli ON category USING count(*); DROP VIEW stimuli",
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
    before = everything(published)
    with pytest.raises(QueryError):
        list(batches(query(published, sql)))
    for limit in (-1, 41):  # as a table is given, within a query of ours
        with pytest.raises(QueryError):
            list(tuples(stream(published, sql, limit=limit)))
    assert everything(published) == before


def everything(root: Path) -> list[Path]:
    """Return the files of a lake, but for what it remembers of hashes."""
    scratch = root / layout.SCRATCH
    return sorted(path for path in root.rglob("*") if path not in (scratch, root / layout.KNOWN_HASHES))


WORDS = ["SELECT", "*", "FROM", "stimuli", "stimuli@v1", "(", ")", ";", "'", '"', "--", "/*", "*/", "$$", "COPY", "TO",
         "'/tmp/affectlake-fuzz'", "ATTACH", "SET", "WITH", "AS", "x", ",", "1", "@", "v9",
         "\\", "E'", "\n", "glob"]  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=20))
def test_whatever_is_asked_is_answered_or_refused(published: Path, sql: str) -> None:
    with contextlib.suppress(AffectlakeError):
        list(batches(query(published, sql)))
    with contextlib.suppress(AffectlakeError):
        list(tuples(stream(published, sql, limit=41)))
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


@pytest.mark.parametrize(
    "sql",
    [
        "PIVOT stimuli ON category USING count(*)",
        "-- wide\n( /* a */ PIVOT stimuli ON category USING count(*));",
        "SELECT * FROM (PIVOT stimuli ON category USING count(*)) -- end",
        "WITH wide AS (PIVOT stimuli@v1 ON category USING count(*)) FROM wide",
    ],
)
def test_the_columns_of_pivot_need_not_be_named(published: Path, sql: str, tmp_path: Path) -> None:
    categories = [name for (name,) in query(published, "SELECT DISTINCT category FROM stimuli").fetchall()]
    expected = [name for name in categories if name is not None]
    assert len(expected) > 1
    for form in FORMS:
        write_rows(published, sql, "", form, tmp_path / form)
    assert set(expected) < set(pl.read_parquet(tmp_path / "parquet").columns)
    assert (tmp_path / "csv").read_text().count("\n") == pl.read_parquet(tmp_path / "parquet").height + 1
    assert set(expected) < set(query(published, sql).columns)


def test_values_are_parameters(published: Path, tmp_path: Path) -> None:
    sql = "SELECT stimulus_id FROM stimuli WHERE stimulus_index = $index AND stimulus_id <> $other"
    hostile = "x' OR 1 = 1 --"
    assert len(query(published, sql, params={"index": 3, "other": hostile}).fetchall()) == 1
    assert len(query(published, "FROM stimuli WHERE stimulus_index IN (?, ?)", params=[1, 2]).fetchall()) == 2
    given = ("--param", "index=3", "--param", f"other={hostile}", "--lake", published)
    found = json.loads(affectlake("query", sql, *given, "--format", "json").stdout)
    assert found == query(published, "SELECT stimulus_id FROM stimuli WHERE stimulus_index = 3").pl().to_dicts()
    for form in FORMS:
        write_rows(published, sql, "", form, tmp_path / form, {"index": 3, "other": "y"})
    kinds = "SELECT $a::VARCHAR AS a, $b AS b, $c AS c, $d AS d"
    values = ("--param", 'a="7"', "--param", "b=true", "--param", "c=null", "--param", "d=1=2")
    assert json.loads(affectlake("query", kinds, *values, "--lake", published, "--format", "jsonl").stdout) == {
        "a": "7", "b": True, "c": None, "d": "1=2"
    }  # fmt: skip
    assert b"--param NAME=VALUE" in affectlake("query", sql, "--lake", published, ok=1).stderr
    assert b"is not NAME=VALUE" in affectlake("query", sql, "--param", "index", "--lake", published, ok=2).stderr
    wide = "FROM (PIVOT stimuli ON category USING count(*)) WHERE stimulus_index = $index"
    assert b"name the columns of PIVOT" in affectlake("query", wide, *given[:2], "--lake", published, ok=1).stderr


def affectlake(*arguments: str | Path, ok: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["affectlake", *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == ok, done.stderr.decode()
    return done


@pytest.mark.parametrize("by", ["file", "pipe"])
@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet", "arrow"])
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
        "json": lambda: json.loads(data),
        "jsonl": lambda: [json.loads(line) for line in data.splitlines()],
        "parquet": lambda: pl.read_parquet(data).to_dicts(),
        "arrow": lambda: pa.ipc.open_stream(data).read_all().to_pylist(),
    }[form]()
    assert found == query(published, ROWS).pl().to_dicts()


def test_values_that_forms_cannot_say_are_said_plainly(published: Path) -> None:
    sql = "SELECT sum(stimulus_index) s, 'nan'::DOUBLE n, [1.5, 2.0]::DOUBLE[] v, 1 AS x, 2 AS x FROM stimuli@v1"
    (line,) = affectlake("query", sql, "--format", "jsonl", "--lake", published).stdout.splitlines()
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
        assert b"in a folder of the lake's versions" in done.stderr
        assert not (published / place).exists()


def test_an_unknown_ending_is_refused(published: Path, tmp_path: Path) -> None:
    assert (
        b".parquet" in affectlake("query", "SELECT 1", "--out", tmp_path / "x.xlsx", "--lake", published, ok=2).stderr
    )


def test_a_row_that_cannot_be_computed_leaves_no_file(published: Path, tmp_path: Path) -> None:
    sql = "SELECT CAST(CASE WHEN i < 500000 THEN '1' ELSE 'x' END AS INTEGER) FROM range(600000) t(i)"
    affectlake("query", sql, "--out", tmp_path / "x.parquet", "--lake", published, ok=1)
    assert list(tmp_path.glob("*x.parquet*")) == []


# a value of each of DuckDB's types; its words as JSON; its words in CSV where they differ
VALUES = [
    ("true", True, "true"), ("-5::TINYINT", -5, ""), ("7::UTINYINT", 7, ""),
    ("9007199254740993::BIGINT", 9007199254740993, ""),
    ("18446744073709551615::UBIGINT", 18446744073709551615, ""), ("12::HUGEINT", 12, ""), ("5::DECIMAL(9,0)", 5, ""),
    ("2.50::DECIMAL(9,2)", 2.5, "2.50"), ("0.1::FLOAT", 0.10000000149011612, "0.1"), ("0.1::DOUBLE", 0.1, ""),
    ("'nan'::DOUBLE", None, "NaN"), ("'-inf'::FLOAT", None, "-inf"), ("1e300", 1e300, "1e+300"), ("NULL", None, ""),
    ("'a \"b\",é'", 'a "b",é', ""), ("'a'::BLOB || '\\xFF'::BLOB", "61ff", ""), ("'x'::ENUM('x', 'y')", "x", ""),

    ("UUID '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001", ""),
    ("'101'::BIT", "101", ""),
    ("123456789012345678901234567890::BIGNUM", "123456789012345678901234567890", ""), ("union_value(n := 2)", "2", ""),
    ("DATE '2020-01-02'", "2020-01-02", ""), ("DATE '10000-01-01'", "10000-01-01", ""),
    ("DATE 'infinity'", "infinity", ""),
    ("TIMESTAMP '2020-01-01 01:02:03.004'", "2020-01-01 01:02:03.004", ""), ("TIMESTAMP 'infinity'", "infinity", ""),
    ("TIMESTAMP_NS '2020-01-01 01:02:03.123456789'", "2020-01-01 01:02:03.123456789", ""),
    ("TIME '01:02:03'", "01:02:03", ""),
    ("TIMETZ '01:02:03+01'", "01:02:03+01", ""), ("INTERVAL '2 months 3 days'", "2 months 3 days", ""),
    ("[1, NULL]", [1, None], "[1, null]"), ("[0.5::FLOAT, 'nan']", [0.5, None], "[0.5, null]"),
    ("[1, 2]::INTEGER[2]", [1, 2], "[1, 2]"), ("[DATE '2020-01-02']", ["2020-01-02"], '["2020-01-02"]'),
    ("[5::DECIMAL(9,0)]", [5], "[5]"), ("{'size': 1, 'b c': INTERVAL '1 day'}", {"size": 1, "b c": "1 day"}, None),
    ("[{'a': [TIME '01:02:03']}]", [{"a": ["01:02:03"]}], None), ("MAP {'x': 1, 'y': 2}", [["x", 1], ["y", 2]], None),
    ("MAP {DATE '2020-01-02': [1.5]}", [["2020-01-02", [1.5]]], None), ("row(1, 'x')", "(1, x)", ""),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "said", "in_csv"), VALUES)
def test_every_type_is_said_exactly_and_alike(
    published: Path, tmp_path: Path, sql: str, said: object, in_csv: str | None
) -> None:
    def given(form: Form) -> bytes:
        write_rows(published, f"SELECT {sql} AS x, 1 AS one;  -- a comment", "", form, tmp_path / "rows")
        return (tmp_path / "rows").read_bytes()

    for form in FORMS:
        assert given(form), form
    assert json.loads(given("json")) == [{"x": said, "one": 1}] == [json.loads(given("jsonl"))]
    (row,) = csv.DictReader(io.StringIO(given("csv").decode()))
    alike = ("" if said is None else str(said)) if in_csv == "" else json.dumps(said) if in_csv is None else in_csv
    assert row == {"x": alike, "one": "1"}
    assert pl.read_parquet(given("parquet"))["one"].to_list() == [1]
    assert pa.ipc.open_stream(given("arrow")).read_all()["one"].to_pylist() == [1]


def test_a_whole_number_beyond_64_bits_is_exact_in_text(published: Path, tmp_path: Path) -> None:
    write_rows(published, "SELECT 2::HUGEINT ** 100 AS x, (2::HUGEINT << 99) AS y", "", "json", tmp_path / "rows")
    assert json.loads((tmp_path / "rows").read_bytes())[0]["y"] == 2**100


def test_json_is_an_array_of_any_length(published: Path, tmp_path: Path) -> None:
    for n in (0, 1, 2, 100_000):
        write_rows(published, f"SELECT i FROM range({n}) t(i) ORDER BY i", "", None, tmp_path / "rows.json")
        assert json.loads((tmp_path / "rows.json").read_bytes()) == [{"i": i} for i in range(n)]
        write_rows(published, f"SELECT i FROM range({n}) t(i) ORDER BY i", "", None, tmp_path / "rows.jsonl")
        assert len((tmp_path / "rows.jsonl").read_bytes().splitlines()) == n


def test_a_table_is_drawn_for_a_person(published: Path) -> None:
    sql = "SELECT 'a' || i AS name, i / 3 AS x, NULL AS none, [1.5, NULL] AS v, i AS i FROM range(100) t(i)"
    done = affectlake("query", f"{sql} ORDER BY i DESC", "--lake", published)
    lines = done.stdout.decode().splitlines()
    assert lines[0].split() == ["name", "x", "none", "v", "i"]
    assert lines[1].split() == ["VARCHAR", "DOUBLE", '"NULL"', "DECIMAL(2,1)[]", "BIGINT"]
    assert lines[3].split() == ["a99", "33.0", "null", "[1.5,", "null]", "99"]
    assert lines[4].endswith(" 98") and len(lines) == 3 + 40
    assert b"the first 40 rows" in done.stderr
    assert affectlake("query", "SELECT 1 AS x WHERE false", "--lake", published).stdout.decode().split()[0] == "x"


def test_a_query_imports_no_more_than_it_needs(published: Path) -> None:
    code = (
        "import sys; from affectlake.cli.main import main;"
        "main(['query', 'SELECT * FROM stimuli', '--format', sys.argv[1]]);"
        "slow = ('numpy', 'pandas', 'polars', 'pyarrow', 'dvc', 'torch', 'rich.console');"
        "print([m for m in slow if m in sys.modules])"
    )
    for form in ("table", "json", "jsonl"):
        words = [sys.executable, "-c", code, form]
        done = subprocess.run(words, cwd=published, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


NOTEBOOK = """
import sys, types
kernel = types.SimpleNamespace(config={"IPKernelApp": {}})  # by this DuckDB knows that it runs in a notebook
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: kernel
import affectlake
print(affectlake.open().sql("SELECT count(*) FROM stimuli").fetchall())
"""


def test_a_notebook_without_ipywidgets_can_query(published: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], cwd=published, capture_output=True, text=True, check=False)
    assert done.stdout == "[(13,)]\n", done.stderr


STREAM = """
import resource, sys
from pathlib import Path
from affectlake.lake.query import batches, query, stream, tuples
started = None
n = 0
lake, sql, form = sys.argv[1:]
for batch in batches(query(Path(lake), sql)) if form == "arrow" else tuples(stream(Path(lake), sql)):
    n += len(batch)
    started = started or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started)
"""


@pytest.mark.parametrize(("by", "n_rows"), [("arrow", 20_000_000), ("tuples", 5_000_000)])
def test_results_stream(published: Path, by: str, n_rows: int) -> None:
    sql = f"SELECT i, hash(i) AS h, hash(i + 1) AS k, INTERVAL '1 day' AS words FROM range({n_rows}) t(i)"
    words = [sys.executable, "-c", STREAM, published, sql, by]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    n, grown_kb = map(int, done.stdout.split())
    assert n == n_rows
    assert grown_kb < 6 * n_rows // 1000 + 80_000, "the rows did not stream"


def test_removed_rows_keep_the_columns_that_a_schema_change_took_away(published: Path) -> None:
    import hashlib

    import pyarrow.parquet as pq

    manifest = Manifest(published, resolve(published, "v2").commit)
    file = manifest.files(Output("stimuli"))[0]
    old = pl.read_parquet(file.cached).with_columns(mood=pl.lit("calm"))
    part = published / "old.parquet"
    pq.write_table(old.to_arrow(), part)
    digest = hashlib.md5(part.read_bytes()).hexdigest()
    listing = json.dumps([{"md5": digest, "relpath": "part-00000.parquet"}]).encode()
    for md5, data in ((digest, part.read_bytes()), (hashlib.md5(listing).hexdigest() + ".dir", listing)):
        cached_object(published, md5).parent.mkdir(exist_ok=True)
        cached_object(published, md5).write_bytes(data)
    lock = published / "dvc.lock"
    lock.write_text(
        lock.read_text().replace(manifest.digests[Output("stimuli")], hashlib.md5(listing).hexdigest() + ".dir")
    )
    from affectlake.lake import repository

    assert repository.publish(published) is not None
    removed = diff_rows(published, resolve(published, "v3"), resolve(published, "v1"), Output("stimuli")).removed
    assert removed.to_dicts() == old.filter(stimulus_index=12).select(removed.columns).to_dicts()
    assert set(removed.columns) == set(old.columns)
