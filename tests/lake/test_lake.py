"""A lake as a repository: making one, versions, reading old ones, queries, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import affectlake
from affectlake.errors import LakeError, QueryError, VersionError
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.query import query
from affectlake.lake.store import versions
from affectlake.lake.store.versions import Manifest, list_versions, resolve
from tests.support.lakes import OUTPUTS, put


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_a_version_is_one_commit_and_tag(published: Path) -> None:
    found = list_versions(published)
    assert [v.name for v in found] == ["v1", "v2"]
    assert found[-1].commit == git(published, "rev-parse", "HEAD") == git(published, "rev-parse", "lake/v2")
    assert "stimuli: +1 rows (13)" in found[-1].changes
    assert "choices/tiny: +220 rows (220)" in found[0].changes
    assert git(published, "status", "--porcelain") == ""


def test_nothing_changed_makes_no_version(published: Path) -> None:
    assert repository.publish(published) is None
    assert len(list_versions(published)) == 2


def test_without_an_identity_the_tool_signs_as_itself(published: Path) -> None:
    assert {v.author for v in list_versions(published)} == {"affectlake"}


def test_an_identity_of_ones_own_is_used(lake: Path) -> None:
    git(lake, "config", "user.name", "Ada")
    git(lake, "config", "user.email", "ada@example.org")
    put(lake)
    made = repository.publish(lake)
    assert made is not None
    assert made.author == "Ada"


def test_an_old_version_is_read_without_checkout(published: Path) -> None:
    counts = {at: query(published, "SELECT count(*) FROM stimuli", at).fetchall()[0][0] for at in ("v1", "v2", "")}
    assert counts == {"v1": 12, "v2": 13, "": 13}
    assert pl.read_parquet(published / "storage/tables/stimuli/*.parquet").height == 13


def test_two_versions_in_one_query(published: Path) -> None:
    sql = "SELECT a.stimulus_id FROM stimuli@v2 a ANTI JOIN stimuli@v1 b USING (stimulus_id) WHERE category <> 'x@v1'"
    assert query(published, sql).fetchall() == [("tiny-0012",)]


def test_a_manifest_names_the_bytes_that_were_written(published: Path) -> None:
    manifest = Manifest(published, resolve(published).commit)
    assert set(manifest.digests) == set(OUTPUTS)
    for output in OUTPUTS:
        for file in manifest.files(output):
            assert file.cached.read_bytes() == (published / file.path).read_bytes()


def test_the_last_working_tables_are_not_a_version(published: Path) -> None:
    put(published, 14)
    assert query(published, "SELECT count(*) FROM stimuli").fetchall() == [(13,)]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM stimuli",
        "COPY stimuli TO 'out.csv'",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "PRAGMA database_list",
        "SET memory_limit = '1GB'",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT nothing FROM stimuli",
    ],
)
def test_a_query_is_one_closed_select(published: Path, sql: str) -> None:
    with pytest.raises(QueryError):
        query(published, sql).fetchall()


def test_an_unknown_table_offers_the_nearest(published: Path) -> None:
    with pytest.raises(QueryError, match="did you mean 'stimuli'"):
        query(published, "SELECT * FROM stimuly")


def test_versions_are_named_or_refused(published: Path) -> None:
    commit = resolve(published, "v1").commit
    assert resolve(published, commit[:8]).name == "v1"
    assert resolve(published, "latest").name == "v2"
    with pytest.raises(VersionError, match="'v9' is not a version"):
        resolve(published, "v9")


def test_a_lake_without_versions_says_so(lake: Path) -> None:
    with pytest.raises(VersionError, match="no version yet"):
        resolve(lake)


def test_a_missing_cache_file_is_named(published: Path) -> None:
    manifest = Manifest(published, resolve(published, "v1").commit)
    manifest.files(Output("stimuli"))[0].cached.unlink()
    with pytest.raises(VersionError, match="files of stimuli are not in the cache"):
        query(published, "SELECT * FROM stimuli", "v1")


def test_not_a_lake(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="is not a lake"):
        repository.find(tmp_path)


def test_a_lake_is_found_from_inside(lake: Path) -> None:
    assert repository.find(lake / "storage" / "tables") == lake


def test_a_folder_with_files_is_not_made_a_lake(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(LakeError, match="not empty"):
        repository.init(tmp_path, "study: tiny\n")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_detached_lake_is_refused(published: Path) -> None:
    git(published, "switch", "--quiet", "--detach")
    put(published, 14)
    with pytest.raises(LakeError, match="detached"):
        repository.publish(published)
    assert len(list_versions(published)) == 2


def test_a_second_writer_is_told_who_the_first_is(lake: Path) -> None:
    refusal = pytest.raises(LakeError, match=f"the first, process {os.getpid()}")
    with repository.writing(lake, "the first"), refusal, repository.writing(lake, "the second"):
        pass
    with repository.writing(lake, "the third"):
        pass


def test_a_dead_writer_holds_nothing(lake: Path) -> None:
    code = "import os, sys; from pathlib import Path; from affectlake.lake import repository\n"
    code += "repository.writing(Path(sys.argv[1]), 'doomed').__enter__(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(lake)], check=False, capture_output=True)
    with repository.writing(lake, "next"):
        pass


def test_files_of_the_code_around_a_lake_stay_out_of_its_versions(lake: Path) -> None:
    (lake / "notes.txt").write_text("mine")
    put(lake)
    repository.publish(lake)
    assert "notes.txt" not in git(lake, "ls-tree", "-r", "--name-only", "HEAD").split()


STOPS = {
    "before the tree is written": "_tree",
    "before the cache is made sure of": "ensure_intact",
    "before the commit is built": "describe",
}


@pytest.mark.parametrize("where", list(STOPS))
def test_a_crash_while_publishing_leaves_the_old_version(
    published: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(published, 14)

    def crash(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(repository, STOPS[where], crash)
        with pytest.raises(OSError, match="no space"):
            repository.publish(published)
    assert [v.name for v in list_versions(published)] == ["v1", "v2"]
    made = repository.publish(published)
    assert made is not None
    assert made.name == "v3"


@pytest.mark.parametrize("step", ["commit-tree", "update-ref", "reset"])
def test_a_crash_between_git_commands_leaves_one_version_or_the_other(
    published: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(published, 14)
    real: Callable[..., str] = repository.git

    def crashing(root: Path, *arguments: str, **rest: str) -> str:
        if arguments[0] == step:
            raise OSError("killed")
        return real(root, *arguments, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(repository, "git", crashing)
        with pytest.raises(OSError, match="killed"):
            repository.publish(published)
    names = [v.name for v in list_versions(published)]
    assert names == (["v1", "v2", "v3"] if step == "reset" else ["v1", "v2"])
    assert git(published, "rev-parse", "HEAD") == list_versions(published)[-1].commit
    repository.publish(published)
    assert [v.name for v in list_versions(published)] == ["v1", "v2", "v3"]
    assert query(published, "SELECT count(*) FROM stimuli").fetchall() == [(14,)]


def test_the_cache_is_private_to_its_user(lake: Path) -> None:
    assert (versions.cache_folder(lake).stat().st_mode & 0o077) == 0


def test_tracked_files_are_read_only(published: Path) -> None:
    for path in (published / layout.TABLES).rglob("*.parquet"):
        assert path.stat().st_mode & 0o222 == 0


def test_the_python_twin_reads_any_version(published: Path) -> None:
    lake = affectlake.open(published / "storage")
    assert [v.name for v in lake.versions()] == ["v1", "v2"]
    assert lake.table("stimuli", at="v1").collect().height == 12
    assert lake.sql("SELECT count(*) FROM stimuli").fetchall() == [(13,)]
    with pytest.raises(VersionError, match="did you mean 'choices'"):
        lake.table("choice")
