"""`affectlake join`: the answers of two clones in one version, each once, and every version under a name."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from affectlake.errors import LakeError, UsageError, VersionError
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.store.versions import Manifest, cached_object, list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.attacks.planting import raise_contracts, with_thoughts
from tests.attacks.two_lakes import (
    add,
    build,
    contents,
    git,
    in_folder,
    join,
    make,
    propose,
    row,
    rows,
    share,
)


def names(lake: Path) -> dict[str, str]:
    return {version.name: version.commit for version in list_versions(lake)}


def sound(lake: Path) -> None:
    """Every version is whole, the folder holds the latest, and Git finds nothing to say of it."""
    assert [f for v in list_versions(lake) for f in check(lake, v, repair=False, remote=None)] == []
    assert in_folder(lake) == rows(lake) == rows(lake, resolve(lake).commit)
    assert git(lake, "status", "--porcelain") == ""


def test_answers_of_both_are_kept_each_once(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2), row(3), row(4, "Video 2"), row(1))
    add(theirs, "tiny", row(3), row(4, "Video 3"), row(5), row(6, failed=True))
    add(theirs, "tiny", row(6))
    add(theirs, "other", row(2), row(9))
    done = join(ours, theirs)
    assert done.made
    assert done.version == resolve(ours)
    assert done.gained[Output("responses", "tiny")] == (4, 1)
    assert done.gained[Output("responses", "other")] == (2, 0)
    tiny = [row(0), row(1, failed=True), row(2), row(3), row(4, "Video 2"), row(1)]
    tiny += [row(4, "Video 3"), row(5), row(6, failed=True), row(6)]
    assert rows(ours) == {
        "responses/tiny": sorted(tiny, key=repr),
        "responses/other": sorted([row(2), row(9)], key=repr),
    }
    sound(ours)


def test_answers_of_an_older_contract_are_joined(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2), row(4))
    add(theirs, "tiny", row(3), row(4))
    raise_contracts(monkeypatch, with_thoughts)
    assert join(ours, theirs).gained[Output("responses", "tiny")] == (1, 0)
    assert rows(ours)["responses/tiny"] == sorted([row(0), row(1, failed=True), *map(row, (2, 3, 4))], key=repr)
    sound(ours)


def test_the_other_side_moves_on_to_it_and_joining_again_does_nothing(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    before = contents(ours) | contents(theirs)
    made = join(ours, theirs)
    assert join(ours, theirs).version is None
    moved = join(theirs, ours)
    assert (moved.made, git(theirs, "rev-parse", "HEAD")) == (False, git(ours, "rev-parse", "HEAD"))
    assert join(theirs, ours).version is None
    assert join(ours, theirs).version is None
    assert made.version is not None
    assert git(ours, "rev-parse", f"{made.version.commit}^@").split() == [names(ours)["v3"], names(theirs)["v3"]]
    assert contents(ours) == contents(theirs) == before | {made.version.commit: contents(ours)[made.version.commit]}
    for lake in pair:
        sound(lake)


def test_joining_at_the_same_time_in_both_directions_gives_the_same_answers(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2), row(4))
    add(theirs, "tiny", row(3), row(4, "Video 2"))
    copy = shutil.copytree(ours, ours.with_name("copy"), symlinks=True)
    join(ours, theirs)
    join(theirs, copy)
    assert rows(ours) == rows(theirs)
    again = join(ours, theirs)
    assert again.gained == {}
    assert rows(ours) == rows(theirs)
    join(theirs, ours)
    assert git(theirs, "rev-parse", "HEAD") == git(ours, "rev-parse", "HEAD")
    for lake in pair:
        sound(lake)


def test_names_of_a_folder_give_way_to_ours_and_each_is_said(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    add(theirs, "tiny", row(4))
    done = join(ours, theirs)
    assert done.renamed == [
        "their v3 is v4 here: this lake has another v3",
        "their v4 is v5 here: this lake has another v4",
    ]
    assert done.taken == ["v4", "v5"]
    assert names(ours)["v4"] == names(theirs)["v3"]
    assert list(names(ours)) == ["v1", "v2", "v3", "v4", "v5", "v6"]


def test_names_that_origin_announced_stand_and_ours_give_way(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    share(ours, theirs)
    add(ours, "tiny", row(2))
    push(ours, list_versions(ours))
    add(theirs, "tiny", row(3))
    add(theirs, "tiny", row(4))
    mine = names(theirs)
    with pytest.raises(LakeError, match="affectlake join origin"):
        pull(theirs)
    with pytest.raises(LakeError, match="affectlake join origin"):
        push(theirs, list_versions(theirs))
    done = join(theirs, "origin")
    assert done.renamed == [
        "your v3 is now v4: origin has another v3",
        "your v4 is now v5: origin has another v4",
    ]
    assert names(theirs)["v3"] == names(ours)["v3"]
    assert (names(theirs)["v4"], names(theirs)["v5"]) == (mine["v3"], mine["v4"])
    push(theirs, list_versions(theirs))
    assert pull(ours).versions == ["v4", "v5", "v6"]
    assert names(ours) == names(theirs)
    assert contents(ours) == contents(theirs)
    for lake in pair:
        sound(lake)


def test_who_is_behind_moves_on_and_who_is_ahead_has_nothing_to_do(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(theirs, "tiny", row(3))
    build(theirs, 7)
    assert join(theirs, ours).version is None
    done = join(ours, theirs)
    assert (done.made, done.taken, done.renamed) == (False, ["v3", "v4"], [])
    assert names(ours) == names(theirs)
    sound(ours)


def test_rounds_of_proposals_of_both_sides_survive(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    propose(ours, "tiny", 2)
    propose(theirs, "tiny", 3)
    propose(theirs, "tiny", 2)
    propose(theirs, "tiny", 4)
    join(ours, theirs)
    found = pl.read_parquet(ours / Output("proposals", "tiny").folder / "*.parquet")
    sizes = dict(found.group_by("round").len().sort("round").iter_rows())
    assert sizes == {0: 2, 1: 3, 2: 4}  # their second round was ours as well
    assert join(ours, theirs).version is None
    sound(ours)


def test_what_a_step_made_stays_ours(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    build(ours, 6)
    add(ours, "tiny", row(2))
    build(theirs, 7)
    lock = (ours / "dvc.lock").read_bytes()
    join(ours, theirs)
    assert (ours / "dvc.lock").read_bytes() == lock
    assert pl.read_parquet(ours / layout.TABLES / "stimuli").height == 6
    sound(ours)


def test_other_files_are_merged_and_where_both_changed_ours_stays_and_is_said(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    for lake, files in ((ours, {"a.txt": "ours", "both.txt": "ours"}), (theirs, {"b.txt": "b", "both.txt": "theirs"})):
        for name, text in files.items():
            (lake / name).write_text(text)
        git(lake, "add", *files)
        git(lake, "commit", "--quiet", "--message", "notes")
        add(lake, "tiny", row(2 if lake == ours else 3))
    done = join(ours, theirs)
    assert done.notes == ["both.txt differs; yours is kept"]
    assert {name: (ours / name).read_text() for name in ("a.txt", "b.txt", "both.txt")} == {
        "a.txt": "ours",
        "b.txt": "b",
        "both.txt": "ours",
    }
    sound(ours)


def test_commits_that_are_no_versions_come_too(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    share(ours, theirs)
    (ours / "notes.txt").write_text("read me")
    git(ours, "add", "notes.txt")
    git(ours, "commit", "--quiet", "--message", "notes")
    git(ours, "push", "--quiet", "origin", "main")
    add(theirs, "tiny", row(3))
    with pytest.raises(LakeError, match="affectlake join origin"):
        push(theirs, list_versions(theirs))
    join(theirs, "origin")
    push(theirs, list_versions(theirs))
    assert (theirs / "notes.txt").read_text() == "read me"
    sound(theirs)
    pull(ours)
    assert git(ours, "rev-parse", "HEAD") == git(theirs, "rev-parse", "HEAD")


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_a_file_that_is_not_whole_there_is_refused_before_anything_moves(pair: tuple[Path, Path], state: str) -> None:
    ours, theirs = pair
    add(ours, "tiny", row(2))
    add(theirs, "tiny", row(3))
    file = Manifest(theirs, resolve(theirs).commit).files(Output("responses", "tiny"))[-1].cached
    data = file.read_bytes()
    file.chmod(0o644)
    file.unlink() if state == "missing" else file.write_bytes(data[:-1] + b"?")
    before, head = names(ours), git(ours, "rev-parse", "HEAD")
    with pytest.raises(VersionError, match=f"fsck --repair --lake {theirs}"):
        join(ours, theirs)
    assert (names(ours), git(ours, "rev-parse", "HEAD")) == (before, head)
    assert git(ours, "for-each-ref", "refs/affectlake") == ""
    file.write_bytes(data)
    join(ours, theirs)
    sound(ours)


def test_work_in_the_folder_is_refused_and_left(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(theirs, "tiny", row(3))
    (ours / "params.yaml").write_text("study: tiny\nseed: 5\n")
    with pytest.raises(LakeError, match="unpublished work"):
        join(ours, theirs)
    assert (ours / "params.yaml").read_text() == "study: tiny\nseed: 5\n"


def test_what_is_not_a_lake_or_not_another_one_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ours, _ = pair
    with pytest.raises(UsageError, match="neither a Git remote"):
        join(ours, "nowhere")
    with pytest.raises(UsageError, match="is this lake"):
        join(ours, ours)
    with pytest.raises(LakeError, match="is not a lake"):
        join(ours, tmp_path)
    with pytest.raises(UsageError, match="nothing to join"):
        join(ours)
    stranger = make(tmp_path / "stranger")
    add(stranger, "tiny", row(7))
    (stranger / "params.yaml").write_text("study: other\n")
    git(stranger, "commit", "--quiet", "--all", "--message", "apart")
    git(stranger, "checkout", "--quiet", "--orphan", "alone")
    git(stranger, "commit", "--quiet", "--all", "--message", "v9: alone")
    git(stranger, "tag", "lake/v9")
    with pytest.raises(LakeError, match="no version in common"):
        join(ours, stranger)
    assert cached_object(ours, Manifest(ours, "").collected[Output("responses", "tiny")]).exists()
