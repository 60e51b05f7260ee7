"""A disk that fills up in the middle of a write: one message, the old version, and all is well once there is room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectlake.cli.main import main
from affectlake.lake import repository
from affectlake.lake.fsck import check
from affectlake.lake.query import query
from affectlake.lake.recovery import recover
from affectlake.lake.store.versions import list_versions
from tests.support.lakes import put


@pytest.fixture
def disk(tmp_path: Path, lakes: dict[str, Path]) -> Iterator[Path]:
    """A small file system of its own; mounting one takes privileges, so elsewhere the tests are skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(lakes["published"], place / "lake", symlinks=True)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill the disk but for some bytes, and return the file that does."""
    filler = disk / "filler"
    filler.write_bytes(bytes(max(shutil.disk_usage(disk).free - leave, 0)))
    return filler


@pytest.mark.parametrize("leave", [0, 8_192, 32_768, 65_536])
def test_a_disk_that_fills_up_while_publishing_leaves_the_old_version(disk: Path, leave: int) -> None:
    lake = disk / "lake"
    filler = fill(disk, leave)
    with pytest.raises(Exception, match=r"(?i)no space left|disk is full"):
        for n_stimuli in range(14, 40):
            put(lake, n_stimuli)
            repository.publish(lake)
    known = list_versions(lake)
    assert [finding for version in known for finding in check(lake, version, repair=False)] == []
    filler.unlink()
    recover(lake, lambda _line: None)
    put(lake, 15)
    assert repository.publish(lake) is not None
    assert len(list_versions(lake)) == len(known) + 1
    assert query(lake, "SELECT count(*) FROM stimuli").fetchall() == [(15,)]


def test_a_full_disk_is_one_message(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = disk / "lake"
    filler = fill(disk, 0)
    with pytest.raises(SystemExit) as caught:
        main(["checkout", "v1", "--lake", str(lake)])
    said = capsys.readouterr().err
    assert caught.value.code == 1
    assert said.startswith("affectlake: the disk is full")
    assert said.count("\n") == 2
    filler.unlink()
    main(["checkout", "v1", "--lake", str(lake)])
    assert query(lake, "SELECT count(*) FROM stimuli", "v1").fetchall() == [(12,)]
