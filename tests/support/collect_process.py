"""A collection into a lake as a process of its own, to be killed; a version every 40 answers.

python tests/support/collect_process.py LAKE
"""

from __future__ import annotations

import sys
from pathlib import Path

from affectlake.flows import collect

if __name__ == "__main__":
    collect.PER_VERSION = 40
    print("collecting", flush=True)
    collect.collect_answers(Path(sys.argv[1]), collect.Wanted("tiny"), lambda _line: None)
