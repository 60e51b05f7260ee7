"""Versions to and from elsewhere, garbage, and citations: real Git and DVC remotes in folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from affectlake.errors import LakeError, VersionError
from affectlake.lake import garbage, repository
from affectlake.lake.cite import cite
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.query import query
from affectlake.lake.store.remotes import open_remote
from affectlake.lake.store.versions import Manifest, cached_object, list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.support.lakes import put


def git(root: Path, *arguments: str | Path) -> str:
    done = subprocess.run(["git", *map(str, arguments)], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def shared(published: Path, tmp_path: Path) -> Path:
    """The published lake with a Git remote ``origin`` and a DVC remote, both folders."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(published, "remote", "add", "origin", tmp_path / "origin.git")
    config = (published / ".dvc/config").read_text().replace("../storage/remote", str(tmp_path / "files"))
    (published / ".dvc/config").write_text(config)
    put(published, 14)
    repository.publish(published)
    return published


def clone(shared: Path, target: Path) -> Path:
    git(shared, "clone", "--quiet", "--no-tags", git(shared, "remote", "get-url", "origin"), target)
    return target


def test_what_was_pushed_is_pulled_whole(shared: Path, tmp_path: Path) -> None:
    sent = push(shared, list_versions(shared))
    assert sent.versions == ["v1", "v2", "v3"]
    assert sent.n_files > 0
    other = clone(shared, tmp_path / "other")
    came = pull(other)
    assert came.versions == ["v1", "v2", "v3"]
    assert list_versions(other) == list_versions(shared)
    assert query(other, "SELECT count(*) FROM stimuli", "v1").fetchall() == [(12,)]
    assert [f for v in list_versions(other) for f in check(other, v, repair=False)] == []


def test_pushing_and_pulling_again_move_nothing(shared: Path, tmp_path: Path) -> None:
    push(shared, list_versions(shared))
    assert push(shared, list_versions(shared)).n_files == 0
    other = clone(shared, tmp_path / "other")
    pull(other)
    assert pull(other) == (0, [])


def test_an_origin_of_which_clones_are_empty_is_pointed_out(shared: Path, tmp_path: Path) -> None:
    origin = tmp_path / "origin.git"
    git(origin, "symbolic-ref", "HEAD", "refs/heads/master")  # as `git init --bare` makes it, by default
    said: list[str] = []
    push(shared, list_versions(shared), say=said.append)
    assert "`git symbolic-ref HEAD refs/heads/main`" in said[-1] and "git clone --branch main" in said[-1]
    git(tmp_path, "clone", "--quiet", "--no-tags", "--branch", "main", origin, tmp_path / "other")
    assert pull(tmp_path / "other").versions == ["v1", "v2", "v3"]
    git(origin, "symbolic-ref", "HEAD", "refs/heads/main")
    said.clear()
    push(shared, list_versions(shared), say=said.append)
    assert not any("symbolic-ref" in line for line in said)


def test_a_later_version_comes_with_the_next_pull(shared: Path, tmp_path: Path) -> None:
    push(shared, list_versions(shared))
    other = clone(shared, tmp_path / "other")
    pull(other)
    put(shared, 6)
    repository.publish(shared)
    push(shared, [resolve(shared)])
    assert pull(other).versions == ["v4"]
    assert git(other, "rev-parse", "HEAD") == resolve(shared).commit


def test_a_version_whose_files_do_not_arrive_is_not_announced(shared: Path) -> None:
    remote = Path(open_remote(shared).path)
    remote.parent.mkdir(exist_ok=True)
    remote.write_text("a file where the remote's folder should be")
    with pytest.raises(LakeError, match="no version was pushed"):
        push(shared, list_versions(shared))
    assert git(shared, "ls-remote", "origin") == ""


def test_damaged_files_are_not_pushed(shared: Path) -> None:
    file = Manifest(shared, resolve(shared, "v1").commit).files(Output("stimuli"))[0]
    file.cached.chmod(0o644)
    file.cached.write_bytes(b"x")
    with pytest.raises(VersionError, match="not as published"):
        push(shared, list_versions(shared))


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_a_remote_that_lies_is_caught_before_its_version_is_taken(shared: Path, tmp_path: Path, state: str) -> None:
    push(shared, list_versions(shared))
    file = Manifest(shared, resolve(shared, "v2").commit).files(Output("triplets"))[0]
    away = Path(open_remote(shared).at(file.md5))
    data = away.read_bytes()
    away.chmod(0o644)
    away.unlink() if state == "missing" else away.write_bytes(data[:-1] + b"?")
    other = clone(shared, tmp_path / "other")
    with pytest.raises(VersionError):
        pull(other)
    assert list_versions(other) == []
    away.write_bytes(data)
    assert pull(other).versions == ["v1", "v2", "v3"]


def test_histories_that_part_are_refused(shared: Path, tmp_path: Path) -> None:
    push(shared, list_versions(shared))
    other = clone(shared, tmp_path / "other")
    pull(other)
    for lake, n_stimuli in ((shared, 7), (other, 8)):
        put(lake, n_stimuli)
        repository.publish(lake)
    push(shared, [resolve(shared)])
    with pytest.raises(LakeError, match="v4 is not the same version here"):
        pull(other)
    assert query(other, "SELECT count(*) FROM stimuli").fetchall() == [(8,)]


def tomorrow() -> float:
    return time.time() + 2 * garbage.YOUNG_S


def test_nothing_that_a_version_names_is_garbage(published: Path) -> None:
    assert garbage.unreferred(published, now_s=tomorrow()) == []


def test_what_no_version_names_is_found_and_removed(published: Path) -> None:
    put(published, 9)
    lost = {d for o, d in Manifest(published, "").digests.items() if o == Output("stimuli")}
    put(published, 13)
    found = garbage.unreferred(published, now_s=tomorrow())
    assert lost <= {one.md5 for one in found}
    assert garbage.unreferred(published) == [], "young objects may belong to a writer that has not published yet"
    assert garbage.remove(found) == sum(one.n_bytes for one in found) > 0
    assert [f for v in list_versions(published) for f in check(published, v, repair=False)] == []


def test_work_not_yet_published_is_not_garbage(published: Path) -> None:
    put(published, 9)
    named = set(Manifest(published, "").digests.values())
    assert not named & {one.md5 for one in garbage.unreferred(published, now_s=tomorrow())}


def test_what_another_branch_names_is_not_garbage(published: Path) -> None:
    git(published, "switch", "--quiet", "--create", "side")
    put(published, 9)
    repository.publish(published)
    git(published, "switch", "--quiet", "main")
    assert garbage.unreferred(published, now_s=tomorrow()) == []


def test_in_doubt_nothing_goes(published: Path) -> None:
    digest = Manifest(published, resolve(published, "v1").commit).digests[Output("stimuli")]
    listing = cached_object(published, digest)
    listing.chmod(0o644)
    listing.write_bytes(b"[]")
    with pytest.raises(LakeError, match="nothing was removed"):
        garbage.unreferred(published, now_s=tomorrow())


def test_a_manifest_that_cannot_be_read_is_not_taken_for_none(published: Path) -> None:
    name = git(published, "rev-parse", "lake/v1:dvc.lock")
    blob = published / ".git/objects" / name[:2] / name[2:]
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    with pytest.raises(LakeError):
        garbage.unreferred(published, now_s=tomorrow())
    with pytest.raises(LakeError):
        query(published, "SELECT count(*) FROM stimuli", "v1")


def test_a_citation_names_the_exact_data(published: Path) -> None:
    version = resolve(published, "v1")
    text = cite(published, version, "synthetic")
    assert version.commit in text
    assert all(digest.removesuffix(".dir") in text for digest in Manifest(published, version.commit).digests.values())


def test_a_read_only_lake_says_so(published: Path) -> None:
    if os.geteuid() == 0:
        shutil.rmtree(published / "storage")
        with pytest.raises(LakeError, match="cannot be written to"), repository.writing(published, "test"):
            pass
        return
    (published / "storage").chmod(0o555)
    with pytest.raises(LakeError, match="cannot be written to"), repository.writing(published, "test"):
        pass
