"""Damaged files of the cache: no row of one is ever given, and it is said which file it is and how to mend it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from affectlake.errors import AffectlakeError, QueryError, VersionError
from affectlake.lake.diff import diff
from affectlake.lake.files.outputs import Output
from affectlake.lake.open import open_lake
from affectlake.lake.query import query, stream, tuples
from affectlake.lake.store.versions import Manifest, cached_object, resolve
from affectlake.lake.tables import factory
from tests.attacks.planting import plant

N_FLIPS = 120


def part(lake: Path, output: str, at: str) -> Path:
    (file,) = Manifest(lake, resolve(lake, at).commit).files(Output.named(output))
    return file.cached


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """Flip one bit of a file in place, and flip it back."""
    flip(path, bit)
    yield
    flip(path, bit)


def flip(path: Path, bit: int) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def bits(path: Path) -> list[int]:
    """Return `N_FLIPS` places all over a file, of every position within a byte."""
    size = path.stat().st_size
    return [i * size // N_FLIPS * 8 + i % 8 for i in range(N_FLIPS)]


def refused(lake: Path, sql: str) -> None:
    """See a VersionError come before any row, however the rows of `choices` are asked for."""
    asks = (
        lambda: open_lake(lake).table("choices", "v1").collect(),
        lambda: query(lake, sql, "v1").fetchall(),
        lambda: list(tuples(stream(lake, sql, "v1"))),
    )
    for ask in asks:
        with pytest.raises(VersionError) as told:
            ask()
        assert "choices/tiny of v1 cannot be read" in told.value.summary
        assert "affectlake fsck --repair" in told.value.todo


def test_no_flipped_bit_of_a_part_is_read(published: Path) -> None:
    sql = "SELECT sum(i), sum(odd), count(DISTINCT protocol) FROM choices"
    wanted = query(published, sql, "v1").fetchall()
    path = part(published, "choices/tiny", "v1")
    for bit in bits(path):
        with flipped(path, bit):
            refused(published, sql)
    assert query(published, sql, "v1").fetchall() == wanted


def test_no_flipped_bit_of_a_listing_is_read(published: Path) -> None:
    sql = "SELECT count(*) FROM choices"
    wanted = query(published, sql, "v1").fetchall()
    path = cached_object(
        published, Manifest(published, resolve(published, "v1").commit).digests[Output("choices", "tiny")]
    )
    for bit in bits(path):
        with flipped(path, bit):
            refused(published, sql)
    assert query(published, sql, "v1").fetchall() == wanted


def test_a_damaged_file_is_named_and_mended_and_other_tables_are_read(published: Path) -> None:
    path = part(published, "stimuli", "v2")
    sql = "SELECT count(*), max(stimulus_index) FROM stimuli"
    assert query(published, sql).fetchall() == [(13, 12)]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:])
    words = ["affectlake", "query", sql, "--lake", str(published)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    for said in ("stimuli of v2", "part-00000.parquet is damaged", str(path), "affectlake fsck --repair"):
        assert said in done.stderr
    with pytest.raises(VersionError, match="stimuli of v2"):
        diff(published, resolve(published, "v1"), resolve(published, "v2"))
    with pytest.raises(VersionError, match="stimuli of v2"):
        query(published, "SELECT * FROM choices JOIN (FROM stimuli) ON i = stimulus_index")
    with pytest.raises(VersionError, match="stimuli of v2"):
        query(published, "SELECT * FROM choices, stimuli@v2", "v1")
    # what is not asked for is not looked at
    assert query(published, "SELECT count(*) AS stimuli FROM choices -- not stimuli").fetchall() == [(286,)]
    assert query(published, sql, "v1").fetchall() == [(12, 11)]
    assert open_lake(published).table("triplets").collect().height == 286
    subprocess.run(["affectlake", "fsck", "--repair", "--lake", published], capture_output=True, check=False)
    assert query(published, sql).fetchall() == [(13, 12)]


def test_a_whole_file_in_another_ones_place_is_refused(published: Path) -> None:
    old, new = part(published, "stimuli", "v1"), part(published, "stimuli", "v2")
    status = new.stat()
    new.unlink()
    shutil.copy2(old, new)
    with pytest.raises(VersionError, match="stimuli of v2"):
        query(published, "FROM stimuli")
    new.unlink()
    new.write_bytes(b"no Parquet file" * 99)
    with pytest.raises(VersionError, match="stimuli of v2"):
        query(published, "FROM stimuli")
    new.write_bytes(bytes(status.st_size))
    with pytest.raises(VersionError, match="stimuli of v2"):
        open_lake(published).table("stimuli")


def test_the_tables_there_are_can_be_asked_for_though_one_is_damaged(published: Path) -> None:
    path = part(published, "stimuli", "v2")
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    sql = "SELECT table_name, count(*) FROM information_schema.columns GROUP BY ALL ORDER BY ALL"
    assert query(published, sql).fetchall() == [("choices", 9), ("triplets", 6)]
    assert [name for (name,) in query(published, "SHOW TABLES").fetchall()] == ["choices", "triplets"]
    assert query(published, "SELECT 1").fetchall() == [(1,)]


def test_no_flipped_bit_reaches_the_patterns_of_a_subject(published: Path) -> None:
    rows = factory.tiny_lake(12)["betas"]
    version = plant(published, {"betas": [rows.to_arrow()]})
    lake, subject = open_lake(published), rows["subject"][0]
    wanted = rows.filter(subject=subject)["pattern"].to_list()
    found = lake.patterns(subject)
    assert found.tolist() == wanted
    path = Path(str(found.filename))
    for bit in bits(path)[::10]:  # of the file that is mapped, which is made again
        flip(path, bit)
        assert lake.patterns(subject).tolist() == wanted
    for bit in bits(part(published, "betas", version.name))[::10]:  # of the part that it is made from
        with flipped(part(published, "betas", version.name), bit), pytest.raises(VersionError, match="betas of v3"):
            lake.patterns(subject)
    assert lake.patterns(subject).tolist() == wanted


@pytest.mark.parametrize(
    "sql",
    [
        "FROM {}", "TABLE {}", "SUMMARIZE {}", "SELECT (SELECT max(i) FROM {})", "SELECT 1 WHERE EXISTS (FROM {})",
        "WITH x AS (FROM {}) FROM x", "SELECT * FROM main.{}", "SELECT * FROM memory.main.{} c", 'SELECT * FROM "{}"',
        "FROM 'choices'", "SELECT * FROM duckdb_views(), E'\\x63hoices'", "SELECT * FROM E'\\x63hoices'",
        "SELECT [x for x in (SELECT list(i) FROM {})]", "SELECT * FROM range((SELECT max(i) FROM {}))",
        "PIVOT {} ON trial_set USING count(*)", "UNPIVOT {} ON i, j, k INTO NAME n VALUE v", "FROM Choices",
        "SELECT * FROM (DESCRIBE triplets), (FROM {})", "SELECT * FROM triplets POSITIONAL JOIN {}",
        "SELECT 1 UNION ALL SELECT max(i) FROM {}", "SELECT max(i) FILTER (WHERE i IN (FROM {})) FROM triplets",
    ],
)  # fmt: skip
def test_no_way_to_name_a_table_passes_its_examination_by(published: Path, sql: str) -> None:
    path = part(published, "choices/tiny", "v2")
    with flipped(path, 8 * 100), pytest.raises(AffectlakeError):
        query(published, sql.format("choices")).fetchall()
    if "{}" in sql:
        with flipped(path, 8 * 100), pytest.raises(AffectlakeError):
            query(published, sql.format("choices@v2"), "v1").fetchall()


def test_a_file_of_the_cache_cannot_be_asked_for_past_its_table(published: Path) -> None:
    path = part(published, "choices/tiny", "v2")
    with flipped(path, 8 * 100), pytest.raises(QueryError):
        query(published, f"SELECT * FROM read_parquet('{path}')").fetchall()
