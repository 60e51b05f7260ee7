"""Tags below lake/ that are not versions, tags that are objects of their own, and tags that name no commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from affectlake.cli.main import main
from affectlake.errors import VersionError
from affectlake.lake import garbage, repository
from affectlake.lake.checkout import checkout
from affectlake.lake.fsck import check
from affectlake.lake.query import query
from affectlake.lake.recovery import recover
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.attacks.asking_lakes import git
from tests.support.lakes import put

ODD = ("paper", "v0", "v01", "v1a", "V3", "vv1", "archive/v1", "v9/old", "ärger", "v")


def cloned(shared: Path, target: Path) -> Path:
    git(shared.parent, "clone", "--quiet", "--no-tags", shared.parent / "origin.git", target)
    return target


def go_on(lake: Path, n_stimuli: int) -> None:
    put(lake, n_stimuli)
    repository.publish(lake)


def test_tags_that_are_not_versions_stop_nothing(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ODD:
        git(shared, "tag", f"lake/{name}", "HEAD")
        git(shared, "push", "--quiet", "origin", f"refs/tags/lake/{name}")
    go_on(shared, 15)
    assert [v.name for v in list_versions(shared)] == ["v1", "v2", "v3", "v4"]
    for words in (["versions"], ["checkout", "v1"], ["checkout", "latest"], ["fsck"], ["push"], ["pull"], ["gc"]):
        main([*words, "--lake", str(shared)])
    said = capsys.readouterr()
    assert "paper" not in said.out + said.err
    assert query(shared, "SELECT count(*) FROM stimuli@v1").fetchall() == [(12,)]
    with pytest.raises(VersionError, match="'paper' is not a version"):
        resolve(shared, "paper")
    other = cloned(shared, tmp_path / "other")
    assert pull(other).versions == ["v1", "v2", "v3", "v4"]
    assert git(other, "for-each-ref", "--format=%(refname)", "refs/affectlake") == ""
    assert garbage.unreferred(other, now_s=4e9) == []
    recover(other, lambda _line: None)


def test_a_tag_object_is_the_version_that_it_leads_to(shared: Path, tmp_path: Path) -> None:
    before = list_versions(shared)
    for name in ("v1", "v3"):
        commit = git(shared, "rev-parse", f"lake/{name}")
        git(shared, "tag", "--force", "--annotate", "--message", "as in the paper", f"lake/{name}", commit)
    git(shared, "tag", "--force", "--annotate", "--message", "once more", "lake/v1", "lake/v1")
    assert list_versions(shared) == before
    for name in ("v1", "latest"):
        checkout(shared, resolve(shared, name))
    assert query(shared, "SELECT count(*) FROM stimuli@v1").fetchall() == [(12,)]
    assert repository.publish(shared) is None
    assert [f for v in before for f in check(shared, v, repair=False)] == []
    push(shared, before)
    go_on(shared, 15)
    assert resolve(shared).name == "v4"


def test_a_remote_that_tags_by_objects_is_pushed_to_and_pulled_from(shared: Path, tmp_path: Path) -> None:
    other = cloned(shared, tmp_path / "other")
    pull(other)
    go_on(shared, 15)
    push(shared, list_versions(shared))
    bare = tmp_path / "origin.git"
    for name in ("v2", "v4"):
        git(bare, "tag", "--force", "--annotate", "--message", "released", f"lake/{name}", f"lake/{name}^{{commit}}")
    assert pull(other).versions == ["v4"]
    assert list_versions(other) == list_versions(shared)
    assert pull(other) == (0, [])
    go_on(other, 16)
    assert push(other, list_versions(other)).versions == ["v1", "v2", "v3", "v4", "v5"]
    assert pull(shared).versions == ["v5"]
    assert [f for v in list_versions(shared) for f in check(shared, v, repair=False)] == []


@pytest.mark.parametrize("kind", ["blob", "tree"])
def test_a_version_tag_that_names_no_commit_is_refused_alone(shared: Path, tmp_path: Path, kind: str) -> None:
    git(shared, "tag", "lake/v7", "HEAD:params.yaml" if kind == "blob" else "HEAD^{tree}")
    git(shared, "push", "--quiet", "origin", "refs/tags/lake/v7")
    assert [v.name for v in list_versions(shared)] == ["v1", "v2", "v3"]
    assert resolve(shared).name == "v3"
    with pytest.raises(VersionError, match=rf"(?s)v7 is not a version(.*)lake/v7 points to a {kind}"):
        resolve(shared, "v7")
    other = cloned(shared, tmp_path / "other")
    assert pull(other).versions == ["v1", "v2", "v3"]
    go_on(shared, 15)
    assert resolve(shared).name == "v8"
    push(shared, list_versions(shared))
    assert pull(other).versions == ["v8"]


def lose_commit(lake: Path, name: str) -> None:
    commit = git(lake, "rev-parse", f"lake/{name}")
    (lake / ".git/objects" / commit[:2] / commit[2:]).unlink()


def test_a_version_whose_commit_is_lost_is_missed_where_it_is_needed(published: Path) -> None:
    lose_commit(published, "v1")
    assert [v.name for v in list_versions(published)] == ["v1", "v2"]
    assert query(published, "SELECT count(*) FROM stimuli").fetchall() == [(13,)]
    assert checkout(published, resolve(published, "v2")).removed == []
    with pytest.raises(VersionError, match="the commit of v1 is not in the Git repository"):
        query(published, "SELECT count(*) FROM stimuli", "v1")
    (finding,) = check(published, *list_versions(published), repair=False)
    assert (finding.version, finding.where, finding.state) == ("v1", "git", "missing")


def test_the_latest_version_is_never_another_because_its_commit_is_lost(published: Path) -> None:
    lose_commit(published, "v2")
    with pytest.raises(VersionError, match="the commit of v2 is not in the Git repository"):
        query(published, "SELECT count(*) FROM stimuli")


def test_a_version_has_the_time_and_the_author_of_its_commit(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada > Lovelace")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "ada@example.org")
    monkeypatch.setenv("GIT_AUTHOR_DATE", "1800000000 -0130")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ada")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ada@example.org")
    put(lake)
    made = repository.publish(lake)
    assert made is not None
    assert (made.created, made.author) == (
        git(lake, "log", "-1", "--format=%aI"),
        git(lake, "log", "-1", "--format=%an"),
    )
