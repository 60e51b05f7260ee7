"""Exact versions: checked out byte for byte, compared row by row, verified and mended."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from affectlake.errors import LakeError, UsageError, VersionError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.diff import diff, diff_rows
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check, users
from affectlake.lake.store.dvc_stages import is_current, record_done
from affectlake.lake.store.remotes import open_remote
from affectlake.lake.store.versions import Manifest, cached_object, resolve
from affectlake.lake.store.working_tables import refuse_edited
from affectlake.lake.tables import factory, writing
from tests.support.lakes import OUTPUTS, put


def working_bytes(lake: Path) -> dict[str, bytes]:
    files = [*(lake / layout.TABLES).rglob("*.parquet"), *(lake / name for name in ("params.yaml", "dvc.lock"))]
    return {str(path.relative_to(lake)): path.read_bytes() for path in files}


def flip(path: Path, at: int) -> None:
    """Change one byte of a read-only file."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x01
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_checkout_is_byte_equal_to_what_was_published(lake: Path) -> None:
    states = {}
    for name, n_stimuli in (("v1", 12), ("v2", 13), ("v3", 5)):
        put(lake, n_stimuli)
        repository.publish(lake)
        states[name] = working_bytes(lake)
    for name in ("v1", "v3", "v2", "v1"):
        done = checkout(lake, resolve(lake, name))
        assert working_bytes(lake) == states[name]
        assert set(done.placed) == set(OUTPUTS)
    assert set(checkout(lake, resolve(lake, "v1")).kept) == set(OUTPUTS)


def test_a_checkout_does_not_move_the_branch_and_leaves_no_version_behind(published: Path) -> None:
    checkout(published, resolve(published, "v1"))
    assert resolve(published).name == "v2"
    checkout(published, resolve(published))
    assert repository.publish(published) is None


def test_checked_out_files_are_read_only_and_apart_from_the_cache(published: Path) -> None:
    checkout(published, resolve(published, "v1"))
    for path in (published / layout.TABLES).rglob("*.parquet"):
        assert path.stat().st_mode & 0o222 == 0
        assert path.stat().st_nlink == 1
        assert not path.is_symlink()


def test_unpublished_work_is_not_overwritten(published: Path) -> None:
    put(published, 14)
    before = working_bytes(published)
    with pytest.raises(LakeError, match="unpublished work") as caught:
        checkout(published, resolve(published, "v1"))
    assert "affectlake run" in str(caught.value)
    assert working_bytes(published) == before


def test_hand_edited_tables_are_not_overwritten(published: Path) -> None:
    flip(published / "storage/tables/stimuli/part-00000.parquet", 100)
    with pytest.raises(LakeError, match="changed by hand"):
        checkout(published, resolve(published, "v1"))


def test_tables_of_a_run_that_was_cut_off_are_no_edit(published: Path) -> None:
    tables = factory.tiny_lake(14)
    frames = {output: tables[output.table] for output in OUTPUTS}
    writing.write_outputs(published, "tiny", frames, {name: frame.lazy() for name, frame in tables.items()})
    refuse_edited(published)  # written and in place, but the process died before DVC recorded them
    assert not is_current(published, "tiny")
    with pytest.raises(LakeError, match="interrupted before its tables were recorded"):
        checkout(published, resolve(published, "v1"))
    record_done(published, "tiny")
    assert not [path for path in (published / layout.UNRECORDED).rglob("*") if path.is_file()]
    flip(published / "storage/tables/stimuli/part-00000.parquet", 100)
    with pytest.raises(LakeError, match="changed by hand"):
        refuse_edited(published)


def damage(path: Path) -> None:
    flip(path, 7)


def zero(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))


WAYS: dict[str, Callable[[Path], None]] = {"damaged": damage, "zero-filled": zero, "missing": Path.unlink}


@pytest.mark.parametrize("state", list(WAYS))
def test_a_bad_object_is_named_and_never_checked_out(published: Path, state: str) -> None:
    version = resolve(published, "v1")
    before = working_bytes(published)
    file = Manifest(published, version.commit).files(Output("triplets"))[0]
    WAYS[state](file.cached)
    (finding,) = check(published, version, repair=False)
    assert (finding.path, finding.where, finding.state) == (str(file.path), "cache", state)
    with pytest.raises(VersionError, match="not as published"):
        checkout(published, version)
    assert working_bytes(published) == before


def test_every_flipped_byte_of_every_object_is_found(published: Path) -> None:
    version = resolve(published, "v1")
    wanted = users(published, [version])
    assert len(wanted) == 2 * len(OUTPUTS)
    for md5, use in wanted.items():
        path = cached_object(published, md5)
        whole = path.read_bytes()
        step = max(len(whole) // 16, 1)
        for at in [*range(0, len(whole), step), len(whole) - 1]:
            flip(path, at)
            assert [f.path for f in check(published, version, repair=False)] == [use.path], (use, at)
            path.write_bytes(whole)
    assert check(published, version, repair=False) == []


def test_a_flipped_byte_of_the_manifest_in_git_is_found(published: Path) -> None:
    import subprocess

    version = resolve(published, "v1")
    name = subprocess.run(
        ["git", "rev-parse", f"{version.commit}:dvc.lock"], cwd=published, check=True, capture_output=True, text=True
    ).stdout.strip()
    flip(published / ".git/objects" / name[:2] / name[2:], 30)
    findings = check(published, version, repair=False)
    assert [(f.path, f.where) for f in findings] == [("dvc.lock", "git")]
    with pytest.raises(VersionError):
        checkout(published, version)


def push(lake: Path) -> Path:
    """Fill the default remote with the cache's objects, as ``dvc push`` does."""
    remote = Path(open_remote(lake).path)
    shutil.copytree(lake / ".dvc/cache/files", remote / "files", dirs_exist_ok=True)
    return remote


@pytest.mark.parametrize("state", list(WAYS))
def test_the_cache_is_repaired_from_the_remote(published: Path, state: str) -> None:
    push(published)
    version = resolve(published, "v2")
    file = Manifest(published, version.commit).files(Output("choices", "tiny"))[0]
    whole = file.cached.read_bytes()
    WAYS[state](file.cached)
    (finding,) = check(published, version, repair=True)
    assert finding.repaired
    assert file.cached.read_bytes() == whole
    assert check(published, version, repair=False) == []


def test_a_remote_that_lies_is_caught_and_mended(published: Path) -> None:
    remote = push(published)
    version = resolve(published, "v2")
    file = Manifest(published, version.commit).files(Output("stimuli"))[0]
    away = remote / "files/md5" / file.md5[:2] / file.md5[2:]
    damage(away)
    (finding,) = check(published, version, repair=False)
    assert (finding.where, finding.repaired) == ("remote", False)
    assert check(published, version, repair=True)[0].repaired
    assert away.read_bytes() == file.cached.read_bytes()


def test_damage_in_all_copies_is_not_called_repaired(published: Path) -> None:
    remote = push(published)
    version = resolve(published, "v2")
    file = Manifest(published, version.commit).files(Output("stimuli"))[0]
    damage(file.cached)
    damage(remote / "files/md5" / file.md5[:2] / file.md5[2:])
    damage(published / file.path)
    assert [f.repaired for f in check(published, version, repair=True)] == [False, False]


def test_a_diff_counts_rows_by_key(published: Path) -> None:
    found = {one.output: one for one in diff(published, resolve(published, "v1"), resolve(published, "v2"))}
    assert (found["stimuli"].added, found["stimuli"].removed, found["stimuli"].changed) == (1, 0, 0)
    assert found["triplets"].added == 286 - 220
    back = diff(published, resolve(published, "v2"), resolve(published, "v1"), "stimuli")
    assert [(one.output, one.added, one.removed) for one in back] == [("stimuli", 0, 1)]


def test_a_diff_agrees_with_plain_sets(published: Path) -> None:
    old, new = (factory.tiny_lake(n)["triplets"] for n in (12, 13))
    rows = diff_rows(published, resolve(published, "v1"), resolve(published, "v2"), Output("triplets"))
    before, after = (dict(zip(f.select("i", "j", "k").rows(), f.rows(), strict=True)) for f in (old, new))
    assert set(rows.added.select("i", "j", "k").rows()) == set(after) - set(before)
    changed = {key for key in set(before) & set(after) if before[key] != after[key]}
    assert set(rows.changed.select("i", "j", "k").rows()) == changed
    assert changed
    assert rows.removed.is_empty()
    assert "split_before" in rows.changed.columns


def test_a_version_does_not_differ_from_itself(published: Path) -> None:
    assert diff(published, resolve(published, "v1"), resolve(published, "v1")) == []


def test_a_diff_of_an_unknown_table_offers_the_nearest(published: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'stimuli'"):
        diff(published, resolve(published, "v1"), resolve(published, "v2"), "stimulus")
