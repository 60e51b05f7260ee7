"""Tables in the folder that are not as recorded: found by their bytes, told apart, and put back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from affectlake.cli.main import cli
from affectlake.errors import LakeError
from affectlake.lake.files.outputs import Output
from affectlake.lake.restore import restore
from affectlake.lake.store.unrecorded import mark_unrecorded
from affectlake.lake.store.working_tables import FolderFault, folder_faults

STIMULI = Path("storage/tables/stimuli")


def part(lake: Path) -> Path:
    return next((lake / STIMULI).glob("*.parquet"))


def flip(path: Path) -> None:
    """Change one byte of a file, and leave its size and times as they were."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def fsck(lake: Path, *arguments: str) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(cli, ["fsck", "--lake", str(lake), "--local", *arguments])
    return done.exit_code, done.stdout, done.exception


def test_each_kind_of_fault_is_told(published: Path) -> None:
    assert folder_faults(published) == [] and fsck(published)[0] == 0
    file = part(published)
    flip(file)
    (file.parent / "notes.txt").write_text("mine")
    name = str(file.relative_to(published))
    assert folder_faults(published) == [
        FolderFault(str(STIMULI / "notes.txt"), "unknown"),
        FolderFault(name, "changed"),
    ]
    code, said, error = fsck(published)
    assert code == 1 and f"{name}: changed since it was recorded" in said
    assert isinstance(error, LakeError) and "affectlake restore" in error.todo
    found = json.loads(fsck(published, "--json")[1])
    assert [one["state"] for one in found["folder"]] == ["unknown", "changed"] and found["versions"] == []
    assert fsck(published, "v2")[0] == 0, "the versions are intact"
    restore(published, lambda _line: None)
    assert folder_faults(published) == [] and fsck(published)[0] == 0


def test_a_missing_file_is_a_fault_and_a_missing_table_is_not(published: Path) -> None:
    part(published).unlink()
    assert [one.state for one in folder_faults(published)] == ["missing"]
    (published / STIMULI).rmdir()
    assert folder_faults(published) == []


def test_an_interrupted_run_is_not_an_edit(published: Path) -> None:
    mark_unrecorded(published, Output("stimuli"))
    flip(part(published))
    assert [one.state for one in folder_faults(published)] == ["not recorded"]
    _, said, error = fsck(published)
    assert "interrupted" in said
    assert isinstance(error, LakeError) and error.todo == "finish the run with `affectlake run`"


@pytest.mark.parametrize("how", ["retired", "relinked"])
def test_a_link_in_place_of_a_table_is_followed_or_named(published: Path, tmp_path: Path, how: str) -> None:
    file = part(published)
    (tmp_path / "copy.parquet").write_bytes(file.read_bytes() if how == "relinked" else b"other")
    file.unlink()
    file.symlink_to(tmp_path / "copy.parquet")
    assert [one.state for one in folder_faults(published)] == ([] if how == "relinked" else ["changed"])
