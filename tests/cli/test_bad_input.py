"""What a lake says when it cannot: newer format, ambiguous prefix, read-only place; and the twin's way of showing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import affectlake
from affectlake.errors import LakeError, VersionError
from affectlake.flows.build import build
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.open import Listing
from affectlake.lake.query import query
from affectlake.lake.store import lake_format, versions
from affectlake.lake.store.versions import Manifest, cache_folder, cached_object, list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.support.lakes import put


def git(root: Path, *arguments: str | Path) -> str:
    done = subprocess.run(["git", *map(str, arguments)], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_lake_of_a_newer_format_is_left_alone(published: Path) -> None:
    (published / layout.FORMAT).write_text("7\n")
    with pytest.raises(LakeError, match="newer affectlake") as caught:
        affectlake.open(published)
    assert f"lake format {lake_format.FORMAT}," in str(caught.value)
    assert "lake format 7" in str(caught.value)


def test_a_lake_without_a_format_is_of_the_first(published: Path) -> None:
    (published / layout.FORMAT).unlink()
    assert affectlake.open(published).root == published


def test_a_damaged_format_is_named(published: Path) -> None:
    (published / layout.FORMAT).write_text("x")
    with pytest.raises(LakeError, match="is damaged"):
        repository.find(published)


@pytest.fixture
def shared(published: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A lake and its clone, both at the same versions, both with their tables in place."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(published, "remote", "add", "origin", tmp_path / "origin.git")
    config = published / ".dvc/config"
    config.write_text(config.read_text().replace("../storage/remote", str(tmp_path / "files")))
    put(published, 14)
    repository.publish(published)
    push(published, list_versions(published))
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "--no-tags", tmp_path / "origin.git", other)
    pull(other)
    checkout(other, resolve(other))
    return published, other


def go_on(lake: Path, n_stimuli: int) -> None:
    put(lake, n_stimuli)
    repository.publish(lake)
    push(lake, [resolve(lake)])


def test_versions_of_a_newer_format_are_not_pulled(shared: tuple[Path, Path]) -> None:
    lake, other = shared
    (lake / layout.FORMAT).write_text("7\n")
    go_on(lake, 7)
    with pytest.raises(LakeError, match="newer affectlake"):
        pull(other)
    assert resolve(other).name == "v3"


def test_a_pull_moves_the_tables_on_with_the_version(shared: tuple[Path, Path]) -> None:
    lake, other = shared
    go_on(lake, 7)
    assert pull(other).versions == ["v4"]
    part = "storage/tables/stimuli/part-00000.parquet"
    assert (other / part).read_bytes() == (lake / part).read_bytes()
    assert git(other, "status", "--porcelain") == ""
    assert repository.publish(other) is None


def test_a_pull_keeps_work_that_is_in_no_version(shared: tuple[Path, Path]) -> None:
    lake, other = shared
    go_on(lake, 7)
    put(other, 9)
    before = (other / "dvc.lock").read_bytes()
    with pytest.raises(LakeError, match="unpublished work"):
        pull(other)
    assert (other / "dvc.lock").read_bytes() == before
    assert resolve(other).name == "v3"


def test_a_detached_lake_is_not_pushed(shared: tuple[Path, Path]) -> None:
    lake, _ = shared
    git(lake, "switch", "--quiet", "--detach")
    with pytest.raises(LakeError, match="detached commit"):
        push(lake, list_versions(lake))


def test_a_detached_lake_is_not_built(published: Path) -> None:
    git(published, "switch", "--quiet", "--detach")
    lines: list[str] = []
    with pytest.raises(LakeError, match="detached commit"):
        build(published, lines.append)
    assert lines == [], "hours of work would have come before the refusal"


def lose(lake: Path, output: str, version: str = "v1") -> Path:
    """Remove an output's first part from the cache; return where it was."""
    (file, *_) = Manifest(lake, resolve(lake, version).commit).files(Output.named(output))
    file.cached.unlink()
    return file.cached


def test_a_file_missing_from_one_table_closes_no_other(published: Path) -> None:
    lose(published, "stimuli")
    assert query(published, "SELECT count(*) > 0 FROM triplets@v1").fetchall() == [(True,)]
    assert query(published, "SELECT count(*) FROM stimuli").fetchall() == [(13,)]
    for sql in ("SELECT * FROM stimuli@v1", "SELECT * FROM STIMULI@v1 JOIN stimuli USING (stimulus_index)"):
        with pytest.raises(VersionError, match=r"files of stimuli are not in the cache(.|\n)*affectlake pull"):
            query(published, sql)


def test_what_cache_and_remote_lost_comes_back_from_the_folder(published: Path) -> None:
    checkout(published, resolve(published, "v1"))
    push(published, list_versions(published))
    gone = lose(published, "stimuli")
    for path in (published / "storage/remote").rglob(gone.name):
        path.unlink()
    v1 = resolve(published, "v1")
    assert [f.repaired for f in check(published, v1, repair=False)] == [False, False]
    assert [f.repaired for f in check(published, v1, repair=True)] == [True, True]
    assert check(published, v1, repair=False) == []
    lose(published, "stimuli")
    part = published / "storage/tables/stimuli/part-00000.parquet"
    part.chmod(0o644)
    part.write_bytes(part.read_bytes() + b"x")
    for path in (published / "storage/remote").rglob(gone.name):
        path.unlink()
    assert [f.repaired for f in check(published, v1, repair=True)] == [False, False], "an edited table is no other copy"
    assert not gone.exists()


def test_an_ambiguous_prefix_names_its_candidates(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = [v._replace(commit=f"abcd{i}{v.commit[5:]}") for i, v in enumerate(list_versions(published))]
    monkeypatch.setattr(versions, "list_versions", lambda _: twins)
    with pytest.raises(VersionError, match="several versions") as caught:
        resolve(published, "abcd")
    assert all(f"{v.name} ({v.commit[:10]})" in str(caught.value) for v in twins)
    assert resolve(published, "abcd1").name == "v2"


READ_ONLY = """
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
cd "$1"
for words in "versions" "diff v1 v2" "fsck --local" "fsck"; do affectlake $words >/dev/null; done
affectlake query "SELECT count(*) AS n FROM stimuli@v1" --format csv
for words in "checkout v1" "publish" "gc" "pull"; do
  if affectlake $words; then exit 9; fi
done
"""


def test_a_read_only_lake_is_read_and_never_written(published: Path) -> None:
    can = shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    if os.geteuid() != 0 or not can or can.returncode:
        pytest.skip("only root can mount a folder read-only")
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(published)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "n\n12\n"
    assert "Traceback" not in done.stderr
    assert done.stderr.count("cannot be written to") == 4, done.stderr


def test_the_cache_folder_follows_a_changed_setting(published: Path) -> None:
    assert cache_folder(published) == published / ".dvc/cache"
    (published / ".dvc/config.local").write_text("[cache]\n    dir = ../elsewhere\n")
    assert cache_folder(published) == published / "elsewhere"
    assert cached_object(published, "ab" * 16) == published / "elsewhere/files/md5/ab" / ("ab" * 15)


def test_the_twin_shows_itself(published: Path) -> None:
    lake = affectlake.open(published)
    assert "v2" in repr(lake)
    assert "<td>v1</td>" in lake._repr_html_()
    long = Listing(
        [list_versions(published)[0]._replace(changes="; ".join(f"t{n}: +1 rows" for n in range(50)))], ("changes",)
    )
    assert repr(long).splitlines()[1] == "t0: +1 rows; t1: +1 rows; and 48 more"
    found = lake.diff("v1", "v2")
    assert "<th>added</th>" in found._repr_html_()
    assert repr(found).splitlines()[0].split() == ["output", "added", "removed", "changed", "schema"]
