"""Names and dates in place of version numbers: in commands, in SQL, in Python, and in another clone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

import affectlake
from affectlake.cli.main import main
from affectlake.errors import LakeError, UsageError, VersionError
from affectlake.lake import repository
from affectlake.lake.joining import join as joining
from affectlake.lake.query import query
from affectlake.lake.store.version_names import add_name, remove_name, version_names
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.transfer import pull, push
from tests.attacks.asking_lakes import git
from tests.attacks.two_lakes import add, merged_params, row
from tests.support.lakes import put


@pytest.fixture
def zone() -> Iterator[None]:
    """Local time is five hours behind UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "XYZ5"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def dated(lake: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake whose versions v1 to v3 are of three days in November, in two time zones."""
    for n, day in ((12, "2026-11-20T23:30:00+00:00"), (13, "2026-11-21T23:30:00-05:00"), (14, "2026-11-25T12:00:00Z")):
        monkeypatch.setenv("GIT_AUTHOR_DATE", day)
        monkeypatch.setenv("GIT_COMMITTER_DATE", day)
        put(lake, n)
        repository.publish(lake)
    monkeypatch.delenv("GIT_AUTHOR_DATE")
    monkeypatch.delenv("GIT_COMMITTER_DATE")
    return lake


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) in (None, 0)
    return capsys.readouterr().out


def test_a_name_stands_for_its_version_everywhere(dated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "tag", "submitted", "v2", "--note", "to a journal", "--lake", str(dated))
    assert resolve(dated, "submitted").name == "v2"
    assert affectlake.open(dated).table("stimuli", at="submitted").collect().height == 13
    for words, n in (
        ("stimuli@submitted", 13),
        ('"stimuli@2026-11-20"', 12),
        ('"stimuli@HEAD~1"', 13),
        ("stimuli", 14),
    ):
        assert query(dated, f"SELECT count(*) FROM {words}").fetchall() == [(n,)]
    said(capsys, "checkout", "submitted", "--lake", str(dated))
    assert "to a journal" in said(capsys, "versions", "show", "submitted", "--lake", str(dated))
    assert "v2  2026-11-21 23:30" in said(capsys, "versions", "--lake", str(dated))
    found = json.loads(said(capsys, "versions", "show", "v2", "--json", "--lake", str(dated)))
    assert [(one["name"], one["note"]) for one in found["names"]] == [("submitted", "to a journal")]
    (row,) = json.loads(said(capsys, "tag", "--json", "--lake", str(dated)))
    assert (row["name"], row["version"], row["note"]) == ("submitted", "v2", "to a journal")
    said(capsys, "cite", "submitted", "--lake", str(dated))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("2026-11-20", "v1"),
        ("2026-11-21", "v2"),
        ("2026-11-24", "v2"),
        ("2026-11-25", "v3"),
        ("2030-01-01", "v3"),
        ("2026-11-25T06:59", "v2"),  # local time is UTC-5
        ("2026-11-25T07:00", "v3"),
        ("2026-11-25T12:00+00:00", "v3"),
        ("2026-11-25 11:59:59Z", "v2"),
        ("lake/v2", "v2"),
        ("HEAD", "v3"),
        ("HEAD~1", "v2"),
        ("HEAD~2", "v1"),
        ("latest", "v3"),
    ],
)
@pytest.mark.usefixtures("zone")
def test_dates_and_revisions_stand_for_the_last_version_until_then(dated: Path, words: str, name: str) -> None:
    assert resolve(dated, words).name == name


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("2026-11-19", "there was no version at 2026-11-19 yet"),
        ("2026-13-01", "is not a date"),
        ("HEAD~99", "is not a version"),
        ("submited", "did you mean 'submitted'"),
        ("nothing", "is not a version"),
    ],
)
def test_what_stands_for_no_version_is_one_message(dated: Path, words: str, message: str) -> None:
    add_name(dated, "submitted", resolve(dated, "v2").commit)
    with pytest.raises(VersionError) as told:
        resolve(dated, words)
    assert message in str(told.value)


def test_the_zone_of_a_date_is_that_of_the_reader(dated: Path, zone: None) -> None:
    of = {v.name: datetime.fromisoformat(v.created) for v in list_versions(dated)}
    assert of["v1"] == datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    assert of["v2"] == datetime(2026, 11, 21, 23, 30, tzinfo=timezone(timedelta(hours=-5)))


@pytest.mark.parametrize(
    "name", ["v3", "latest", "HEAD", "beef", "a b", "-x", "x..y", "x.", "x.lock", "2026-11-20", "a/b", "ä", "x" * 65]
)
def test_names_that_mean_something_else_are_refused(dated: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a version"):
        add_name(dated, name, resolve(dated).commit)
    assert not version_names(dated)


def test_a_name_is_not_moved_and_can_be_taken_away(dated: Path) -> None:
    first, last = resolve(dated, "v1"), resolve(dated)
    add_name(dated, "pre-print.2", first.commit, "line one\n\nline two; # not a comment")
    with pytest.raises(LakeError, match="is the name of another version"):
        add_name(dated, "pre-print.2", last.commit)
    assert version_names(dated)["pre-print.2"].note == "line one\n\nline two; # not a comment"
    assert add_name(dated, "pre-print.2", first.commit, "other").note == "other"
    remove_name(dated, "pre-print.2")
    with pytest.raises(VersionError, match="no version is named"):
        remove_name(dated, "pre-print.2")
    add_name(dated, "pre-print.2", last.commit)
    assert resolve(dated, "pre-print.2") == last
    assert [v.name for v in list_versions(dated)] == ["v1", "v2", "v3"]


def test_the_list_is_short_and_continues(dated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "versions", "--lake", str(dated)).splitlines()
    assert [line.split()[0] for line in lines] == ["v3", "v2", "v1"]
    main(["versions", "--limit", "1", "--lake", str(dated)])
    printed = capsys.readouterr()
    assert printed.out.startswith("v3") and printed.out.count("\n") == 1
    assert "2 older: `affectlake versions --before v3`" in printed.err
    lines = said(capsys, "versions", "--before", "v3", "--lake", str(dated)).splitlines()
    assert [line.split()[0] for line in lines] == ["v2", "v1"]
    rows = json.loads(said(capsys, "versions", "--json", "--limit", "0", "--lake", str(dated)))
    assert [row["name"] for row in rows] == ["v3", "v2", "v1"] and rows[0]["names"] == []


def test_names_travel_with_push_and_pull(shared: Path, tmp_path: Path) -> None:
    add_name(shared, "submitted", resolve(shared, "v2").commit, "to a journal")
    push(shared, list_versions(shared))
    other = tmp_path / "other"
    git(shared.parent, "clone", "--quiet", "--no-tags", shared.parent / "origin.git", other)
    lines: list[str] = []
    pull(other, say=lines.append)
    assert "new names of versions: submitted" in lines
    assert version_names(other) == version_names(shared)
    assert resolve(other, "submitted").name == "v2"
    # a name given there comes back; one with two meanings is named, and nothing is changed
    add_name(other, "accepted", resolve(other, "v3").commit)
    push(other, list_versions(other))
    add_name(shared, "accepted", resolve(shared, "v1").commit)
    lines.clear()
    pull(shared, say=lines.append)
    assert any(line.startswith("warning: accepted is the name of one version here") for line in lines)
    push(shared, list_versions(shared), say=lines.append)
    assert resolve(shared, "accepted").name == "v1" and resolve(other, "accepted").name == "v3"


def test_a_version_that_is_not_pushed_keeps_its_name_here(shared: Path) -> None:
    put(shared, 15)
    repository.publish(shared)
    add_name(shared, "draft", resolve(shared).commit)
    push(shared, list_versions(shared)[:2])
    assert "lake-name" not in git(shared, "ls-remote", "origin")
    push(shared, list_versions(shared))
    assert "refs/tags/lake-name/draft" in git(shared, "ls-remote", "origin")


def test_a_join_brings_the_names_of_the_other_lake(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    add(ours, "ann", row(1))
    add_name(ours, "both", resolve(ours, "v1").commit)
    add(theirs, "bob", row(2))
    add_name(theirs, "submitted", resolve(theirs).commit, "to a journal")
    add_name(theirs, "both", resolve(theirs, "v2").commit)
    lines: list[str] = []
    with repository.writing(ours, "affectlake join"):
        joining.join(ours, str(theirs), "", merged_params, lines.append)
    assert resolve(ours, "submitted").commit == resolve(theirs, "submitted").commit
    assert version_names(ours)["submitted"].note == "to a journal"
    assert any("warning: both is the name of one version here" in line for line in lines)
    assert resolve(ours, "both").name == "v1"
