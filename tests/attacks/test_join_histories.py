"""Histories of two clones: merged by Git and mended by `join`, cut off anywhere, and at random beside a dictionary."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from affectlake.errors import LakeError
from affectlake.lake import layout, repository
from affectlake.lake.checkout import checkout
from affectlake.lake.integrity import check
from affectlake.lake.recovery import recover
from affectlake.lake.sharing import pull
from affectlake.lake.versions import list_versions, resolve
from tests.attacks.two_lakes import add, build, clone, contents, git, in_folder, join, make, quiet, row, rows
from tests.power import Switch, power


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("histories") / "lake")


@pytest.fixture
def pair(origin: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two clones that have the same two versions."""
    ours = shutil.copytree(origin, tmp_path / "ours", symlinks=True)
    return ours, clone(ours, tmp_path / "theirs")


def sound(lake: Path) -> None:
    assert [f for v in list_versions(lake) for f in check(lake, v, repair=False, remote=None)] == []
    assert in_folder(lake) == rows(lake) == rows(lake, resolve(lake).commit)
    assert git(lake, "status", "--porcelain") == ""
    assert git(lake, "rev-parse", "HEAD") == resolve(lake).commit


def merge(ours: Path, theirs: Path, *options: str) -> None:
    """Merge their branch as somebody does who knows Git."""
    git(ours, "fetch", "--quiet", *options, theirs, "main", ok=False)  # tags that clash do not come
    git(ours, "merge", "--quiet", "--no-edit", "FETCH_HEAD", ok=False)


def refused_until_joined(lake: Path) -> None:
    """Every command that writes names the remedy."""
    for command in (
        lambda: recover(lake, quiet),
        lambda: repository.publish(lake),
        lambda: checkout(lake, resolve(lake, "v1")),
        lambda: pull(lake),
    ):
        with pytest.raises(LakeError, match="`affectlake join` joins them"):
            command()


@pytest.mark.parametrize("tags", ["--no-tags", "--tags"])
def test_conflicts_of_a_merge_by_git_are_mended(pair: tuple[Path, Path], tags: str) -> None:
    ours, theirs = pair
    build(ours, 6)
    add(ours, "tiny", row(2), row(3))
    for n in (7, 8, 9):
        build(theirs, n)
    add(theirs, "tiny", row(3), row(4))
    for lake in pair:
        (lake / "params.yaml").write_text(f"study: tiny\nseed: {len(lake.name)}\n")
        repository.publish(lake)
    before = contents(ours) | contents(theirs)
    merge(ours, theirs, tags)
    assert "<<<<<<<" in (ours / "params.yaml").read_text()
    assert "<<<<<<<" in (ours / layout.pointer("responses/tiny")).read_text()
    refused_until_joined(ours)
    with pytest.raises(LakeError, match="affectlake join FOLDER"):
        join(ours)  # Git brings no answers
    done = join(ours, theirs)
    assert done.made
    assert len(git(ours, "rev-parse", "HEAD^@").split()) == 2
    assert rows(ours)["responses/tiny"] == sorted([row(0), row(1, failed=True), row(2), row(3), row(4)], key=repr)
    assert (ours / "params.yaml").read_text() == "study: tiny\nseed: 4\n"
    assert before.items() <= contents(ours).items()
    sound(ours)
    join(theirs, ours)
    assert rows(theirs) == rows(ours)
    sound(theirs)


def test_a_merge_that_a_person_resolved_is_joined_as_he_left_the_parameters(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    for lake, n in ((ours, 2), (theirs, 3)):
        (lake / "params.yaml").write_text(f"study: tiny\nseed: {n}\n")
        (lake / "notes.txt").write_text(f"{n}\n")
        git(lake, "add", "notes.txt")
        git(lake, "commit", "--quiet", "--message", "notes")
        add(lake, "tiny", row(n))
    merge(ours, theirs)
    (ours / "params.yaml").write_text("study: tiny\nseed: 99\n")
    with pytest.raises(LakeError, match=r"notes\.txt"):
        join(ours, theirs)
    (ours / "notes.txt").write_text("2 and 3\n")
    git(ours, "add", "notes.txt")
    join(ours, theirs)
    assert (ours / "params.yaml").read_text() == "study: tiny\nseed: 99\n"
    assert (ours / "notes.txt").read_text() == "2 and 3\n"
    sound(ours)


def test_a_merge_commit_that_took_one_sides_answers_is_mended(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    before = contents(ours) | contents(theirs)
    merge(ours, theirs)
    git(ours, "checkout", "--theirs", "--", layout.pointer("responses/tiny"))
    git(ours, "add", "--all", "--", "storage/collected")
    git(ours, "commit", "--quiet", "--message", "merged")
    (ours / "more.txt").write_text("and went on\n")
    git(ours, "add", "more.txt")
    git(ours, "commit", "--quiet", "--message", "went on")
    refused_until_joined(ours)
    join(ours, theirs)
    assert rows(ours)["responses/tiny"] == sorted([row(0), row(1, failed=True), row(2), row(3)], key=repr)
    assert before.items() <= contents(ours).items()
    assert (ours / "more.txt").exists()
    sound(ours)


def test_a_clean_merge_by_git_of_different_agents_is_mended(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "one", row(2))
    add(theirs, "two", row(3))
    build(theirs, 8)
    merge(ours, theirs)
    assert git(ours, "status", "--porcelain") == ""
    refused_until_joined(ours)
    join(ours, theirs)
    assert set(rows(ours)) == {"responses/one", "responses/tiny", "responses/two"}
    sound(ours)


def test_a_merge_of_what_the_lake_does_not_keep_is_left_alone(pair: tuple[Path, Path]) -> None:
    ours, _ = pair
    git(ours, "switch", "--quiet", "--create", "side")
    (ours / "code.py").write_text("pass\n")
    git(ours, "add", "code.py")
    git(ours, "commit", "--quiet", "--message", "code")
    git(ours, "switch", "--quiet", "main")
    git(ours, "merge", "--quiet", "--no-ff", "--no-edit", "side")
    add(ours, "tiny", row(2))
    assert rows(ours)["responses/tiny"][-1:] != []
    sound(ours)


def test_a_table_that_no_version_has_is_not_overwritten(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    merge(ours, theirs)
    table = ours / layout.table_folder("stimuli") / "part-00000.parquet"
    table.chmod(0o644)
    table.write_bytes(b"somebody's own")
    with pytest.raises(LakeError, match="tables that no version has"):
        join(ours, theirs)
    assert table.read_bytes() == b"somebody's own"
    table.rename(ours.parent / "mine")
    join(ours, theirs)
    sound(ours)


@pytest.mark.parametrize("by_git", [False, True], ids=["join", "after a merge by Git"])
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(origin: Path, tmp_path: Path, by_git: bool) -> None:
    ours = shutil.copytree(origin, tmp_path / "ours", symlinks=True)
    theirs = clone(ours, tmp_path / "theirs")
    add(ours, "tiny", row(2), row(3))
    add(theirs, "tiny", row(3), row(4))
    if by_git:
        merge(ours, theirs)
    whole = shutil.copytree(ours, tmp_path / "whole", symlinks=True)
    join(whole, theirs)
    old, new = contents(ours), contents(whole)
    answers, n_new = rows(whole), len(new)
    at, lake = 0, tmp_path / "lake"
    while True:
        at += 1
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(ours, lake, symlinks=True)
        with power(Switch(lake, at)) as switch:
            join(lake, theirs)
        if not switch.off:
            break
        where = switch.events[-1]
        found = contents(lake)
        assert found == old or (len(found) == n_new and old.items() <= found.items()), where
        join(lake, theirs)
        assert rows(lake) == answers, where
        assert len(contents(lake)) == n_new, where
        sound(lake)
    print(f"{at} points")
    assert at > 10
