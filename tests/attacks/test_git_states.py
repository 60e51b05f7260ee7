"""Repositories in odd states: a locked index, another user's folder, shallow and partial clones, SHA-256."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from affectlake.errors import LakeError, VersionError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.fsck import check
from affectlake.lake.query import query
from affectlake.lake.store.dvc_stages import is_current
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.attacks.asking_lakes import called, git, make_asking_lake
from tests.support.lakes import put

SAFE = "git config --global --add safe.directory"


def cloned(shared: Path, target: Path, *options: str) -> Path:
    git(shared.parent, "clone", "--quiet", *options, f"file://{shared.parent}/origin.git", target)
    return target


def test_a_version_that_stands_is_a_success_though_the_index_is_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = make_asking_lake(tmp_path / "lake")
    with (lake / "params.yaml").open("a") as sink:
        sink.write("# changed\n")
    (lake / ".git/index.lock").touch()
    done = called("affectlake", "publish", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert "published v2" in done.stderr
    assert "v2 was published, but Git's index could not be updated" in done.stderr
    assert "`git reset` updates it" in done.stderr
    assert resolve(lake).name == "v2"
    (lake / ".git/index.lock").unlink()
    git(lake, "reset", "--quiet")
    assert git(lake, "status", "--porcelain") == ""


def test_a_lock_that_an_editor_holds_for_a_moment_is_waited_for(published: Path) -> None:
    lock = published / ".git/index.lock"
    lock.touch()
    threading.Timer(0.5, lock.unlink).start()
    put(published, 14)
    said: list[str] = []
    assert repository.publish(published, said.append) is not None
    assert said == []
    assert git(published, "status", "--porcelain") == ""


def test_a_pull_into_a_locked_index_moves_nothing(shared: Path, tmp_path: Path) -> None:
    other = cloned(shared, tmp_path / "other", "--no-tags")
    pull(other)
    checkout(other, resolve(other))
    put(shared, 15)
    repository.publish(shared)
    push(shared, list_versions(shared))
    before = git(other, "for-each-ref", "refs/heads", "refs/tags"), (other / "dvc.lock").read_bytes()
    (other / ".git/index.lock").touch()
    with pytest.raises(LakeError, match=r"(?s)holds a Git lock.*index\.lock"):
        pull(other)
    assert (git(other, "for-each-ref", "refs/heads", "refs/tags"), (other / "dvc.lock").read_bytes()) == before
    (other / ".git/index.lock").unlink()
    assert pull(other).versions == ["v4"]
    assert git(other, "status", "--porcelain") == ""


@pytest.mark.parametrize("command", ["versions", "checkout v1", "fsck --local", "push", "pull", "gc"])
def test_a_folder_of_another_user_is_told_as_what_it_is(shared: Path, command: str) -> None:
    done = called("affectlake", *command.split(), "--lake", shared, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert done.returncode == 1
    assert "belongs to another user" in done.stderr
    assert "dubious ownership" in done.stderr
    assert f"{SAFE} {shared}" in done.stderr
    assert "detached" not in done.stderr


def test_no_version_is_made_and_none_is_missed_in_a_folder_of_another_user(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(published, 14)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(LakeError, match=SAFE):
        repository.publish(published)
    with pytest.raises(LakeError, match=SAFE):
        query(published, "SELECT 1")
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    assert repository.publish(published) is not None


def test_a_broken_head_is_not_told_as_a_detached_commit(published: Path) -> None:
    (published / ".git/HEAD").write_text("ref: refs/heads/main~1\n")
    with pytest.raises(LakeError, match="git"):
        repository.publish(published)
    (published / ".git/HEAD").unlink()
    with pytest.raises(LakeError, match="not a git repository"):
        repository.publish(published)


def test_an_origin_that_cannot_be_asked_is_not_one_without_versions(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "origin.git").rename(tmp_path / "moved.git")
    done = called("affectlake", "fsck", "--lake", shared)
    assert done.returncode == 1
    assert "versions of the Git remote origin cannot be listed" in done.stderr
    assert "--local" in done.stderr
    assert called("affectlake", "fsck", "--local", "--lake", shared).returncode == 0


def test_a_shallow_clone_is_told_and_leads_on(shared: Path, tmp_path: Path) -> None:
    other = cloned(shared, tmp_path / "other", "--depth", "1")
    assert [v.name for v in list_versions(other)] == ["v3"]
    with pytest.raises(VersionError, match="git fetch --unshallow --tags"):
        resolve(other, "v1")
    with pytest.raises(LakeError, match=r"(?s)a shallow clone.*git fetch --unshallow --tags") as caught:
        pull(other)
    assert "have diverged" not in str(caught.value)
    git(other, "fetch", "--quiet", "--unshallow", "--tags")
    assert pull(other).n_files > 0
    assert list_versions(other) == list_versions(shared)
    assert query(other, "SELECT count(*) FROM stimuli@v1").fetchall() == [(12,)]


def test_a_shallow_clone_makes_no_second_first_version(shared: Path, tmp_path: Path) -> None:
    other = cloned(shared, tmp_path / "other", "--depth", "1", "--no-tags")
    shutil.copytree(shared / ".dvc/cache", other / ".dvc/cache")
    assert list_versions(other) == []
    with pytest.raises(LakeError, match="git fetch --unshallow --tags"):
        repository.publish(other)
    with pytest.raises(VersionError, match="git fetch --unshallow --tags"):
        resolve(other)


def test_a_partial_clone_works(shared: Path, tmp_path: Path) -> None:
    git(tmp_path / "origin.git", "config", "uploadpack.allowFilter", "true")
    git(tmp_path / "origin.git", "config", "uploadpack.allowAnySHA1InWant", "true")
    other = cloned(shared, tmp_path / "other", "--filter=blob:none")
    assert pull(other).n_files > 0
    assert query(other, "SELECT count(*) FROM stimuli@v1").fetchall() == [(12,)]
    checkout(other, resolve(other, "v1"))
    checkout(other, resolve(other))
    put(other, 15)
    made = repository.publish(other)
    assert made is not None
    assert made.name == "v4"
    push(other, list_versions(other))
    assert pull(shared).versions == ["v4"]


def test_a_new_lake_is_one_that_dvc_reads_whatever_git_prefers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    monkeypatch.setenv("GIT_DEFAULT_REF_FORMAT", "files")
    lake = tmp_path / "lake"
    repository.init(lake, "study: tiny\n")
    assert git(lake, "rev-parse", "--show-object-format") == "sha1"
    put(lake)
    config = lake / ".dvc/config"
    config.write_text(config.read_text().replace("../storage/remote", str(tmp_path / "files")))
    assert repository.publish(lake) is not None
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "--object-format=sha1", tmp_path / "origin.git")
    git(lake, "remote", "add", "origin", tmp_path / "origin.git")
    assert push(lake, list_versions(lake)).versions == ["v1"]
    assert pull(lake) == (0, [])
    assert is_current(lake, "tiny")
    checkout(lake, resolve(lake, "v1"))
    assert query(lake, "SELECT count(*) FROM stimuli").fetchall() == [(12,)]
    assert [f for v in list_versions(lake) for f in check(lake, v, repair=False)] == []


def test_a_repository_that_dvc_cannot_read_is_not_made_a_lake(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256", tmp_path / "lake")
    with pytest.raises(LakeError, match=r"(?s)DVC cannot read.*sha256"):
        repository.adopt(tmp_path / "lake")
    assert not (tmp_path / "lake" / layout.FORMAT).exists()
    assert not (tmp_path / "lake/.dvc").exists()
