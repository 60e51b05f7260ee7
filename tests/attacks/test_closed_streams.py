"""Standard streams that are closed or full: the work is done, files are whole, and nothing raw is printed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import polars as pl
import pytest

from affectlake.lake import repository
from tests.support.lakes import put

SQL = "SELECT stimulus_index FROM stimuli ORDER BY 1"


def shell(lake: Path, command: str, closing: str) -> subprocess.CompletedProcess[str]:
    """Run a command with streams that its shell closes; what is left open is caught."""
    env = os.environ | {"LAKE": str(lake)}
    done = subprocess.run(["sh", "-c", f"{command} {closing}"], env=env, capture_output=True, text=True, check=False)
    for raw in ("Traceback", "Exception ignored", "Bad file descriptor", "lost sys.stderr"):
        assert raw not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("closing", (">&-", "2>&-", "<&-", "<&- >&- 2>&-"))
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_in_a_file_are_whole(closing: str, form: str, published: Path, tmp_path: Path) -> None:
    out = tmp_path / f"rows.{form}"
    done = shell(published, f"affectlake query '{SQL}' --lake \"$LAKE\" --out {out}", closing)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    read = pl.read_csv if form == "csv" else pl.read_parquet
    assert read(out)["stimulus_index"].to_list() == list(range(13))


@pytest.mark.parametrize("closing", (">&-", "2>&-", "<&- >&- 2>&-"))
@pytest.mark.parametrize(
    ("command", "status"),
    [
        (f"query '{SQL}'", 0),
        ("versions", 0),
        ("collect nobody", 2),  # the lake's params.yaml is no study's
        ("run", 2),
        ("frobnicate", 2),
        ("query 'SELECT nothing'", 1),
    ],
)
def test_a_command_ends_as_with_open_streams(command: str, status: int, closing: str, published: Path) -> None:
    done = shell(published, f'affectlake {command} --lake "$LAKE"', closing)
    assert done.returncode == status
    if "2>" not in closing and status:
        assert done.stderr.startswith(("affectlake: ", "Usage: "))
    if closing == "2>&-" and not status:
        assert done.stdout


def test_a_version_is_made_without_streams(lake: Path) -> None:
    put(lake)
    before = {path: path.read_bytes() for path in lake.glob("storage/tables/*/*.parquet")}
    program = "import sys; from pathlib import Path; from affectlake.lake import repository as r; "
    program += (
        "from affectlake.process.streams import open_closed_streams as o; o(); print('printed', file=sys.stdout); "
    )
    program += "print('said', file=sys.stderr); assert r.publish(Path(sys.argv[1])) is not None"
    done = subprocess.run(["sh", "-c", f'python -c "{program}" {lake} >&- 2>&- <&-'], check=False)
    assert done.returncode == 0
    assert {path: path.read_bytes() for path in before} == before
    assert repository.publish(lake) is None  # nothing is left to publish


def test_full_and_broken_streams_are_one_message(published: Path) -> None:
    full = shell(published, 'affectlake versions --lake "$LAKE"', ">/dev/full")
    assert full.returncode == 1
    assert "the disk is full" in full.stderr
    assert shell(published, 'affectlake versions --lake "$LAKE"', "2>/dev/full").returncode == 0
    assert shell(published, 'affectlake frobnicate --lake "$LAKE"', "2>/dev/full").returncode == 2
    assert shell(published, 'affectlake versions --lake "$LAKE"', "| true").stderr == ""
