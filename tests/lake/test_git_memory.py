"""What is remembered of Git's objects: never of names that can move, and never what Git does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from affectlake.errors import LakeError
from affectlake.lake.fsck import check
from affectlake.lake.store import git_memory
from affectlake.lake.store.git_objects import blobs, content_at, read_blobs
from affectlake.lake.store.versions import list_versions, resolve
from tests.attacks.asking_lakes import git

PARAMS = Path("params.yaml")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    git_memory.forget()


def commit(lake: Path, text: str) -> str:
    (lake / PARAMS).write_text(text)
    git(lake, "commit", "--quiet", "--all", "--message", "changed")
    return git(lake, "rev-parse", "HEAD").strip()


def test_a_name_that_moves_is_looked_up_again(published: Path) -> None:
    first = commit(published, "study: one\n")
    assert content_at(published, "HEAD", PARAMS) == b"study: one\n"
    second = commit(published, "study: two\n")
    assert content_at(published, "HEAD", PARAMS) == b"study: two\n"
    for _ in range(2):
        assert content_at(published, first, PARAMS) == b"study: one\n"
        assert content_at(published, second, PARAMS) == b"study: two\n"


def test_an_object_is_read_once_and_its_damage_is_found(published: Path) -> None:
    version = resolve(published)
    (_, blob), *_ = blobs(published, version.commit, ["params.yaml"])
    content = read_blobs(published, [blob])
    git(published, "repack", "-ad", "--quiet")
    for pack in (published / ".git/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(b"lost")
    assert read_blobs(published, [blob]) == content
    assert [one.commit for one in list_versions(published)][-1] == version.commit
    assert check(published, version, repair=False, remote=None)
    with pytest.raises(LakeError):
        read_blobs(published, [blob])


def test_what_git_does_not_have_is_asked_for_again(published: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("more")
    name = git(published, "hash-object", tmp_path / "more").strip()
    with pytest.raises(LakeError, match="Git cannot read"):
        read_blobs(published, [name])
    git(published, "hash-object", "-w", tmp_path / "more")
    assert read_blobs(published, [name, name]) == [b"more", b"more"]


def test_the_least_used_is_forgotten_first() -> None:
    for n in range(5):
        git_memory.remember(("value", n), n, 15 << 20)
        assert git_memory.recall(("value", 0)) == 0
    assert [git_memory.recall(("value", n)) for n in range(5)] == [0, None, 2, 3, 4]
