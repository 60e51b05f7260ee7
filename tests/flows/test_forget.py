"""Forgetting a participant, from the command line: what goes, what remains, and that nothing brings the rows back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from affectlake.errors import UsageError
from affectlake.lake import repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.cache import Listed, collected_parts
from affectlake.lake.store.forgotten import NOBODY, Forgotten, read_forgotten
from affectlake.lake.store.versions import Manifest, list_versions
from affectlake.lake.tables import appending
from affectlake.lake.tables.removing import rewrite
from affectlake.lake.tables.writing import read_output
from affectlake.pipelines.collection import forgetting
from tests.flows.test_judgments import affectlake, exclude, ids_of, imported, make
from tests.support.builds import built_once, copy_of
from tests.support.chat_lakes import build_steps
from tests.support.judgment_files import simulate, table

WHO = "qx7RmZ2pLw9TbK4c"


def export(lake: Path, path: Path, seed: int = 0, people: str = "") -> Path:
    """Write judgments of seven participants, one of whom is WHO; with `people`, of these and no others."""
    table(simulate(ids_of(lake), 420, 7, seed=seed), path)
    text = path.read_text(encoding="utf-8-sig").replace("P03", WHO)
    head, *rows = text.splitlines()
    kept = [row for row in rows if re.match(people, row)]
    path.write_text("\n".join([head, *kept]) + "\n")
    return path


def answered(folder: Path) -> Path:
    lake = copy_of(built_once("judgments", make), folder)
    outside = folder.parent / "answers"
    outside.mkdir(exist_ok=True)
    imported(lake, export(lake, outside / "first.csv", people="(?!P06)"))
    imported(lake, export(lake, outside / "second.csv", people="P06"))
    exclude(lake, fewer_than=5, faster_than_ms=1100)
    build_steps(lake, "choose_by_judgments")
    publish(lake)
    return lake


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with the answers of seven participants, one of whom is WHO, and the tables made from them, at v4."""
    return copy_of(built_once("forgetting", answered), tmp_path / "lake")


def publish(lake: Path) -> None:
    with repository.writing(lake, "publish"):
        repository.publish(lake)


def with_origin(lake: Path, origin: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", origin], check=True)
    subprocess.run(["git", "-C", lake, "remote", "add", "origin", origin], check=True)
    return origin


def of(lake: Path, name: str) -> pl.DataFrame:
    return read_output(lake, Output(name, "people")).collect()


def traces(folder: Path, who: str = WHO) -> Iterator[Path]:
    """Yield the files with the id in their bytes or, if they are Parquet files, in one of their columns."""
    for path in (one for one in folder.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            frame = pl.read_parquet(
                path, columns=[n for n, t in pl.read_parquet_schema(path).items() if t == pl.String]
            )
            if any((frame[name] == who).any() for name in frame.columns):
                yield path
        elif who.encode() in content:
            yield path


def in_git(lake: Path) -> bool:
    objects = ["git", "-C", str(lake), "cat-file", "--batch", "--batch-all-objects"]
    return WHO.encode() in subprocess.run(objects, capture_output=True, check=True).stdout


def test_the_rows_go_and_the_rest_stays(lake: Path) -> None:
    before, parts = of(lake, "responses"), Manifest(lake, "").files(Output("responses", "people"))
    said = affectlake("forget", "people", WHO, "--lake", lake)
    after = of(lake, "responses")
    assert after.equals(before.filter(pl.col("participant") != WHO))
    assert f"removed from responses/people: {before.height - after.height:,} rows" in said.stdout
    assert WHO not in said.stdout + said.stderr
    now = Manifest(lake, "").files(Output("responses", "people"))
    assert [one.path for one in now] == [one.path for one in parts]
    assert now[1].md5 == parts[1].md5, "a part without rows of the participant is the same file"
    latest = list_versions(lake)[-1]
    log = subprocess.run(
        ["git", "-C", str(lake), "log", "-1", "--format=%B"], capture_output=True, text=True, check=True
    )
    assert log.stdout.startswith(f"{latest.name}: rows of one participant were removed")
    assert "responses/people: -" in log.stdout
    assert not in_git(lake)
    present = re.search(r"present, until the next `affectlake run`: (.*)", said.stdout)
    assert present and {"participants/people", "attention/people"} <= set(present[1].split(", "))
    assert re.search(r"cache: \d+ files, of v2, v3", said.stdout)
    build_steps(lake, "choose_by_judgments")
    assert of(lake, "choices").height == of(lake, "trials")["n_repeats"].sum() < after.height
    for name in ("participants", "excluded_judgments"):
        assert WHO not in of(lake, name)["participant"].to_list()
    assert affectlake("fsck", "--lake", lake, ok=0)


def test_no_trace_remains_after_a_purge(lake: Path) -> None:
    remote = lake / "storage" / "remote"  # on this machine, so that nothing is announced
    affectlake("push", "--lake", lake, ok=1)
    assert list(traces(remote))
    affectlake("forget", "people", WHO, "--lake", lake)
    build_steps(lake, "choose_by_judgments")
    publish(lake)
    assert list(traces(lake)), "older versions have the rows until they are purged"
    said = affectlake("forget", "people", WHO, "--purge", "--lake", lake).stdout
    assert re.search(r"purged: \d+ files were removed", said)
    assert "cache:" not in said
    assert not list(traces(lake))
    assert not in_git(lake)
    # what is left is a lake that works: nothing is reported, sent or fetched, and only versions without it are read
    assert "not as published" not in affectlake("fsck", "--lake", lake).stdout
    affectlake("push", "--lake", lake, ok=1)
    affectlake("pull", "--lake", lake)
    assert not list(traces(lake))
    refused = affectlake("checkout", "v2", "--lake", lake, ok=1).stderr
    assert "were removed with the rows of a participant who was forgotten" in refused
    assert of(lake, "responses").height
    affectlake("checkout", "v1", "--lake", lake)
    affectlake("checkout", "latest", "--lake", lake)
    assert WHO not in of(lake, "responses")["participant"].to_list()


def test_a_purge_keeps_what_the_latest_version_needs(lake: Path) -> None:
    said = affectlake("forget", "people", WHO, "--purge", "--lake", lake).stdout
    assert "present, until the next `affectlake run`:" in said
    assert "participants/people" in said
    assert WHO in of(lake, "participants")["participant"].to_list()
    affectlake("fsck", "--lake", lake)
    build_steps(lake, "choose_by_judgments")
    publish(lake)
    affectlake("forget", "people", WHO, "--purge", "--lake", lake)
    assert not list(traces(lake))


def test_an_import_does_not_bring_them_back(lake: Path, tmp_path: Path) -> None:
    affectlake("forget", "people", WHO, "--lake", lake)
    n = of(lake, "responses").height
    path = export(lake, tmp_path / "again.csv")
    again = imported(lake, path)
    assert (again["new"], again["stored"]) == (0, n)
    assert "60 judgments of forgotten participants are left out" in str(again["notes"])
    rows = of(lake, "responses").head(3).with_columns(participant=pl.lit(WHO), shard=pl.lit(9, dtype=pl.Int32))
    assert not appending.append(lake, Output("responses", "people"), rows, {})
    affectlake("forget", "people", WHO, "--allow-again", "--lake", lake)
    assert imported(lake, path)["new"] == 60
    assert of(lake, "responses").filter(pl.col("participant") == WHO).height == 60
    undone = affectlake("forget", "people", WHO, "--allow-again", "--lake", lake, ok=2).stderr
    assert "found: 0 forgotten ones" in " ".join(undone.split())


@pytest.mark.parametrize("forgets", ["here", "there", "both"])
def test_a_join_does_not_bring_them_back(forgets: str, lake: Path, tmp_path: Path) -> None:
    other = copy_of(lake, tmp_path / "other")
    for at, one in enumerate((lake, other)):
        imported(one, export(lake, tmp_path / f"more{at}.csv", seed=at + 1))
        if forgets in (("here", "there")[at], "both"):
            affectlake("forget", "people", WHO, "--lake", one)
    affectlake("join", other, "--lake", lake)
    rows = of(lake, "responses")
    assert WHO not in rows["participant"].to_list()
    assert rows.height == 6 * 60 * 3
    assert rows["request_key"].n_unique() == rows.height
    assert read_forgotten(lake).among("people", [WHO, "P01"]) == [WHO]
    affectlake("join", lake, "--lake", other)
    assert of(other, "responses").sort("request_key").equals(rows.sort("request_key"))
    assert "nothing is new" in affectlake("import", "people", tmp_path / "more1.csv", "--lake", other).stdout


def test_a_pull_removes_them_from_a_clone(lake: Path, tmp_path: Path) -> None:
    origin, clone = with_origin(lake, tmp_path / "origin.git"), tmp_path / "clone"
    affectlake("remote", "add", "shared", tmp_path / "shared", "--default", "--lake", lake)
    affectlake("push", "--lake", lake)
    subprocess.run(["git", "clone", "--quiet", origin, clone], check=True)
    affectlake("pull", "--lake", clone)
    affectlake("checkout", "latest", "--lake", clone)
    assert WHO in of(clone, "responses")["participant"].to_list()
    said = affectlake("forget", "people", WHO, "--lake", lake).stdout
    shared = [line.split()[-1] for line in said.splitlines() if "rm -f" in line and str(tmp_path / "shared") in line]
    assert {Path(one) for one in shared} <= set(traces(tmp_path / "shared"))
    assert len(shared) >= 1
    affectlake("push", "--lake", lake)
    affectlake("pull", "--lake", clone)
    assert WHO not in of(clone, "responses")["participant"].to_list()


def test_a_removal_that_was_interrupted_is_published_by_whoever_comes_next(lake: Path, tmp_path: Path) -> None:
    output = Output("responses", "people")
    found = rewrite(lake, output, store_parts(lake), [WHO])
    assert found.n_removed == 60
    forgetting._remove(lake, {output: store_parts(lake)}, {output: found}, NOBODY.with_participant("people", WHO))
    assert (lake / layout.FORGETTING).exists()
    imported(lake, export(lake, tmp_path / "more.csv", seed=5))
    assert not (lake / layout.FORGETTING).exists()
    assert WHO not in of(lake, "responses")["participant"].to_list()
    assert Manifest(lake, list_versions(lake)[-1].commit).digests[output] == Manifest(lake, "").digests[output]


def test_parts_that_were_not_placed_are_placed(lake: Path) -> None:
    output = Output("responses", "people")
    found = rewrite(lake, output, store_parts(lake), [WHO])
    appending._point(lake, output, found.listed)  # killed here: the folder has the old part
    assert WHO in of(lake, "responses")["participant"].to_list()
    appending.place_appended(lake)
    assert WHO not in of(lake, "responses")["participant"].to_list()


def store_parts(lake: Path) -> list[Listed]:
    return collected_parts(lake, Output("responses", "people"))


def test_who_does_not_exist_cannot_be_forgotten(lake: Path) -> None:
    said = affectlake("forget", "people", "P99", "--lake", lake, ok=2).stderr
    assert "found: 7 participants" in " ".join(said.split())
    assert "P01" not in said, "the others are not named"
    assert "no answers of 'poeple' are stored" in affectlake("forget", "poeple", WHO, "--lake", lake, ok=2).stderr
    assert [one.name for one in list_versions(lake)] == ["v1", "v2", "v3", "v4"]
    affectlake("forget", "people", WHO, "--lake", lake)
    again = affectlake("forget", "people", WHO, "--lake", lake).stdout
    assert "the collected tables have no rows of this participant" in again


def test_the_list_knows_a_participant_by_agent_and_nobody_else() -> None:
    one = NOBODY.with_participant("people", WHO)
    assert one.with_participant("people", WHO) == one
    assert WHO not in one.text().decode()
    assert one.among("people", ["P01", None, WHO]) == [WHO]
    assert not one.among("others", [WHO])
    other = NOBODY.with_participant("people", WHO)
    assert other != one, "salts are random"
    both = one | other | NOBODY.with_participant("people", "P01")
    assert both.among("people", [WHO, "P01", "P02"]) == [WHO, "P01"]
    assert both.without_participant("people", WHO).among("people", [WHO, "P01"]) == ["P01"]
    assert not Forgotten()


def test_files_and_history_that_contain_the_id_are_listed(lake: Path) -> None:
    (lake / "notes.txt").write_text(f"called {WHO} back")
    subprocess.run(["git", "-C", lake, "add", "notes.txt"], check=True)
    subprocess.run(
        ["git", "-C", lake, "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "Add notes"], check=True
    )
    (lake / "storage" / "reports").mkdir(exist_ok=True)
    (lake / "storage" / "reports" / "v3.html").write_text(f"<p>{WHO}</p>")
    (lake / "other.txt").write_text(f"x{WHO}")
    said = affectlake("forget", "people", WHO, "--purge", "--lake", lake).stdout
    assert "notes.txt" in said.split("files in this folder")[1].split("Git's history")[0]
    assert "notes.txt" in said.split("Git's history")[1]
    assert "other.txt" not in said, "another word that ends in the id"
    assert not (lake / "storage" / "reports" / "v3.html").exists()
    assert (lake / "notes.txt").exists()


def test_a_purge_is_refused_where_the_cache_is_shared(lake: Path, tmp_path: Path) -> None:
    (lake / ".dvc" / "cache").rename(tmp_path / "cache")
    with (lake / ".dvc" / "config.local").open("a") as config:
        config.write(f"[cache]\n    dir = {tmp_path / 'cache'}\n")
    affectlake("forget", "people", WHO, "--lake", lake)
    refused = affectlake("forget", "people", WHO, "--purge", "--lake", lake, ok=1).stderr
    assert "other repositories may use it; nothing was removed" in refused
    assert list(traces(tmp_path / "cache"))
    with pytest.raises(UsageError, match="no forgotten participant"):
        forgetting.allow_again(lake, "people", "P01", print)
