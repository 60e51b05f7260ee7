"""A collector as a process of its own, to be killed: asks, writes parts, forgets what they hold, until all is done.

    python tests/support/collecting_process.py FOLDER URL N_QUESTIONS [N_A_ROUND]

A part that has its name stands for a version that exists.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from affectlake.errors import LeaseError
from affectlake.judge.requests.collector import collect
from affectlake.judge.requests.journal import Journal, Shard
from affectlake.judge.requests.request_limits import Limits, Target
from affectlake.process.lease import hold
from tests.support.questions import make_questions

CONCURRENCY = 16
LIMITS = Limits(concurrency=CONCURRENCY, read_ahead=64, backoff_s=0.01, longest_backoff_s=0.1)
PER_ROUND = 150


def published(folder: Path) -> dict[str, list[str]]:
    """Return the texts of every published row by key, as often as it is there."""
    found: dict[str, list[str]] = {}
    for part in sorted(folder.glob("part-*.json")):
        for key, text in json.loads(part.read_text()):
            found.setdefault(key, []).append(text)
    return found


def publish(journal: Journal, shard: Shard, folder: Path) -> None:
    """Write a part unless it is there, and only then forget its rows."""
    part = folder / f"part-{shard.number:05d}.json"
    if not part.exists():
        rows = [(row.key.hex(), row.text) for batch in journal.read(shard, batch=50) for row in batch]
        draft = part.with_suffix(".draft")
        draft.write_text(json.dumps(rows))
        draft.rename(part)
    journal.forget(shard)


def main() -> int:
    folder, url, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    per_round = int(sys.argv[4]) if len(sys.argv) > 4 else PER_ROUND
    try:
        with hold(folder / "leases.sqlite", "tiny"), Journal(folder / "answers.sqlite") as journal:
            print("collecting", os.getpid(), flush=True)
            while True:
                for shard in journal.sealed():
                    publish(journal, shard, folder)
                have = published(folder)
                left = (q for q in make_questions(n) if q.key.hex() not in have)
                account = collect(left, journal, Target((url,), "tiny"), LIMITS, most=per_round)
                while journal.seal(100):
                    pass
                if account.ending == "stopped":
                    return 0
                if account.ending == "complete" and not journal.sealed():
                    print("complete", flush=True)
                    return 0
    except LeaseError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
