"""Real processes that collect, build, check out and query one lake at once: nothing is lost, nobody fails."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from affectlake.errors import LakeError
from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files import layout
from affectlake.lake.files.outputs import Output
from affectlake.lake.fsck import check
from affectlake.lake.query import query
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import list_versions, resolve
from affectlake.lake.tables import appending, writing
from tests.support import writers
from tests.support.preloaded import script


@pytest.fixture
def small(lake: Path) -> Path:
    outs = [{f"{layout.TABLES}/stimuli": {"persist": True}}]
    (lake / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"made": {"cmd": "affectlake step made --step-version 1", "outs": outs}}})
    )
    writing.write_outputs(lake, "made", {Output("stimuli"): writers.TINY["stimuli"]}, {})
    record_done(lake, "made")
    repository.publish(lake)
    return lake


@pytest.mark.slow
def test_processes_at_once_lose_nothing(small: Path) -> None:
    crew = [("collect", "a"), ("collect", "b"), ("build", "c"), ("look", "d"), ("ask", "e"), ("ask", "f")]
    running = [
        subprocess.Popen(script(writers.__file__, role, small, name), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        for role, name in crew
    ]
    for (role, _), process in zip(crew, running, strict=True):
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, f"{role}: {said.decode()}"
    found = list_versions(small)
    assert [version.name for version in found] == [f"v{n}" for n in range(1, len(found) + 1)]
    counts = query(small, "SELECT count(*) FROM captions").fetchall()
    assert counts == [(2 * 3 * writers.ROUNDS,)]
    assert sum("captions" in version.changes for version in found) == 2 * writers.ROUNDS
    assert [finding for version in found for finding in check(small, version, repair=False)] == []


def test_rows_collected_since_are_never_dropped(small: Path) -> None:
    others = {"stimuli": writers.TINY["stimuli"].lazy()}
    appending.append(small, Output("captions", "a"), writers.TINY["captions"][:3], others)
    repository.publish(small)
    checkout(small, resolve(small, "v1"))
    with pytest.raises(LakeError, match="lacks rows of captions/a that v2 has"):
        appending.append(small, Output("captions", "b"), writers.TINY["captions"][:3], others)
    (small / "params.yaml").write_text("study: other\n")
    with pytest.raises(LakeError, match="affectlake restore"):
        repository.publish(small)
    assert len(list_versions(small)) == 2


def test_a_writer_waits_for_another_and_says_for_whom(small: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from affectlake.lake import repository\n"
        "with repository.writing(Path(sys.argv[1]), 'the first'):\n"
        "    print('in', flush=True); sys.stdin.readline()\n"
    )
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        first.kill()  # a holder that dies holds nothing

    words = [sys.executable, "-c", code, str(small)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with repository.writing(small, "the second", wait_s=60, say=hear):
            assert said == [f"waiting for the first, process {first.pid} on {socket.gethostname()}"]
