"""Brain patterns as mapped arrays: the table's own numbers, made once, shared, never stale, removed by gc."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from affectlake.brain.encoding.crossvalidation import encode
from affectlake.brain.encoding.folds import nested_folds
from affectlake.brain.encoding.reliability import leave_one_out
from affectlake.brain.recordings.subjects import Aligned, ZScored, z_scored
from affectlake.errors import ContractError
from affectlake.lake import garbage, repository
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.store import known_hashes
from affectlake.lake.tables import memmaps, parts
from affectlake.lake.tables.contracts import contract
from affectlake.lake.tables.memmaps import map_lists
from affectlake.lake.tables.parts import write_parts
from affectlake.pipelines.params import templates
from affectlake.pipelines.steps.brain_arrays import beta_rows
from affectlake.rsm import correlation_rsm

Array = np.ndarray


@pytest.fixture
def patterns() -> dict[str, Array]:
    """Three subjects of different size; one voxel is constant and one value is NaN."""
    rng = np.random.default_rng(0)
    found = {name: rng.normal(size=(7, v)).astype(np.float32) for name, v in (("S1", 5), ("S10", 9), ("S2", 4))}
    found["S1"][:, 3] = 2.0
    found["S2"][4, 1] = np.nan
    return found


def betas(patterns: dict[str, Array], spill: Path) -> pl.DataFrame:
    frames = []
    for name, values in patterns.items():
        n = len(values)
        runs = np.full(n, -1) if name == "S2" else np.arange(n) // 3
        shown = np.arange(0, 2 * n, 2, dtype=np.int32)
        once, unknown = np.ones(n, np.int32), np.full(values.shape[1], np.nan)
        aligned = Aligned(shown, values, runs.astype(np.int64), once, np.full(n, np.nan), unknown, (), (), 0)
        frames.append(beta_rows(name, aligned, spill / f"{name}.arrow"))
    return pl.concat(frames)


@pytest.fixture
def lake(tmp_path: Path, patterns: dict[str, Array], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the table `betas` in parts of five or fewer rows and groups of two."""
    monkeypatch.setattr(parts, "VALUES_PER_PART", 5 * 9)
    monkeypatch.setattr(parts, "VALUES_PER_GROUP", 2 * 9)
    write_parts(betas(patterns, tmp_path), contract("betas"), tmp_path / Output("betas").folder)
    return tmp_path


def files(lake: Path) -> list[Path]:
    return parts.part_files(lake / Output("betas").folder)


def test_spilled_rows_are_the_contract_s(tmp_path: Path, patterns: dict[str, Array]) -> None:
    frame = betas(patterns, tmp_path)
    assert frame["run"].to_list()[:7] == [0, 0, 0, 1, 1, 1, 2]
    assert frame.filter(pl.col("subject") == "S2")["run"].null_count() == 7
    written = parts.as_arrow(frame, contract("betas"))
    np.testing.assert_array_equal(written["pattern"][2].as_py(), patterns["S1"][2])


def test_parts_are_bounded_by_the_values_of_their_lists(lake: Path) -> None:
    assert [pq.read_metadata(path).num_rows for path in files(lake)] == [5, 5, 5, 5, 1]
    assert pq.read_metadata(files(lake)[0]).num_row_groups == 3


def test_maps_hold_the_table_s_numbers(lake: Path, patterns: dict[str, Array]) -> None:
    for name, wanted in patterns.items():
        found = map_lists(lake, files(lake), "pattern", "subject", name)
        np.testing.assert_array_equal(found, wanted)
        assert isinstance(found, np.memmap) and found.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 1.0


def test_a_map_is_made_once_and_is_never_stale(
    lake: Path, patterns: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = map_lists(lake, files(lake), "pattern", "subject", "S1")
    hashed: list[Path] = []
    monkeypatch.setattr(known_hashes, "_SETTLED_NS", 0)
    known_hashes.known_md5s(lake, [*files(lake), Path(first.filename)])
    real = known_hashes._hash
    monkeypatch.setattr(known_hashes, "_hash", lambda path: hashed.append(path) or real(path))
    monkeypatch.setattr(memmaps, "_make", lambda *_: pytest.fail("it was made twice"))
    again = map_lists(lake, files(lake), "pattern", "subject", "S1")
    assert Path(again.filename) == Path(first.filename) and not hashed
    monkeypatch.undo()
    folder = lake / Output("betas").folder
    folder.rename(lake / "old")
    write_parts(betas(patterns | {"S1": patterns["S1"] + 1}, lake), contract("betas"), folder)
    np.testing.assert_array_equal(
        map_lists(lake, files(lake), "pattern", "subject", "S1"), patterns["S1"] + np.float32(1)
    )
    np.testing.assert_array_equal(first, patterns["S1"])  # who has the old one keeps it


def test_a_half_made_map_is_never_seen(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memmaps, "_fill", broken)
    with pytest.raises(OSError, match="No space"):
        map_lists(lake, files(lake), "pattern", "subject", "S1")
    assert [path for _, path in memmaps.mapped_files(lake)] == []


def test_a_map_that_was_cut_short_is_made_again(lake: Path, patterns: dict[str, Array]) -> None:
    path = Path(map_lists(lake, files(lake), "pattern", "subject", "S1").filename)
    whole = path.read_bytes()
    known = lake / layout.KNOWN_HASHES
    for cut in (0, 40, len(whole) - 4):
        path.chmod(0o644)
        path.write_bytes(whole[:cut])
        known.write_text("{")
        np.testing.assert_array_equal(map_lists(lake, files(lake), "pattern", "subject", "S1"), patterns["S1"])
        assert path.read_bytes() == whole


def test_what_cannot_be_mapped_is_refused(lake: Path, patterns: dict[str, Array]) -> None:
    with pytest.raises(ContractError, match="no row in which subject is 'S3'"):
        map_lists(lake, files(lake), "pattern", "subject", "S3")
    frame = betas(patterns, lake)
    rows = pl.int_range(pl.len())
    ragged = frame.with_columns(pattern=pl.when(rows == 2).then(pl.col("pattern").list.head(2)).otherwise("pattern"))
    write_parts(ragged, contract("betas"), lake / "ragged")
    with pytest.raises(ContractError, match="differ in length"):
        map_lists(lake, parts.part_files(lake / "ragged"), "pattern", "subject", "S1")


def test_gc_removes_maps_of_no_version_and_the_object_of_a_lake_reads_one(
    tmp_path: Path, patterns: dict[str, Array]
) -> None:
    root = tmp_path / "lake"
    repository.init(root, templates.starting_params("demo"))
    folder = root / Output("betas").folder
    write_parts(betas(patterns, tmp_path), contract("betas"), folder)
    found = map_lists(root, files(root), "pattern", "subject", "S1")
    assert garbage.unreferred(root) == [], "it is young"
    old = garbage.unreferred(root, now_s=4e9)
    assert Path(found.filename) in [one.path for one in old]
    garbage.remove(old)
    assert not Path(found.filename).exists()
    np.testing.assert_array_equal(found, patterns["S1"])


def test_standardising_by_blocks_is_standardising(patterns: dict[str, Array]) -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(3.0, 2.0, size=(60, 2500)).astype(np.float32)
    y[:, 7], y[3, 9] = 1.0, np.nan
    mean, spread = y.mean(axis=0, dtype=np.float64), y.std(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = ((y - mean) / spread).astype(np.float32)
    z = z_scored(y)
    good = np.setdiff1d(np.arange(2500), [7, 9])
    np.testing.assert_array_equal(z[:, good], whole[:, good])
    assert np.isnan(z[:, [7, 9]]).all()
    rows = rng.random(60) < 0.4
    found = ZScored(y).of_stimuli(rows)
    np.testing.assert_array_equal(found, z[rows])
    assert found.T.flags.c_contiguous and found.dtype == np.float32
    x = rng.normal(size=(60, 4))
    folds = nested_folds(60, 3, 2, rng)
    for one, other in zip(encode(x, ZScored(y), folds), encode(x, z, folds), strict=True):
        np.testing.assert_array_equal(one, other)
    penalties = np.full(2500, 2.0)
    np.testing.assert_array_equal(leave_one_out(x, ZScored(y), penalties).r, leave_one_out(x, z, penalties).r)


def test_a_wide_correlation_matrix_is_summed_in_blocks() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 40_000)).astype(np.float32)
    np.testing.assert_allclose(correlation_rsm(rows), np.corrcoef(rows.astype(np.float64)), atol=1e-12)
