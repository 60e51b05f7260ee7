"""Lakes whose schedule ``nightly`` asks the agent ``tiny``, and the command that runs past slots of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.chat import ENTRY
from tests.support.chat_lakes import make_lake

NIGHTLY = {"agent": "tiny", "cron": "0 2 * * *", "limit": 60}


def nightly_lake(lake: Path, url: str, notify: dict[str, Any] | None = None, **entry: object) -> Path:
    """Make a built lake of 30 stimuli whose schedule has the keys of `entry`."""
    make_lake(lake, ENTRY)
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["agents"]["tiny"]["servers"] = [url]
    raw["schedules"] = {"nightly": NIGHTLY | entry}
    raw |= {"notify": notify} if notify else {}
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return lake


def change(lake: Path, **entry: object) -> None:
    """Change keys of the schedule."""
    raw = yaml.safe_load((lake / "params.yaml").read_text())
    raw["schedules"]["nightly"] |= entry
    (lake / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def affectlake(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(["affectlake", *map(str, words)], capture_output=True, text=True, check=False, timeout=600)


def backfill(lake: Path, first: str, last: str = "", *more: str) -> subprocess.CompletedProcess[str]:
    """Run the slots of some days, ``01`` to ``31`` of March 2026."""
    days = ("--from", f"2026-03-{first}", "--to", f"2026-03-{last or first}")
    return affectlake("schedule", "backfill", "nightly", *days, *more, "--lake", lake)
