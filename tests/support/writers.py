"""One process of several at work on one lake, as test_concurrency starts them: ``python writers.py ROLE LAKE NAME``."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from affectlake.lake import repository
from affectlake.lake.checkout import checkout
from affectlake.lake.files.outputs import Output
from affectlake.lake.query import query
from affectlake.lake.recovery import recover
from affectlake.lake.store.dvc_stages import record_done
from affectlake.lake.store.versions import Manifest, list_versions, resolve
from affectlake.lake.tables import appending, factory, writing

ROUNDS = 4
TINY = factory.tiny_lake(12)


def collect(lake: Path, name: str, n: int) -> None:
    """Add three captions to an output of one's own, and publish them."""
    with repository.writing(lake, f"collect {name}", wait_s=math.inf):
        checkout(lake, resolve(lake))
        rows = TINY["captions"][3 * n : 3 * n + 3]
        appending.append(lake, Output("captions", name), rows, {"stimuli": TINY["stimuli"].lazy()})
        assert repository.publish(lake) is not None


def build(lake: Path, name: str, n: int) -> None:
    """Make the table that a step makes, and publish it."""
    with repository.writing(lake, f"build {name}", wait_s=math.inf):
        checkout(lake, resolve(lake))
        recover(lake, lambda _line: None)
        writing.write_outputs(lake, "made", {Output("stimuli"): factory.tiny_lake(4 + n)["stimuli"]}, {})
        record_done(lake, "made")
        repository.publish(lake)


def look(lake: Path, _name: str, n: int) -> None:
    """Check out an old version, and look at what it must hold."""
    with repository.writing(lake, "look", wait_s=math.inf):
        known = list_versions(lake)
        version = known[n % len(known)]
        checkout(lake, version)
        manifest = Manifest(lake, version.commit)
        wanted = [file for output in manifest.digests for file in manifest.files(output)]
        assert all((lake / file.path).read_bytes() == file.cached.read_bytes() for file in wanted)


def ask(lake: Path, _name: str, n: int) -> None:
    """Query the latest version and an old one again and again: no answer of a version ever changes."""
    seen: dict[str, int] = {}
    for _ in range(10):
        for version in (v for v in list_versions(lake) if "captions" in v.changes):
            sql = f"SELECT count(*) FROM captions@{version.name}"
            found = query(lake, sql).fetchall()[0][0]
            assert seen.setdefault(version.name, found) == found


ROLES = {"collect": collect, "build": build, "look": look, "ask": ask}

if __name__ == "__main__":
    role, folder, who = sys.argv[1:]
    for number in range(ROUNDS):
        ROLES[role](Path(folder), who, number)
