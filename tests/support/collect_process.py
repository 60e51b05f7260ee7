"""A collection into a lake as a process of its own, which prints its number to be killed; a version every 40 answers.

python tests/support/collect_process.py LAKE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from affectlake.pipelines.collection import run
from affectlake.pipelines.collection.request import CollectionRequest

if __name__ == "__main__":
    run.PER_VERSION = 40
    print(os.getpid(), flush=True)
    run.collect_answers(Path(sys.argv[1]), CollectionRequest("tiny"), lambda _line: None)
