"""Orders that are kept in the lake: the same as those that are drawn, also after damage to the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affectlake.judge.trials.orders import balanced_orders
from affectlake.pipelines.collection import stored_orders as module
from affectlake.pipelines.collection.stored_orders import MOST_FILES, stored_orders
from affectlake.triplet_sampling import sample_dyads

N = 40


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FROM", 100)


@pytest.fixture
def triplets() -> np.ndarray:
    return sample_dyads(N, np.random.default_rng(3), 2)


def drawn(triplets: np.ndarray, seed: int = 5) -> np.ndarray:
    return balanced_orders(triplets, N, np.random.default_rng(seed))


def kept(lake: Path, triplets: np.ndarray, seed: int = 5) -> np.ndarray:
    return stored_orders(lake, triplets, N, np.random.default_rng(seed))


def test_orders_are_drawn_once(tmp_path: Path, triplets: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (kept(tmp_path, triplets) == drawn(triplets)).all()
    other = drawn(triplets[:-1])
    monkeypatch.setattr(module, "balanced_orders", lambda *_: pytest.fail("drawn again"))
    assert (kept(tmp_path, triplets) == drawn(triplets)).all()
    for changed, seed in ((triplets[:-1], 5), (triplets, 6)):
        with pytest.raises(pytest.fail.Exception, match="drawn again"):
            kept(tmp_path, changed, seed)
    assert len(other) == len(triplets) - 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "longer", "folder"])
def test_a_damaged_file_is_drawn_again(tmp_path: Path, triplets: np.ndarray, damage: str) -> None:
    kept(tmp_path, triplets)
    (path,) = (tmp_path / module._FOLDER).iterdir()
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.unlink()
    if damage == "folder":
        path.with_name("aside").mkdir()
    else:
        whole = bytes(content)
        path.write_bytes({"cut": whole[:-1], "flip": whole, "empty": b"", "longer": whole + b"\0"}[damage])
    assert (kept(tmp_path, triplets) == drawn(triplets)).all()
    assert (kept(tmp_path, triplets) == drawn(triplets)).all()


def test_only_the_latest_files_are_kept(tmp_path: Path, triplets: np.ndarray) -> None:
    for seed in range(MOST_FILES + 3):
        kept(tmp_path, triplets, seed)
    assert len(list((tmp_path / module._FOLDER).iterdir())) == MOST_FILES


def test_small_sets_are_not_kept(tmp_path: Path, triplets: np.ndarray) -> None:
    assert (kept(tmp_path, triplets[:50]) == drawn(triplets[:50])).all()
    assert not (tmp_path / module._FOLDER).exists()
