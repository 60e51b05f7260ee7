"""Outputs that grow: new rows are new parts, nothing that stood is touched, and DVC finds them its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import polars as pl
import pytest

from affectlake.errors import ContractError, LakeError, UsageError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.diff import diff
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.garbage import unreferred
from affectlake.lake.query import query
from affectlake.lake.restore import restore
from affectlake.lake.store.versions import Manifest, cached_object, resolve
from affectlake.lake.store.working_tables import refuse_cut_off, refuse_edited
from affectlake.lake.tables import appending, factory
from tests.support.lakes import put

OUTPUT = Output("choices", "model")


@pytest.fixture
def choices() -> pl.DataFrame:
    return factory.tiny_lake(12)["choices"].with_columns(agent=pl.lit("model"))


def others() -> dict[str, pl.LazyFrame]:
    return {"triplets": factory.tiny_lake(12)["triplets"].lazy()}


def grow(lake: Path, rows: pl.DataFrame) -> list[str]:
    return appending.append(lake, OUTPUT, rows, others())


def dvc(lake: Path, *words: str) -> str:
    return subprocess.run(["dvc", *words], cwd=lake, check=True, capture_output=True, text=True).stdout


def test_rows_come_in_as_new_parts_and_versions(lake: Path, choices: pl.DataFrame) -> None:
    put(lake)
    repository.publish(lake)
    assert grow(lake, choices[:100]) == [f"storage/tables/{OUTPUT}/part-00000.parquet"]
    made = repository.publish(lake)
    assert made is not None
    assert made.changes == f"{OUTPUT}: +100 rows (100)"
    path = lake / OUTPUT.folder / "part-00000.parquet"
    first = path.stat()
    assert grow(lake, choices[100:]) == [f"storage/tables/{OUTPUT}/part-00001.parquet"]
    made = repository.publish(lake)
    assert made is not None
    assert made.changes == f"{OUTPUT}: +120 rows (220)"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    counts = [query(lake, "SELECT count(*) FROM choices WHERE agent = 'model'", at).fetchall() for at in ("v2", "v3")]
    assert counts == [[(100,)], [(220,)]]
    (found,) = diff(lake, resolve(lake, "v2"), resolve(lake, "v3"))
    assert (found.output, found.added, found.removed, found.changed) == (str(OUTPUT), 120, 0, 0)


def test_dvc_finds_what_it_would_have_written(lake: Path, choices: pl.DataFrame) -> None:
    put(lake)
    grow(lake, choices[:50])
    grow(lake, choices[50:])
    assert "up to date" in dvc(lake, "status")
    ours = Manifest(lake, "").digests[OUTPUT]
    pointer = lake / OUTPUT.pointer
    pointer.write_text(pointer.read_text().replace(ours, "0" * 32 + ".dir"))
    dvc(lake, "commit", "--force", str(pointer))
    assert Manifest(lake, "").digests[OUTPUT] == ours


def test_nothing_that_stood_is_read_again(lake: Path, choices: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(0, 200, 10):
        grow(lake, choices[at : at + 10])
    hashed: list[str] = []
    real = appending.md5_of
    monkeypatch.setattr(appending, "md5_of", lambda path: hashed.append(path.name) or real(path))
    grow(lake, choices[200:])
    assert hashed == ["part-00020.parquet"]


def test_no_rows_make_no_part(lake: Path, choices: pl.DataFrame) -> None:
    assert grow(lake, choices[:0]) == []
    assert not (lake / OUTPUT.pointer).exists()


def test_a_key_comes_once(lake: Path, choices: pl.DataFrame) -> None:
    grow(lake, choices[:100])
    before = Manifest(lake, "").digests
    with pytest.raises(ContractError, match="unique key, against earlier parts: 1 rows"):
        grow(lake, choices[99:150])
    assert Manifest(lake, "").digests == before
    assert len(list((lake / layout.QUARANTINE).iterdir())) == 1
    grow(lake, choices[100:150])


def test_what_a_step_makes_does_not_grow(lake: Path, choices: pl.DataFrame) -> None:
    put(lake)
    with pytest.raises(UsageError, match="made by a step"):
        appending.append(lake, Output("choices", "tiny"), choices.with_columns(agent=pl.lit("tiny")), others())


def test_a_checkout_takes_a_grown_output_back_and_forth(lake: Path, choices: pl.DataFrame) -> None:
    put(lake)
    repository.publish(lake)
    states = {"v1": state(lake)}
    for n, rows in enumerate((choices[:100], choices[100:]), 2):
        grow(lake, rows)
        repository.publish(lake)
        states[f"v{n}"] = state(lake)
    for name in ("v2", "v1", "v3", "v2", "v3"):
        checkout(lake, resolve(lake, name))
        assert state(lake) == states[name]
        assert all(path.stat().st_nlink == 1 for path in (lake / layout.TABLES).rglob("*.parquet"))
    assert "up to date" in dvc(lake, "status")


def state(lake: Path) -> dict[str, bytes]:
    files = [*(lake / layout.TABLES).rglob("*.parquet"), *(lake / layout.COLLECTED).rglob("*.dvc"), lake / "dvc.lock"]
    return {str(path.relative_to(lake)): path.read_bytes() for path in files}


def test_a_change_that_keeps_size_and_time_is_found_and_moved_aside(published: Path) -> None:
    path = published / "storage/tables/stimuli/part-00000.parquet"
    whole, before = path.read_bytes(), path.stat()
    refuse_edited(published)
    path.chmod(0o644)
    with path.open("r+b") as handle:
        handle.seek(20)
        handle.write(bytes([whole[20] ^ 1]))
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    edited = path.read_bytes()
    for refused in (refuse_edited, lambda lake: checkout(lake, resolve(lake, "v2"))):
        with pytest.raises(LakeError, match="changed by hand"):
            refused(published)
    assert path.read_bytes() == edited
    done = restore(published, lambda _line: None)
    assert path.read_bytes() == whole
    assert done.aside is not None
    assert (published / done.aside / path.relative_to(published)).read_bytes() == edited
    refuse_edited(published)


def test_an_append_cut_off_before_its_parts_are_placed_is_finished(
    lake: Path, choices: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake)
    grow(lake, choices[:50])
    with monkeypatch.context() as patch:
        patch.setattr(appending, "_place", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            grow(lake, choices[50:100])
    with pytest.raises(LakeError, match="interrupted"):
        refuse_cut_off(lake)
    appending.place_appended(lake)
    refuse_edited(lake)
    refuse_cut_off(lake)
    parts = sorted((lake / OUTPUT.folder).iterdir())
    assert pl.read_parquet(parts).height == 100


def test_a_damaged_listing_is_refused(lake: Path, choices: pl.DataFrame) -> None:
    grow(lake, choices[:50])
    listing = cached_object(lake, Manifest(lake, "").digests[OUTPUT])
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes().replace(b"part", b"pert"))
    with pytest.raises(LakeError, match=r"the listing \w+.dir is damaged"):
        grow(lake, choices[50:])


def test_grown_outputs_are_verified_and_kept(lake: Path, choices: pl.DataFrame) -> None:
    put(lake)
    grow(lake, choices)
    version = repository.publish(lake)
    assert version is not None
    assert check(lake, version, repair=False) == []
    assert not [one for one in unreferred(lake, now_s=4e9) if "part" in one.path.name]
    Manifest(lake, version.commit).files(OUTPUT)[0].cached.unlink()
    (finding,) = check(lake, version, repair=False)
    assert finding.path == f"storage/tables/{OUTPUT}/part-00000.parquet"
