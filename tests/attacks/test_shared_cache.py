"""Two lakes and one cache: garbage of the one may be the other's data. Where the cache lies is what DVC says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from affectlake.errors import LakeError
from affectlake.lake import garbage, repository
from affectlake.lake.files.outputs import Output
from affectlake.lake.store.dvc_stages import dvc_repository
from affectlake.lake.store.versions import Manifest, cache_folder, cached_object, resolve
from tests.support.lakes import put


def run(name: str, *arguments: str | Path, cwd: Path | None = None, ok: int = 0) -> str:
    done = subprocess.run([name, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def gc(lake: Path, *options: str | Path, ok: int = 0) -> str:
    return run("affectlake", "gc", "--lake", lake, *options, ok=ok)


def set_cache(lake: Path, folder: Path) -> None:
    run("dvc", "cache", "dir", folder, cwd=lake)


@pytest.fixture
def both(lakes: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Two lakes whose cache is one folder, of which only the first has garbage."""
    cache = tmp_path / "cache"
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    shutil.copytree(lakes["published"], mine)
    (mine / ".dvc/cache").rename(cache)
    set_cache(mine, cache)
    shutil.copytree(lakes["empty"], theirs)
    set_cache(theirs, cache)
    put(theirs, 9)
    assert repository.publish(theirs) is not None
    put(mine, 8)
    put(mine, 13)
    return mine, theirs


def names(lake: Path) -> set[Path]:
    return {path for path in (cache_folder(lake) / "files").rglob("*") if path.is_file()}


def assert_whole(*lakes: Path) -> None:
    for lake in lakes:
        run("affectlake", "fsck", "--local", "--lake", lake)


def test_nothing_is_removed_from_a_shared_cache_until_its_users_are_named(both: tuple[Path, Path]) -> None:
    mine, theirs = both
    before = names(mine)
    for path in before:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 30 * 24 * 3600))
    subprocess.run(["affectlake", "gc", "--lake", mine, "--remove"], check=False, capture_output=True)
    assert names(mine) == before
    for options in (["--remove"], ["--remove", "--days", "0"], ["--remove", "--days", "30"]):
        said = gc(mine, *options, ok=2)
        assert "is outside" in said
        assert "--shared-with DIR" in said
        assert str(cache_folder(mine)) in said
    assert names(mine) == before
    assert "see --shared-with" in gc(mine, "--days", "0")
    assert names(mine) == before
    assert_whole(mine, theirs)


def test_what_its_other_users_refer_to_stays(both: tuple[Path, Path], tmp_path: Path) -> None:
    mine, theirs = both
    # a third that is no lake and knows no Git, and whose data no commit names
    plain = tmp_path / "plain"
    plain.mkdir()
    run("dvc", "init", "--no-scm", "--quiet", cwd=plain)
    set_cache(plain, cache_folder(mine))
    (plain / "data" / "deep").mkdir(parents=True)
    (plain / "data" / "deep" / "a.txt").write_text("a")
    run("dvc", "add", "--quiet", "data", cwd=plain)
    before = names(mine)
    assert "0 files" in gc(mine, "--remove", "--shared-with", theirs, "--shared-with", plain), "two weeks have to pass"
    assert names(mine) == before
    said = gc(mine, "--remove", "--days", "0", "--shared-with", theirs, "--shared-with", os.path.relpath(plain))
    assert "0 files" not in said
    assert 0 < len(names(mine)) < len(before)
    assert_whole(mine, theirs)
    shutil.rmtree(plain / "data")
    run("dvc", "checkout", "--quiet", cwd=plain)
    assert (plain / "data/deep/a.txt").read_text() == "a"
    assert run("affectlake", "query", "SELECT count(*) AS n FROM stimuli", "--lake", theirs, "--format", "csv") == (
        "n\n9\n"
    )


def test_another_lakes_unpublished_work_and_branches_count(both: tuple[Path, Path]) -> None:
    mine, theirs = both
    run("git", "switch", "--quiet", "--create", "side", cwd=theirs)
    put(theirs, 7)
    repository.publish(theirs)
    run("git", "switch", "--quiet", "main", cwd=theirs)
    put(theirs, 6)
    kept = set(Manifest(theirs, "").digests.values()) | set(
        Manifest(theirs, resolve(theirs, "v2").commit).digests.values()
    )
    gc(mine, "--remove", "--days", "0", "--shared-with", theirs)
    assert all(cached_object(mine, md5).exists() for md5 in kept)


def test_two_weeks_have_to_pass_in_a_shared_cache_and_a_day_in_ones_own(both: tuple[Path, Path], lake: Path) -> None:
    mine, theirs = both
    day_s = 24 * 3600
    for path in names(mine):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10 * day_s))
    assert "0 files" in gc(mine, "--shared-with", theirs)
    assert "0 files" not in gc(mine, "--shared-with", theirs, "--days", "9")
    assert "0 files" not in gc(mine, "--not-shared")
    assert "0 files" in gc(mine, "--not-shared", "--days", "11")


def test_who_says_that_nobody_else_uses_it_is_believed(both: tuple[Path, Path]) -> None:
    mine, theirs = both
    shutil.rmtree(theirs)
    gc(mine, "--remove", "--days", "0", "--not-shared")
    assert_whole(mine)
    assert "0 files" in gc(mine, "--days", "0", "--not-shared")


def test_users_that_are_none_are_refused(both: tuple[Path, Path], lake: Path, tmp_path: Path) -> None:
    mine, theirs = both
    before = names(mine)
    assert "is not a DVC repository" in gc(mine, "--remove", "--shared-with", tmp_path, ok=2)
    assert "does not use the cache" in gc(mine, "--remove", "--shared-with", lake, ok=2)
    assert "does not exist" in gc(mine, "--remove", "--shared-with", tmp_path / "nowhere", ok=2)
    assert "contradict" in gc(mine, "--remove", "--shared-with", theirs, "--not-shared", ok=2)
    assert names(mine) == before


def test_where_a_listing_of_another_lake_is_damaged_nothing_goes(both: tuple[Path, Path]) -> None:
    mine, theirs = both
    listing = cached_object(theirs, Manifest(theirs, "").digests[Output("stimuli")])
    listing.chmod(0o644)
    listing.write_text("[]")
    before = names(mine)
    assert f"{theirs} refers to it" in gc(mine, "--remove", "--days", "0", "--shared-with", theirs, ok=1)
    assert names(mine) == before


def test_a_cache_of_ones_own_needs_no_more_words(published: Path) -> None:
    put(published, 9)
    put(published, 13)
    assert "0 files" in gc(published, "--remove")
    assert "0 files" not in gc(published, "--remove", "--days", "0")
    assert_whole(published)


def dvc_says(lake: Path) -> Path:
    with dvc_repository(lake) as repo:
        return Path(repo.cache.local_cache_dir).resolve()


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("repo", "../elsewhere"),
        ("repo", "/tmp/some where, # else"),
        ("repo", "/tmp/100%/here"),
        ("repo", "~/cache"),
        ("local", "../../elsewhere"),
        ("local", "~/a b"),
        ("user", "/tmp/everybodys"),
        ("user", "beside"),
        ("user", "~/cache"),
        ("system", "/tmp/everybodys"),
    ],
)
def test_the_cache_is_where_dvc_has_it(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, named: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder(lake) == dvc_says(lake) == lake / ".dvc/cache"
    files = {
        "repo": lake / ".dvc/config",
        "local": lake / ".dvc/config.local",
        "user": tmp_path / "user/config",
        "system": tmp_path / "system/config",
    }
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    files[place].parent.mkdir(exist_ok=True)
    with files[place].open("a") as file:
        file.write(f'[Cache]\n    Dir = "{named}"\n' if place != "repo" else "")
    if place == "repo":
        text = files["repo"].read_text().replace("[cache]\n", f'[cache]\n    dir = "{named}"  # of the group\n')
        files["repo"].write_text(text)
    assert cache_folder(lake) == dvc_says(lake) != lake / ".dvc/cache"
    # those nearer to the lake come over those farther away
    (lake / ".dvc/config.local").write_text("[cache]\n    dir = nearest\n")
    assert cache_folder(lake) == dvc_says(lake) == lake / ".dvc/nearest"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CONFIG_HOME": "{tmp}/xdg"},
        {"XDG_CONFIG_HOME": "relative"},
        {"XDG_CONFIG_DIRS": "{tmp}/one:{tmp}/two"},
        {"XDG_CONFIG_DIRS": "relative:{tmp}/two"},
    ],
)
def test_the_users_and_the_systems_settings_are_found_as_dvc_finds_them(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    from dvc.dirs import global_config_dir, system_config_dir

    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    for folder in (Path(global_config_dir()), Path(system_config_dir())):
        if folder.is_relative_to(tmp_path):
            folder.mkdir(parents=True)
            (folder / "config").write_text(f"[cache]\n    dir = {tmp_path}/of-{folder.parent.name}\n")
    assert cache_folder(lake) == dvc_says(lake) != lake / ".dvc/cache"


def test_settings_that_cannot_be_read_are_named(lake: Path) -> None:
    (lake / ".dvc/config.local").write_text("[cache\ndir = x\n")
    with pytest.raises(LakeError, match=r"config.local cannot be read"):
        cache_folder(lake)


def test_stages_of_others_in_a_lake_that_shares_its_cache_count(both: tuple[Path, Path]) -> None:
    mine, theirs = both
    (theirs / "own.txt").write_text("own")
    run("dvc", "add", "--quiet", "own.txt", cwd=theirs)
    md5 = yaml.safe_load((theirs / "own.txt.dvc").read_text())["outs"][0]["md5"]
    garbage.remove(garbage.unreferred(mine, now_s=4e9, others=[theirs]))
    assert cached_object(theirs, md5).exists()
    garbage.remove(garbage.unreferred(theirs, now_s=4e9, others=[mine]))
    assert cached_object(theirs, md5).exists()


def test_a_repository_that_git_cannot_open_is_not_taken_for_one_without_history(both: tuple[Path, Path]) -> None:
    mine, theirs = both
    before = names(mine)
    (theirs / ".git/HEAD").write_text("damaged\n")
    gc(mine, "--remove", "--days", "0", "--shared-with", theirs, ok=1)
    assert names(mine) == before
