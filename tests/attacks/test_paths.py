"""Lakes that name what is not theirs: folders elsewhere in manifests, listings, pointers and marks, symbolic links."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from affectlake.errors import LakeError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import forget_stages
from affectlake.lake.store.remotes import open_remote
from affectlake.lake.store.versions import Manifest, cached_object, list_versions, resolve
from affectlake.lake.tables import appending, factory
from affectlake.lake.tables.memmaps import map_lists
from affectlake.lake.tables.parts import write_parts
from affectlake.lake.transfer import pull, push
from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake
from tests.support.lakes import put

OUTPUT = Output("captions", "model")
TINY = factory.tiny_lake(12)


def affectlake(*arguments: str | Path, ok: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["affectlake", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def git(root: Path, *arguments: str | Path) -> str:
    command = ["git", "-c", "user.name=Eve", "-c", "user.email=eve@example.org", *map(str, arguments)]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def quiet(_line: str) -> None:
    """Say nothing."""


def refused_or_harmless(act: Callable[[], object]) -> str:
    """Do something; return the refusal's words, or nothing where there was none."""
    try:
        act()
    except LakeError as error:
        return str(error)
    return ""


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Somebody's folder, beside the lake."""
    folder = tmp_path / "victim"
    (folder / "letters").mkdir(parents=True)
    (folder / "keep.txt").write_text("mine")
    (folder / "letters" / "one.txt").write_text("mine too")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add_stage(lake: Path, path: str, command: str = "affectlake step zzz --step-version 1") -> None:
    """Let the lake's dvc.lock say that a stage made the folder `path`."""
    lock = yaml.safe_load((lake / "dvc.lock").read_text())
    out = {"path": path, "hash": "md5", "md5": "0" * 32 + ".dir", "size": 4, "nfiles": 1}
    lock["stages"]["zzz"] = {"cmd": command, "outs": [out]}
    (lake / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def publish_as_it_is(lake: Path) -> str:
    """Commit and tag what stands in the folder, as somebody who means harm can."""
    name = f"v{len(list_versions(lake)) + 1}"
    git(lake, "add", "--force", "dvc.lock", "storage/collected")
    git(lake, "commit", "--quiet", "--message", f"{name}: 1 outputs changed")
    git(lake, "tag", f"lake/{name}")
    return name


PATHS = {
    "absolute": "{victim}",
    "beside the lake": "../victim",
    "through the tables": "storage/tables/../../../victim",
    "in the lake": "letters",
    "the tables themselves": "storage/tables",
    "the lake itself": ".",
    "with an empty name": "storage/tables/",
    "deeper than a partition": "storage/tables/a/b/c",
}


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("whose", ["a step's", "the user's"])
def test_no_folder_that_a_manifest_names_is_removed_unless_it_is_a_table(
    published: Path, victim: Path, path: str, whose: str
) -> None:
    (published / "letters").mkdir()
    (published / "letters" / "mine.txt").write_text("mine")
    before, tables = contents(victim), contents(published / layout.TABLES)
    named = PATHS[path].format(victim=victim)
    add_stage(published, named, "affectlake step zzz" if whose == "a step's" else "python mine.py")
    words = refused_or_harmless(lambda: forget_stages(published, ["tiny"]))
    assert contents(victim) == before
    assert contents(published / layout.TABLES) == tables
    assert (published / "letters" / "mine.txt").read_text() == "mine"
    if whose == "a step's" or named.startswith("storage/tables"):
        assert repr(named) in words
        assert "zzz" in words
        assert "dvc.lock" in words
    else:
        assert words == ""
        assert "zzz" in yaml.safe_load((published / "dvc.lock").read_text())["stages"]


@pytest.mark.parametrize("path", ["absolute", "beside the lake", "through the tables"])
def test_a_checkout_removes_only_tables(published: Path, victim: Path, path: str) -> None:
    before = contents(victim)
    add_stage(published, PATHS[path].format(victim=victim), "true")
    bad = publish_as_it_is(published)
    refused_or_harmless(lambda: checkout(published, resolve(published, "v1")))
    assert contents(victim) == before
    # versions that are as they should be are read as ever
    for version, n in (("v1", 12), ("v2", 13)):
        done = affectlake(
            "query", "SELECT count(*) AS n FROM stimuli", "--at", version, "--lake", published, "--format", "csv"
        )
        assert done.stdout == f"n\n{n}\n"
    if path == "through the tables":
        done = affectlake("query", "SELECT 1 FROM stimuli", "--at", bad, "--lake", published, ok=1)
        assert "storage/tables/../../../victim" in done.stderr
        assert "affectlake versions" in done.stderr


def test_a_run_in_a_cloned_lake_leaves_other_folders_alone_and_what_it_says_leads_on(
    tmp_path: Path, victim: Path
) -> None:
    lake = tmp_path / "lake"
    make_lake(lake, ENTRY | {"protocol": "naive-least-similar"})
    before = contents(victim)
    good = (lake / "dvc.lock").read_text()
    for named in (str(victim), "../victim", "storage/tables/../../../victim"):
        add_stage(lake, named)
        publish_as_it_is(lake)
        done = subprocess.run(
            ["affectlake", "run", "--lake", lake], capture_output=True, text=True, check=False, timeout=120
        )
        assert contents(victim) == before
        assert done.returncode == 1
        assert repr(named) in done.stderr
        assert f"remove it from {lake / 'dvc.lock'}" in done.stderr
    (lake / "dvc.lock").write_text(good)  # as the message says
    affectlake("publish", "--lake", lake)
    assert affectlake("checkout", "v1", "--lake", lake).returncode == 0


def append(lake: Path, n: int = 3) -> None:
    appending.append(lake, OUTPUT, TINY["captions"][:n], {"stimuli": TINY["stimuli"].lazy()})


def test_a_symbolic_link_among_the_tables_is_not_followed(published: Path, victim: Path) -> None:
    append(published)
    before = contents(victim)
    for link, act in (
        (OUTPUT.folder, lambda: appending._place(published, OUTPUT, [])),
        (layout.TABLES / "captions", lambda: put_captions(published)),
        (Output("stimuli").folder, lambda: put(published, 14)),
        (layout.TABLES, lambda: put(published, 14)),
        (layout.STAGING, lambda: put(published, 14)),
        (layout.UNRECORDED, lambda: put(published, 14)),
    ):
        place, aside = published / link, published / "aside"
        place.rename(aside) if place.exists() else place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(victim)
        words = refused_or_harmless(act)
        assert contents(victim) == before, link
        assert str(link) in words
        assert str(victim) in words
        place.unlink()
        if aside.exists():
            aside.rename(place)
    put(published, 14)


def put_captions(lake: Path) -> None:
    appending.append(lake, OUTPUT, TINY["captions"][3:6], {"stimuli": TINY["stimuli"].lazy()})


def test_a_checkout_through_a_linked_folder_of_tables_is_refused(published: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (published / layout.TABLES).rename(elsewhere)
    (elsewhere / "stimuli" / "notes.txt").write_text("mine")
    (published / layout.TABLES).symlink_to(elsewhere)
    before = contents(elsewhere)
    for version in ("v1", "latest"):
        done = affectlake("checkout", version, "--lake", published, ok=1)
        assert "storage/tables" in done.stderr
    assert contents(elsewhere) == before


def evil_listing(lake: Path, entries: list[dict[str, str]]) -> str:
    """Put a listing into the cache whose name is right, and return it."""
    content = json.dumps(entries, sort_keys=True).encode()
    name = hashlib.md5(content).hexdigest() + ".dir"
    path = cached_object(lake, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


def point(lake: Path, digest: str, **changes: Any) -> None:
    """Let the pointer of the collected output name a listing."""
    path = lake / OUTPUT.pointer
    body = yaml.safe_load(path.read_text())
    body["outs"][0] |= {"md5": digest} | {key: value for key, value in changes.items() if key != "wdir"}
    body |= {key: value for key, value in changes.items() if key == "wdir"}
    path.write_text(yaml.safe_dump(body, sort_keys=False))


@pytest.mark.parametrize(
    "relpath", ["../../../../victim/keep.txt", "{victim}/keep.txt", "letters/../../keep.txt", ".."]
)
def test_a_listing_that_leads_elsewhere_is_refused(published: Path, victim: Path, relpath: str) -> None:
    append(published)
    md5 = Manifest(published, "").files(OUTPUT)[0].md5
    before = contents(victim)
    point(published, evil_listing(published, [{"md5": md5, "relpath": relpath.format(victim=victim)}]))
    (published / layout.UNRECORDED / "captions").mkdir(parents=True, exist_ok=True)
    (published / layout.UNRECORDED / OUTPUT.path).touch()  # the mark of an append that was cut off
    for act in (
        lambda: appending.place_appended(published),
        lambda: recover(published, quiet),
        lambda: repository.publish(published),
    ):
        words = refused_or_harmless(act)
        assert contents(victim) == before
        assert repr(relpath.format(victim=victim)) in words
    assert not (published / layout.TABLES / "captions" / "keep.txt").exists()


@pytest.mark.parametrize("md5", ["../../../../victim/keep.txt", "/etc/passwd", "", "0" * 31, "0" * 32 + ".dir"])
def test_a_listing_of_what_is_not_an_object_is_refused(published: Path, md5: str) -> None:
    append(published)
    point(published, evil_listing(published, [{"md5": md5, "relpath": "part-00000.parquet"}]))
    with pytest.raises(LakeError, match="is not the listing of a table"):
        Manifest(published, "").files(OUTPUT)


@pytest.mark.parametrize(
    "change",
    [
        {"wdir": "../../../../victim", "path": "letters"},
        {"path": "../../../../victim"},
        {"path": "{victim}"},
        {"path": "../stimuli"},
        {"md5": "../../../../victim"},
    ],
)
def test_a_pointer_that_leads_elsewhere_is_refused(published: Path, victim: Path, change: dict[str, str]) -> None:
    append(published)
    digest = Manifest(published, "").digests[OUTPUT]
    before, stimuli = contents(victim), contents(published / Output("stimuli").folder)
    change = {key: value.format(victim=victim) for key, value in change.items()}
    point(published, change.pop("md5", digest), **change)
    shutil.rmtree(published / OUTPUT.folder)
    words = refused_or_harmless(lambda: recover(published, quiet))
    assert contents(victim) == before
    assert contents(published / Output("stimuli").folder) == stimuli
    assert f"{OUTPUT.pointer}" in words


@pytest.mark.parametrize("agent", ["../../../victim", "/victim", "a/b", "..", ".hidden", "a b", ""])
def test_an_agent_whose_name_leads_elsewhere_is_refused_before_a_path_is_made_of_it(
    tmp_path: Path, victim: Path, agent: str
) -> None:
    lake = tmp_path / "lake"
    affectlake("init", lake, "--study", "demo")
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"][agent] = raw["agents"].pop("human-category")
    raw["brain"]["partition"] = None  # its bands name agents of the demo
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    before = contents(victim)
    done = affectlake("render", "--lake", lake, ok=2)
    assert f"{agent!r} is not a name for an agent" in done.stderr
    assert contents(victim) == before


def test_a_mark_that_names_no_version_is_finished_by_a_restoration(published: Path) -> None:
    mark = published / layout.STAGING / "checkout-of"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text("../../../victim")
    with pytest.raises(LakeError, match="affectlake restore"):
        recover(published, quiet)
    affectlake("restore", "--lake", published)
    recover(published, quiet)
    assert not mark.exists()


def test_files_that_are_called_otherwise_are_not_marks(published: Path) -> None:
    folder = published / layout.UNRECORDED
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/b/c/d").touch()
    (folder / ".DS_Store").touch()
    recover(published, quiet)
    assert (folder / "a/b/c/d").exists()


def test_only_our_own_unfinished_files_are_removed(published: Path) -> None:
    mine = [published / ".env.new-keys", published / ".notes.new-year" / "a.txt", published / ".new-"]
    mine[1].parent.mkdir()
    for path in mine:
        path.write_text("mine")
    ours = published / ".dvc.lock.new-x7k2"
    ours.write_text("half")
    recover(published, quiet)
    assert all(path.read_text() == "mine" for path in mine)
    assert not ours.exists()


@pytest.fixture
def shared(published: Path, tmp_path: Path) -> Path:
    """The published lake with a Git remote and a DVC remote, both folders."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", tmp_path / "origin.git")
    git(published, "remote", "add", "origin", tmp_path / "origin.git")
    config = (published / ".dvc/config").read_text().replace("../storage/remote", str(tmp_path / "files"))
    (published / ".dvc/config").write_text(config)
    append(published)
    repository.publish(published)
    push(published, list_versions(published))
    return published


def test_a_remote_with_an_evil_listing_is_refused_when_it_is_pulled(shared: Path, tmp_path: Path, victim: Path) -> None:
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "--no-tags", tmp_path / "origin.git", other)
    pull(other)
    before = contents(victim)
    md5 = Manifest(shared, "").files(OUTPUT)[0].md5
    name = evil_listing(shared, [{"md5": md5, "relpath": "../../../../victim/keep.txt"}])
    point(shared, name)
    publish_as_it_is(shared)
    away = open_remote(shared)
    away.send({name: cached_object(shared, name)})
    git(shared, "push", "--quiet", "origin", "main", "lake/v4")
    done = subprocess.run(["affectlake", "pull", "--lake", other], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "'../../../../victim/keep.txt'" in done.stderr
    assert [version.name for version in list_versions(other)] == ["v1", "v2", "v3"]
    recover(other, quiet)
    assert contents(victim) == before
    # the good ones are there, and can be placed
    affectlake("checkout", "v3", "--lake", other)
    assert pl.read_parquet(other / OUTPUT.folder / "*.parquet").height == 3
    # what nobody names any more is still found: a version that is refused is no reason to keep all
    affectlake("gc", "--lake", other)


def test_old_files_of_others_in_a_remotes_folder_stay(shared: Path) -> None:
    folder = Path(open_remote(shared).path) / "incoming"
    mine = [folder / "holiday.jpg", folder / ("0" * 32), folder / "deadbeef-0123abcd"]
    folder.mkdir(exist_ok=True)
    old = time.time() - 3 * 24 * 3600
    for path in mine:
        path.write_text("mine")
        os.utime(path, (old, old))
    put(shared, 14)
    repository.publish(shared)
    push(shared, list_versions(shared))
    assert all(path.read_text() == "mine" for path in mine)


def test_a_subject_of_any_name_has_a_file_of_its_own_in_its_folder(lake: Path) -> None:
    from affectlake.lake.tables.contracts import contract

    names = ["../../../../victim", "a/b", "..", "S1"]
    betas = factory.tiny_lake(4)["betas"]
    frame = pl.concat(betas.with_columns(subject=pl.lit(name)) for name in names).sort("subject", "stimulus_index")
    folder = lake / Output("betas").folder
    parts = write_parts(frame, contract("betas"), folder)
    for name in names:
        found = map_lists(lake, parts, "pattern", "subject", name)
        assert Path(found.filename).parent.parent == lake / layout.MAPPED
        np.testing.assert_array_equal(found, np.stack(betas["pattern"].to_list()))
