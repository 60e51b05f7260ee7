"""A kill or a power failure at any change that a writer makes leaves the old version or the new one.

Each operation is run once to list its changes to the lake, and then once for each of them, cut off there: for those
that last, and in `make test-soak` for every single one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import is_current, record_done
from affectlake.lake.store.versions import Manifest, list_versions, resolve
from affectlake.lake.tables import appending, factory, writing
from tests.support.power import Switch, points, power

COLLECTED = Output("captions", "model")


def stimuli(n: int) -> pl.DataFrame:
    return factory.tiny_lake(n)["stimuli"]


def build(lake: Path, n_stimuli: int) -> None:
    """Make the one table of a small study, as the runner does, unless it is there already."""
    recover(lake, lambda _line: None)
    made = lake / Output("stimuli").folder / "part-00000.parquet"
    if not (made.exists() and is_current(lake, "made") and pl.read_parquet(made).height == n_stimuli):
        writing.write_outputs(lake, "made", {Output("stimuli"): stimuli(n_stimuli)}, {})
        record_done(lake, "made")


def collect(lake: Path, rows: pl.DataFrame) -> None:
    """Add those rows that the lake does not have, as a collector does."""
    recover(lake, lambda _line: None)
    parts = sorted((lake / COLLECTED.folder).glob("*.parquet"))
    new = rows.join(pl.read_parquet(parts), on=["stimulus_index", "caption_index"], how="anti") if parts else rows
    appending.append(lake, COLLECTED, new, {"stimuli": stimuli(12).lazy()})


def captions(first: int, last: int) -> pl.DataFrame:
    return factory.tiny_lake(12)["captions"].filter(pl.col("stimulus_index").is_between(first, last))


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("crashes") / "lake"
    repository.init(lake, "study: tiny\n")
    outs = [{f"{layout.TABLES}/stimuli": {"persist": True}}]
    (lake / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"made": {"cmd": "affectlake step made --step-version 1", "outs": outs}}})
    )
    build(lake, 12)
    repository.publish(lake)
    collect(lake, captions(0, 5))
    repository.publish(lake)
    return lake


def build_and_publish(lake: Path) -> None:
    build(lake, 13)
    repository.publish(lake)


def collect_and_publish(lake: Path) -> None:
    collect(lake, captions(6, 11))
    repository.publish(lake)


def check_out(lake: Path) -> None:
    recover(lake, lambda _line: None)
    checkout(lake, resolve(lake, "v1"))


# each operation, and how many versions the lake has after it
OPERATIONS: dict[str, tuple[Callable[[Path], None], int]] = {
    "build": (build_and_publish, 3),
    "collect": (collect_and_publish, 3),
    "checkout": (check_out, 2),
}


def tables(lake: Path) -> dict[str, bytes]:
    files = [*(lake / layout.TABLES).rglob("*.parquet"), *(lake / layout.COLLECTED).rglob("*.dvc")]
    return {str(path.relative_to(lake)): path.read_bytes() for path in files}


def contents(lake: Path) -> dict[str, dict[str, bytes]]:
    """Return the hashes of every version's files."""
    found = {}
    for version in list_versions(lake):
        manifest = Manifest(lake, version.commit)
        files = [file for output in manifest.digests for file in manifest.files(output)]
        found[version.name] = {str(file.path): hashlib.sha256(file.cached.read_bytes()).digest() for file in files}
    return found


def copied(origin: Path, lake: Path) -> Path:
    """Replace `lake` by a copy of `origin`."""
    shutil.rmtree(lake, ignore_errors=True)
    return shutil.copytree(origin, lake, symlinks=True)


@pytest.mark.slow
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["lasting", "every"])
@pytest.mark.parametrize("torn", [False, True], ids=["killed", "power"])
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_a_crash_at_any_change_leaves_one_version_or_the_other(
    two_versions: Path, tmp_path: Path, name: str, torn: bool, every: bool
) -> None:
    operation, n_after = OPERATIONS[name]
    lake = copied(two_versions, tmp_path / "lake")
    with power(Switch(lake, 0)) as switch:
        operation(lake)
    before, wanted, whole = contents(two_versions), contents(lake), tables(lake)
    assert len(wanted) == n_after
    cuts = points(switch.events, every)
    for at in cuts:
        copied(two_versions, lake)
        with power(Switch(lake, at, torn=torn)) as switch:
            operation(lake)
        where = switch.events[-1]
        assert switch.off, where
        found = contents(lake)
        assert found in (before, wanted), where
        assert [finding for version in list_versions(lake) for finding in check(lake, version, repair=False)] == []
        operation(lake)
        assert contents(lake) == wanted, where
        assert tables(lake) == whole, where
    print(f"{name}: {len(cuts)} points")
    assert len(cuts) > (10 if every else 5)
